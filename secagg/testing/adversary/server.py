"""A server that follows the protocol except where it was told to lie, and that knows everything its colluders know.

It is a driver of its own over the messages, not the honest ``Server``: it keeps a separate view of the round for every
client, checks nothing that a client sends, and goes on however many clients refuse.  What it does in each phase can be
changed by lies (``secagg.testing.adversary.lies``), in the order in which they are given.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

from secagg.errors import PeerError, UsageError
from secagg.events import InputNeeded
from secagg.identity import Identity
from secagg.pairwise import messages, records
from secagg.pairwise.config import RoundConfig
from secagg.pairwise.messages import (
    EXCHANGES,
    Advertise,
    Confirm,
    Confirmations,
    Invitation,
    MaskedInput,
    Roster,
    Share,
    Shares,
    Survivors,
    Unmask,
)
from secagg.pairwise.phases import Phase, phases
from secagg.testing.adversary.client import ClientLie, MaliciousClient, Randomness
from secagg.testing.adversary.ledger import Ledger
from secagg.testing.adversary.lies.lie import Lie
from secagg.testing.adversary.world import Box, Host, Member, World


class MaliciousServer:
    """The server's side of one attack.

    Attributes:
        worlds: what it made of the advertisements; one unless it equivocates.
        refusals: (client, error) for everything that a client refused.
        crashes: (client, exception) for everything that came out of a client and is no PeerError.
    """

    def __init__(
        self,
        config: RoundConfig,
        hosts: Sequence[Host],
        colluders: Mapping[int, Identity | None],
        lies: Sequence[Lie],
        *,
        randomness: Randomness,
        client_lies: Sequence[ClientLie] = (),
    ) -> None:
        """``config`` is the one that it sends; ``colluders`` are those that work for it, with their identities."""
        self.config, self.lies, self.randomness = config, tuple(lies), randomness
        self.hosts, self.colluders, self.client_lies = tuple(hosts), dict(colluders), tuple(client_lies)
        self.nonce = randomness(messages.NONCE_BYTES)
        self.ledger = Ledger(config)
        self.members: list[Member] = []
        self.worlds: list[World] = []
        self.refusals: list[tuple[int, PeerError]] = []
        self.crashes: list[tuple[int, Exception]] = []
        self.confirmed: set[frozenset[int]] = set()
        """Survivor sets for which a client has seen enough confirmations to answer; with groups, those of its own."""

    def run(self) -> None:
        """The whole round."""
        self.begin()
        for phase in phases(self.config.threat_model):
            if EXCHANGES[phase].closing is not None:
                self._close(phase)
        for lie in self.lies:
            lie.after(self)

    # Before there is a roster.

    def begin(self) -> None:
        """Up to the rosters: what follows is decided by then, the graph included."""
        self._invite()
        self._make_worlds()

    def puppet(self, config: RoundConfig, nonce: bytes, index: int, identity: Identity | None) -> MaliciousClient:
        """A client in the adversary's hands; the ledger knows its keys."""
        made = MaliciousClient(
            config, nonce, index, randomness=self.randomness, identity=identity, lies=self.client_lies
        )
        self.ledger.learn(made.channel, made.masking)
        return made

    def _invite(self) -> None:
        for host in self.hosts:
            times = 1 + any(lie.invites_again(host.index) for lie in self.lies)
            for instance in range(times):
                config, nonce = self.config, self.nonce
                for lie in self.lies:
                    config, nonce = lie.invitation(self, host.index, config, nonce)
                self._join(host, config, nonce, instance)

    def _join(self, host: Host, config: RoundConfig, nonce: bytes, instance: int) -> None:
        round_id = config.labels.round_id(config.digest, nonce)
        invitation = messages.encode(Invitation(config.version, round_id, config.to_bytes(), nonce))
        for lie in self.lies:
            invitation = lie.wire_invitation(host.index, invitation)
        try:
            client = host.join(invitation)
            advert = client.start()
        except PeerError as refused:
            self.refusals.append((host.index, refused))
            return
        view = self.ledger.watch(host.index)
        view.sent(config, advert)
        message = messages.to_server.decode(advert, len(advert), config.version, config.suite.agreement)
        if isinstance(message, Advertise):
            self.members.append(Member(host, config, nonce, client, view, message, instance))

    def _make_worlds(self) -> None:
        groups: dict[tuple[bytes, object], list[Member]] = {}
        for member in self.members:
            group: object = member.instance
            for lie in self.lies:
                group = lie.group(member, group)
            groups.setdefault((member.round_id, group), []).append(member)
        for (round_id, _), members in groups.items():
            config, nonce = members[0].config, members[0].nonce
            puppets = {index: self.puppet(config, nonce, index, identity) for index, identity in self.colluders.items()}
            adverts = {member.index: member.advert for member in self.members if member.round_id == round_id}
            adverts.update((member.index, member.advert) for member in members)
            adverts.update((index, puppet.advertise()) for index, puppet in puppets.items())
            self._draw(World(config, nonce, members, adverts, puppets))

    def _draw(self, world: World) -> None:
        for lie in self.lies:
            lie.draft(self, world)
        world.draw()
        for lie in self.lies:
            lie.drawn(self, world)
        self.worlds.append(world)

    # The phases: each sends every client its message and takes what it answers.

    def _close(self, phase: Phase) -> None:
        makers: dict[type | None, Callable[[World, Member], bytes]] = {
            Roster: self._roster,
            Shares: self._shares,
            Survivors: self._survivors,
            Confirmations: self._confirmations,
        }
        make = makers[EXCHANGES[phase].closing]
        for world in self.worlds:
            if phase is Phase.SHARE:
                self._deal(world)
            for member in [member for member in world.members if not member.lost]:
                if not all(lie.reaches(phase, member.index) for lie in self.lies):
                    member.lost = True
                    continue
                data = make(world, member)
                for lie in self.lies:
                    data = lie.wire(world, member, phase, data)
                self.deliver(world, member, data)
                for lie in self.lies:
                    for further in lie.more(world, member, phase, data):
                        self.deliver(world, member, further)

    def _roster(self, world: World, member: Member) -> bytes:
        draft = world.roster_for(member)
        for lie in self.lies:
            lie.roster(self, world, member, draft)
        return messages.encode(
            messages.roster(
                world.config.suite,
                world.config.version,
                world.round_id,
                draft.digest,
                draft.own.to_bytes(),
                messages.encode_ids([index for index, _, _ in draft.present]),
                b"".join(keys.to_bytes() for _, keys, _ in draft.present),
                messages.encode_ids(draft.absent),
                b"".join(signature for _, _, signature in draft.present) if world.config.threat_model.signs else b"",
                draft.proof,
            )
        )

    def _deal(self, world: World) -> None:
        """What the puppets deal, once it is known who else stands in the roster."""
        for index, puppet in world.puppets.items():
            neighbours = [neighbour for neighbour in world.neighbours[index] if neighbour in world.adverts]
            holders = {neighbour: world.keys(neighbour) for neighbour in neighbours}
            dealing = puppet.deal(world.digest, holders)
            self.ledger.chosen.update(puppet.chosen)
            world.boxes[index] = {
                holder: Box(
                    dealing.sealed[holder],
                    dealing.commitments[holder].to_bytes(),
                    dealing.secrets[holder].to_bytes() if holder in dealing.secrets else b"",
                )
                for holder in holders
            }

    def _shares(self, world: World, member: Member) -> bytes:
        boxes = {
            dealer: world.boxes[dealer][member.index]
            for dealer in world.neighbours[member.index]
            if member.index in world.boxes.get(dealer, {})
        }
        dealt = list(boxes.items())
        for lie in self.lies:
            dealt = lie.shares(self, world, member, dealt)
        return messages.encode(
            messages.shares(
                world.config.suite,
                world.config.version,
                world.session,
                messages.encode_ids([dealer for dealer, _ in dealt]),
                b"".join(box.sealed for _, box in dealt),
                b"".join(box.committed for _, box in dealt),
                pair_secrets=b"".join(
                    box.secret or bytes(records.SEALED_SECRET_BYTES)
                    for dealer, box in dealt
                    if world.is_sealer(dealer, member.index)
                ),
            )
        )

    def survivors_of(self, world: World) -> frozenset[int]:
        """S as an honest server would have it."""
        return frozenset(world.masked | set(world.puppets))

    def _survivors(self, world: World, member: Member) -> bytes:
        survivors = self.survivors_of(world)
        for lie in self.lies:
            survivors = lie.survivors(self, world, member, survivors)
        return messages.encode(Survivors(world.config.version, world.session, world.bitmap(survivors)))

    def _confirmations(self, world: World, member: Member) -> bytes:
        survivors = member.survivors or world.bitmap(self.survivors_of(world))
        included = messages.decode_bitmap(survivors, world.config.clients)
        summed = world.in_one_sum(member.index)
        signatures = {
            signer: signature
            for signer, signature in world.signatures.get(survivors, {}).items()
            if signer in included and signer in summed
        }
        for index, puppet in world.puppets.items():
            if index in included and index in summed and puppet.identity is not None:
                signatures[index] = puppet.confirm(world.session, survivors)
        for lie in self.lies:
            signatures = lie.confirmations(self, world, member, signatures)
        ordered = sorted(signatures)
        return messages.encode(
            Confirmations(
                world.config.version,
                world.session,
                world.bitmap(ordered),
                b"".join(signatures[signer] for signer in ordered),
            )
        )

    # Talking to one client.

    def deliver(self, world: World, member: Member, data: bytes) -> None:
        """Hand a message to a client, let its host give an input when it is asked for one, and take what it says."""
        try:
            step = member.client.receive(data)
        except PeerError as refused:
            self.refusals.append((member.index, refused))
            return
        except Exception as crash:  # a bug in the client, or in a client with a check taken out: part of the outcome
            self.crashes.append((member.index, crash))
            return
        for answer in step.outgoing:
            self._take(world, member, data, answer)
        if isinstance(step.event, InputNeeded):
            for clone in self._clones(world, member):
                self._submit(world, clone, data)

    def _clones(self, world: World, member: Member) -> list[Member]:
        """The client, and a second one when its host is talked into resuming a suspended state twice."""
        if not any(lie.resumes_twice(member.index) for lie in self.lies):
            return [member]
        state = member.client.suspend()
        member.client = member.host.resume(state)
        try:
            second = member.host.resume(state)
        except PeerError as refused:
            self.refusals.append((member.index, refused))
            return [member]
        view = self.ledger.watch_clone(member.view)
        clone = Member(member.host, member.config, member.nonce, second, view, member.advert, vector=1)
        world.members.append(clone)
        return [member, clone]

    def _submit(self, world: World, member: Member, shown: bytes) -> None:
        times = 1 + any(lie.submits_again(member.index) for lie in self.lies)
        first = member.vector
        for number in range(first, first + times):
            try:
                step = member.client.submit(list(member.host.vectors[number]), member.host.attachment)
            except UsageError as crash:
                self.crashes.append((member.index, crash))
                return
            for answer in step.outgoing:
                self._take(world, member, shown, answer, number)

    def _take(self, world: World, member: Member, shown: bytes, answer: bytes, vector: int = 0) -> None:
        member.view.answered(world.config, world.nonce, shown, answer, vector)
        form = world.config.version, world.config.suite.agreement
        message = messages.to_server.decode(answer, len(answer), *form)
        match message:
            case Share():
                secrets = {holder: record.to_bytes() for holder, record in member.view.sealed_secrets.items()}
                world.boxes[member.index] = {
                    holder: Box(sealed, committed.to_bytes(), secrets.get(holder, b""))
                    for holder, sealed, committed in member.view.dealt
                }
            case MaskedInput():
                world.masked.add(member.index)
            case Confirm():
                seen = messages.to_client.decode(shown, len(shown), *form)
                if isinstance(seen, Survivors):
                    member.survivors = seen.survivors
                    world.signatures.setdefault(seen.survivors, {})[member.index] = message.signature
            case Unmask():
                seen = messages.to_client.decode(shown, len(shown), *form)
                survivors = seen.survivors if isinstance(seen, Survivors) else member.survivors
                answered_for = frozenset(messages.decode_bitmap(survivors, world.config.clients))
                self.confirmed.add(answered_for & world.in_one_sum(member.index))
            case _:
                pass
