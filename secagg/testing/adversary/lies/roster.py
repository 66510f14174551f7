"""Lies about the roster: who takes part, with which keys, and whose neighbours they are."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import msgspec

from secagg.pairwise.graph import NeighbourGraph
from secagg.pairwise.hybrid import KeyPair
from secagg.testing.adversary.lies.lie import Lie, meant, turned
from secagg.testing.adversary.world import Ids, LyingServer, Member, RosterDraft, World

LOW_ORDER_KEY: Final = bytes(32)


@dataclass(frozen=True, slots=True)
class Equivocate(Lie):
    """Groups of clients get different rosters: in each, the absent are those that the group is not to see."""

    groups: tuple[Ids, ...]
    hidden: tuple[Ids, ...]
    """By group: who is left out of its roster."""

    def group(self, member: Member, group: object) -> object:
        """A client gets the first group that names it, and everybody else the last, which names nobody."""
        for number, ids in enumerate(self.groups):
            if member.index in ids:
                return group, number
        return group

    def draft(self, server: LyingServer, world: World) -> None:
        """Leave out whom the group is not to see, except its own members."""
        own = {member.index for member in world.members}
        for ids, hidden in zip(self.groups, self.hidden, strict=True):
            if own & set(ids):
                for index in set(hidden) - own:
                    world.adverts.pop(index, None)


@dataclass(frozen=True, slots=True)
class LeaveOut(Lie):
    """Honest clients that advertised are marked absent, for everybody."""

    ids: Ids

    def draft(self, server: LyingServer, world: World) -> None:
        """Who is left out gets no roster either."""
        for index in self.ids:
            world.adverts.pop(index, None)
        world.members = [member for member in world.members if member.index not in self.ids]


@dataclass(frozen=True, slots=True)
class SwapKeys(Lie):
    """The server's own keys stand in the place of some clients, which it then speaks for."""

    ids: Ids

    def draft(self, server: LyingServer, world: World) -> None:
        """The new keys come with a signature that is none of theirs."""
        for index in self.ids:
            puppet = server.puppet(world.config, world.nonce, index, None)
            world.puppets[index], world.adverts[index] = puppet, puppet.advertise()
        world.members = [member for member in world.members if member.index not in self.ids]


@dataclass(frozen=True, slots=True)
class StaleKeys(Lie):
    """Keys stand in the roster that some clients do not have, as of a client that its host has started anew since."""

    ids: Ids

    def draft(self, server: LyingServer, world: World) -> None:
        """Nobody has the private halves of these keys, and the signature is not over them."""
        for index in set(self.ids) & set(world.adverts):
            drawn = server.randomness(32), server.randomness(32)
            channel_key = KeyPair(world.config, world.round_id, index, drawn[0], "channel").public_key()
            masking_key = KeyPair(world.config, world.round_id, index, drawn[1], "masking").public_key()
            changed = msgspec.structs.replace(world.adverts[index], channel_key=channel_key, masking_key=masking_key)
            world.adverts[index] = changed


@dataclass(frozen=True, slots=True)
class TwoLeaves(Lie):
    """A colluder stands on a second leaf, in the place of another member, with its own keys and signature."""

    colluder: int
    place: int

    def draft(self, server: LyingServer, world: World) -> None:
        if self.colluder in world.puppets and self.colluder in world.adverts:  # not left out by another lie
            world.puppets[self.place] = world.puppets[self.colluder]
            world.adverts[self.place] = world.adverts[self.colluder]
            world.members = [member for member in world.members if member.index != self.place]


@dataclass(frozen=True, slots=True)
class Surround(Lie):
    """The digest shown is no tree's: it was tried until the graph puts as many colluders as can be near one victim."""

    tries: int = 4096

    def drawn(self, server: LyingServer, world: World) -> None:
        """Take the first digest that surrounds a client whom the adversary does not speak for."""
        config, colluders = world.config, set(world.puppets)
        wanted = min(config.neighbours, len(colluders))
        for number in range(self.tries):
            digest = number.to_bytes(32, "big")
            key = config.labels.graph_key(digest, config.labels.session_id(config.digest, world.nonce, digest))
            graph = NeighbourGraph(config.clients, config.neighbours, key, config.groups)
            for index in set(range(config.clients)) - colluders:
                if len(colluders & set(graph.neighbours_of(index).tolist())) == wanted:
                    world.set_digest(digest)
                    return


@dataclass(frozen=True, slots=True)
class ChooseNeighbours(Lie):
    """The server draws a graph of its own: cliques of members that are neighbours of one another and of nobody else."""

    cliques: tuple[Ids, ...]

    def drawn(self, server: LyingServer, world: World) -> None:
        for clique in self.cliques:
            for index in clique:
                world.neighbours[index] = tuple(other for other in sorted(clique) if other != index)


@dataclass(frozen=True, slots=True)
class ShowOtherOwnKeys(Lie):
    """A client is shown keys in its own place that are not its own."""

    to: Ids = ()

    def roster(self, server: LyingServer, world: World, member: Member, draft: RosterDraft) -> None:
        if meant(self.to, member.index):
            draft.own = draft.own._replace(channel=turned(draft.own.channel))


@dataclass(frozen=True, slots=True)
class DenyPresence(Lie):
    """A neighbour that stands in the roster is shown as absent."""

    ids: Ids
    to: Ids = ()

    def roster(self, server: LyingServer, world: World, member: Member, draft: RosterDraft) -> None:
        if meant(self.to, member.index):
            denied = [index for index, _, _ in draft.present if index in self.ids]
            draft.present = [entry for entry in draft.present if entry[0] not in self.ids]
            if world.config.threat_model.signs:
                draft.absent = sorted((*draft.absent, *denied))


@dataclass(frozen=True, slots=True)
class ReorderIds(Lie):
    """The neighbours are listed in descending order."""

    to: Ids = ()

    def roster(self, server: LyingServer, world: World, member: Member, draft: RosterDraft) -> None:
        if meant(self.to, member.index):
            draft.present.reverse()


@dataclass(frozen=True, slots=True)
class RenameNeighbour(Lie):
    """The first neighbour shown gets another id.

    ``name`` says which: "repeated" is the second neighbour's, "itself" the client's own, "beyond" none of the cohort's.
    """

    name: str
    to: Ids = ()

    def roster(self, server: LyingServer, world: World, member: Member, draft: RosterDraft) -> None:
        """The neighbour keeps its keys and its signature."""
        if not meant(self.to, member.index) or len(draft.present) < 2:
            return
        named = {"repeated": draft.present[1][0], "itself": member.index, "beyond": world.config.clients}
        _, keys, signature = draft.present[0]
        draft.present[0] = (named[self.name], keys, signature)
        draft.present.sort(key=lambda entry: entry[0])


@dataclass(frozen=True, slots=True)
class TooManyNeighbours(Lie):
    """More neighbours are shown than the graph has."""

    to: Ids = ()

    def roster(self, server: LyingServer, world: World, member: Member, draft: RosterDraft) -> None:
        """Add copies of the last neighbour, under ids that are beyond the cohort."""
        if meant(self.to, member.index) and draft.present:
            _, keys, signature = draft.present[-1]
            extra = world.config.neighbours + 1 - len(draft.present)
            draft.present += [(world.config.clients + number, keys, signature) for number in range(extra)]


@dataclass(frozen=True, slots=True)
class ReplaceKeys(Lie):
    """One neighbour's keys are replaced: by unusable ones, another neighbour's, or the client's own."""

    by: str
    to: Ids = ()

    def roster(self, server: LyingServer, world: World, member: Member, draft: RosterDraft) -> None:
        """``by`` is "low order", "another's" or "its own"; in a hybrid suite also "another's ML-KEM" or "no ML-KEM"."""
        if not meant(self.to, member.index) or len(draft.present) < 2:
            return
        index, keys, signature = draft.present[0]
        replaced = {
            "low order": keys._replace(channel=LOW_ORDER_KEY + keys.channel[len(LOW_ORDER_KEY) :]),
            "another's": draft.present[1][1],
            "its own": keys._replace(channel=member.advert.channel_key),
            "another's ML-KEM": keys._replace(channel=keys.channel[:32] + draft.present[1][1].channel[32:]),
            "no ML-KEM": keys._replace(masking=keys.masking[:32] + b"\xff" * len(keys.masking[32:])),
        }
        draft.present[0] = (index, replaced[self.by], signature)


@dataclass(frozen=True, slots=True)
class BreakRoster(Lie):
    """One bit of a roster's part is turned: "digest", "proof" or "signature"."""

    part: str
    to: Ids = ()

    def roster(self, server: LyingServer, world: World, member: Member, draft: RosterDraft) -> None:
        """Turn the first bit of the proof; an empty proof gets a hash too many."""
        if not meant(self.to, member.index):
            return
        if self.part == "digest":
            draft.digest = turned(draft.digest)
        elif self.part == "proof":
            draft.proof = turned(draft.proof) or bytes(32)
        elif draft.present:
            index, keys, signature = draft.present[0]
            draft.present[0] = (index, keys, turned(signature))
