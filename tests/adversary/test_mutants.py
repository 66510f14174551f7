"""Every rule taken out of the clients, one at a time: the attack it stops then succeeds, and with it does not."""

from __future__ import annotations

import tracemalloc
from collections.abc import Callable
from dataclasses import replace

import msgspec
import pytest

from secagg import Client, ErrorCode, Misbehaved, ParameterError, PeerError, Policy, Server, Suite
from secagg.envelopes.randomness import EnvelopeRandomness
from secagg.pairwise import carrier, messages, records
from secagg.pairwise.client import attachment
from secagg.pairwise.messages import Roster, SharesWithSecrets, Survivors
from secagg.pairwise.records import SealedSecret
from secagg.pairwise.rules import client as client_rules
from secagg.pairwise.rules.table import RULES
from secagg.primitives import aead, suites
from secagg.simulation import SeededRandomness
from secagg.testing.adversary import (
    Attack,
    BadCommitment,
    BrokenSecret,
    Coalition,
    CoalitionOutcome,
    DenyPresence,
    DropFromSurvivors,
    HideDealers,
    Lie,
    Lose,
    OutOfPhase,
    ReplaceKeys,
    Resize,
    Rewrite,
    ShareOutOfRange,
    Spoils,
    StaleKeys,
    Unopenable,
)
from tests.support import chain_mutants, complaint_mutants, enveloped, staging
from tests.support.attack_stage import active, around, ring_of, semi_honest
from tests.support.mutants import PRIVACY, Mutant, copied, instead_of, keep_the_shares, without
from tests.support.staging import Stage

Patch = pytest.MonkeyPatch

# -- Privacy -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("mutant", PRIVACY, ids=lambda mutant: mutant.rule)
def test_the_rule_stops_the_attack(mutant: Mutant) -> None:
    spoils = mutant.attack().run()
    assert spoils.broken == []
    if mutant.code is not None:
        assert mutant.code in spoils.codes | {type(crash) for _, crash in spoils.crashes}


@pytest.mark.parametrize("mutant", PRIVACY, ids=lambda mutant: mutant.rule)
def test_without_the_rule_the_attack_succeeds(mutant: Mutant, monkeypatch: Patch) -> None:
    attack = mutant.attack()
    mutant.remove(monkeypatch)
    spoils = attack.run()
    assert spoils.smallest == mutant.opens
    assert spoils.broken


# -- The rest: without them a round hangs, is lost, falls over, or blames the wrong one --------------------------------

STORIES: dict[str, Callable[[Patch], None]] = {**chain_mutants.STORIES, **complaint_mutants.CLIENT_STORIES}
PLAIN = semi_honest(7, 1, 2)
"""t = 5."""


def story(name: str) -> Callable[[Callable[[Patch], None]], Callable[[Patch], None]]:
    def told(tell: Callable[[Patch], None]) -> Callable[[Patch], None]:
        STORIES[name] = tell
        return tell

    return told


def lied_to(*lies: Lie) -> Spoils:
    return Attack(PLAIN, lies, colluders=(6,)).run()


def refused(spoils: Spoils, code: ErrorCode) -> set[int]:
    """Who refused something with this code."""
    return {index for index, error in spoils.refusals if error.code is code}


@story("client.own_leaf")
def innocent_neighbours_are_blamed(patch: Patch) -> None:
    """The server shows old keys of a client.  It alone can see that; else everybody blames somebody for bad shares."""
    lie = StaleKeys((0,))
    spoils = lied_to(lie)
    assert [(index, error.code, error.culprit) for index, error in spoils.refusals] == [
        (0, ErrorCode.ROSTER_OWN_LEAF, ())
    ]
    assert spoils.smallest == 5
    without("client.own_leaf")(patch)
    spoils = lied_to(lie)
    assert spoils.codes == {ErrorCode.SHARES_UNSEALABLE}
    assert [error.culprit for _, error in spoils.refusals] == [(1,), (0,), (0,), (0,), (0,), (0,)]


@story("client.ids_valid")
def a_client_is_blamed_for_what_it_was_made_to_send(patch: Patch) -> None:
    """Neighbours in another order: what the client deals reaches the wrong ones, who all name it."""

    def turn_round(phase: str, index: int, data: bytes) -> bytes:
        message = messages.to_client.decode(data, len(data), 1)
        if index or not isinstance(message, Roster):
            return data
        ids = messages.encode_ids(messages.decode_ids(message.present)[::-1])
        keys = b"".join(records.cut(message.keys, records.KEYS_BYTES)[::-1])
        return messages.encode(msgspec.structs.replace(message, present=ids, keys=keys))

    coalition = Coalition(PLAIN, wire=turn_round)
    outcome = coalition.run()
    assert {index: error.code for index, error in outcome.client_errors.items()} == {0: ErrorCode.ROSTER_IDS}
    without("client.ids_valid")(patch)
    outcome = coalition.run()
    assert {error.culprit for error in outcome.client_errors.values()} == {(0,)}
    assert len(outcome.client_errors) == 6


@story("client.keys_usable")
def a_weak_key_breaks_the_client(patch: Patch) -> None:
    """A key of low order: the agreement fails deep inside, and what comes out says nothing about the server."""
    lie = ReplaceKeys("low order", to=(0,))
    assert refused(lied_to(lie), ErrorCode.ROSTER_KEYS) == {0}
    without("client.keys_usable")(patch)
    spoils = lied_to(lie)
    assert spoils.codes == set()
    assert [(index, type(crash)) for index, crash in spoils.crashes] == [(0, suites.CryptoError)]


@story("client.neighbours_enough")
def the_host_is_blamed_for_missing_neighbours(patch: Patch) -> None:
    """Fewer neighbours than the threshold: the secret sharing refuses, as if the host had asked for it."""
    lie = DenyPresence((1, 2, 3, 4), to=(0,))
    assert refused(lied_to(lie), ErrorCode.ROSTER_TOO_FEW) == {0}
    without("client.neighbours_enough")(patch)
    spoils = lied_to(lie)
    assert spoils.codes == set()
    assert [(index, type(crash)) for index, crash in spoils.crashes] == [(0, ParameterError)]


@story("client.share_opens")
def the_round_is_lost_when_all_have_answered(patch: Patch) -> None:
    """A dealer seals noise for two holders.  They leave, and the round goes on; else it is lost at the very end."""
    coalition = Coalition(PLAIN, liars={6: (Unopenable((0, 1)),)})
    outcome = coalition.run()
    assert {index: (error.code, error.culprit) for index, error in outcome.client_errors.items()} == dict.fromkeys(
        (0, 1), (ErrorCode.SHARES_UNSEALABLE, (6,))
    )
    assert outcome.result is not None
    assert outcome.result.included == (2, 3, 4, 5, 6)
    take = client_rules.share_opens

    def skip(suite: Suite, key: bytes, sealed: bytes, context: bytes, dealer: int) -> bytes:
        try:
            return take(suite, key, sealed, context, dealer)
        except PeerError:
            return bytes(len(sealed) - aead.AEAD_TAG_BYTES)

    instead_of("client.share_opens", skip)(patch)
    outcome = coalition.run()
    assert outcome.client_errors == {}
    assert outcome.result is None
    assert outcome.failure is not None
    assert outcome.failure.phase == "COMPUTE"


@story("client.share_committed")
def the_holder_is_blamed_for_its_dealer(patch: Patch) -> None:
    """A dealer commits to other shares than it deals.  The holder names it; else the server names the holder."""
    coalition = Coalition(PLAIN, liars={6: (BadCommitment((0,)),)})
    outcome = coalition.run()
    assert outcome.client_errors[0].code is ErrorCode.SHARES_COMMITMENT
    assert outcome.client_errors[0].culprit == (6,)
    assert [event for event in outcome.events if isinstance(event, Misbehaved)] == []
    without("client.share_committed")(patch)
    outcome = coalition.run()
    assert outcome.client_errors == {}
    assert [(event.sender, event.code) for event in outcome.events if isinstance(event, Misbehaved)] == [
        (0, ErrorCode.BAD_SHARE)
    ]


HYBRID = semi_honest(7, 1, 2, suite=Suite.HYBRID, version=2)
"""t = 5; client 6 is the sealer for 0, 2 and 4."""


def with_secret(change: Callable[[SealedSecret], SealedSecret], victim: int) -> Callable[[str, int, bytes], bytes]:
    """On the way to a victim, change the first of the pair secrets that are sealed for it."""

    def on_the_way(phase: str, index: int, data: bytes) -> bytes:
        message = messages.to_client.decode(data, len(data), 2, HYBRID.suite.agreement)
        if index != victim or not isinstance(message, SharesWithSecrets):
            return data
        first, *others = records.cut(message.pair_secrets, records.SEALED_SECRET_BYTES)
        changed = change(SealedSecret.from_bytes(first)).to_bytes()
        return messages.encode(msgspec.structs.replace(message, pair_secrets=b"".join((changed, *others))))

    return on_the_way


@story("client.secret_opens")
def a_mask_that_one_side_alone_makes_spoils_the_sum(patch: Patch) -> None:
    """Client 1's secret for client 2 does not open, and comes with a commitment to zeros."""
    session: list[bytes] = []

    def spoil(record: SealedSecret) -> SealedSecret:
        commitment = HYBRID.labels.pair_secret_commitment(session[0], 1, 2, bytes(32))
        return record._replace(sealed=bytes(len(record.sealed)), commitment=commitment)

    def on_the_way(phase: str, index: int, data: bytes) -> bytes:
        message = messages.to_client.decode(data, len(data), 2, HYBRID.suite.agreement)
        session[:] = [message.session]
        return with_secret(spoil, 2)(phase, index, data)

    coalition = Coalition(HYBRID, wire=on_the_way)
    outcome = coalition.run()
    assert {index: (error.code, error.culprit) for index, error in outcome.client_errors.items()} == {
        2: (ErrorCode.SECRET_UNSEALABLE, (1,))
    }
    assert outcome.result is not None
    assert outcome.result.sum.tolist() == plain_sum(outcome)
    take = client_rules.secret_opens

    def skip(suite: Suite, key: bytes, sealed: bytes, context: bytes, dealer: int) -> bytes:
        try:
            return take(suite, key, sealed, context, dealer)
        except PeerError:
            return bytes(32)

    instead_of("client.secret_opens", skip)(patch)
    outcome = coalition.run()
    assert outcome.client_errors == {}
    assert outcome.result is not None
    assert outcome.result.sum.tolist() != plain_sum(outcome)


def plain_sum(outcome: CoalitionOutcome) -> list[int]:
    assert outcome.result is not None
    columns = zip(*(outcome.inputs[member, 0] for member in outcome.result.included), strict=True)
    return [sum(column) % HYBRID.modulus.value for column in columns]


@story("client.secret_committed")
def a_sealer_is_found_out_when_the_round_depends_on_it(patch: Patch) -> None:
    """Client 6 commits to other secrets than it seals.  Its holders name it; else nobody does before one is lost."""
    liars = {6: (BrokenSecret((0, 2, 4), "commitment"),)}
    outcome = Coalition(HYBRID, liars=liars).run()
    assert {index: (error.code, error.culprit) for index, error in outcome.client_errors.items()} == dict.fromkeys(
        (0, 2, 4), (ErrorCode.SECRET_COMMITMENT, (6,))
    )
    without("client.secret_committed")(patch)
    outcome = Coalition(HYBRID, liars=liars).run()
    assert (outcome.client_errors, outcome.blame) == ({}, ())
    outcome = Coalition(HYBRID, liars=liars, fates={4: "SHARE"}).run()
    assert outcome.result is None
    assert [(entry.sender, entry.code) for entry in outcome.blame] == [(6, ErrorCode.BAD_DEALER)]


@story("R-HYBRID-8")
def a_client_deals_twice_and_its_shares_contradict_each_other(patch: Patch) -> None:
    """A roster that comes twice: encapsulation is never the same, so a second answer is another message."""

    def answers() -> list[tuple[bytes, ...]]:
        stage = Stage(staging.semi_honest(5, suite=Suite.HYBRID, version=2)).play("SHARE")
        roster = staging.message_for(stage.server, 1)
        client = stage.clients[1]
        return [client.receive(roster).outgoing for _ in range(2)]

    first, second = answers()
    assert (len(first), second) == (1, ())
    advance = Client._advance

    def kept(self: Client, given: object, record: object) -> None:
        before = (copied(self._record), self._state) if given is Roster else None
        advance(self, given, record)  # type: ignore[arg-type]
        if before is not None:
            self._record, self._state = before
            self._seen = Forgetful()

    patch.setattr(Client, "_advance", kept)
    first, second = answers()
    assert len(first) == len(second) == 1
    assert first != second


class Forgetful(dict[str, bytes]):
    """Remembers nothing."""

    def __setitem__(self, name: str, digest: bytes) -> None:
        pass


@story("client.survivors_near")
def everybody_answers_and_nothing_opens(patch: Patch) -> None:
    """A survivor whose neighbours were dropped: its seed cannot be reconstructed, so the sum is lost, after UNMASK."""
    attack = Attack(semi_honest(14, 0, 2, 6, threshold=4, min_survivors=5))
    dropped = around(ring_of(attack), 0, 1, 2, 3)
    attack = replace(attack, lies=(Lose(dropped, "MASK"), DropFromSurvivors(dropped)))
    spoils = attack.run()
    assert 0 in refused(spoils, ErrorCode.SURVIVORS_NEIGHBOURS)
    without("client.survivors_near")(patch)
    spoils = attack.run()
    assert 0 not in {index for index, _ in spoils.refusals}
    assert 0 in {view.index for view in spoils.ledger.views if view.openings}
    assert spoils.openings == ()


@story("client.nothing_signed")
def a_neighbour_that_nothing_vouches_for_is_found_out_when_the_vector_is_gone(patch: Patch) -> None:
    """A semi_honest roster denies a neighbour, and lists it as absent: the client would wait to refuse until MASK."""
    absent = Rewrite("ADVERTISE", (("absent", messages.encode_ids((5,))),), (0,))
    lies = (DenyPresence((5,), to=(0,)), absent, HideDealers((5,), to=(0,)))
    spoils = lied_to(*lies)
    assert [(index, error.code, error.phase) for index, error in spoils.refusals] == [
        (0, ErrorCode.MALFORMED, "ADVERTISE")
    ]
    without("client.nothing_signed")(patch)
    spoils = lied_to(*lies)
    mine = [error for index, error in spoils.refusals if index == 0]
    assert [(error.code, error.phase) for error in mine] == [(ErrorCode.SURVIVORS_NOT_SHARED, "MASK")]


@story("client.share_in_range")
def the_holder_is_blamed_for_an_element_that_its_dealer_chose(patch: Patch) -> None:
    """A dealer deals an element at the prime, and commits to it.  The holder names it; else the server names her."""
    coalition = Coalition(PLAIN, liars={6: (ShareOutOfRange((0,)),)})
    outcome = coalition.run()
    assert (outcome.client_errors[0].code, outcome.client_errors[0].culprit) == (ErrorCode.SHARES_RANGE, (6,))
    assert outcome.blame == ()
    without("client.share_in_range")(patch)
    outcome = coalition.run()
    assert outcome.client_errors == {}
    assert [(entry.sender, entry.code) for entry in outcome.blame] == [(0, ErrorCode.BAD_SHARE)]


@story("wire.size_allowed")
def a_large_message_fills_the_memory(patch: Patch) -> None:
    """A roster with a proof of eight megabytes: it is decoded, and copied, before another rule refuses it."""
    size = 1 << 23

    def refusal() -> tuple[ErrorCode, bool]:
        """Its code, and whether as much memory was taken as the message is long."""
        server = Server(PLAIN, randomness=SeededRandomness(1, "server"))
        client = Client.join(server.invitation(), 0, randomness=SeededRandomness(1, "client"))
        client.start()
        large = messages.encode(Roster(1, bytes(32), bytes(32), bytes(64), b"", b"", b"", b"", bytes(size)))
        tracemalloc.start()
        try:
            with pytest.raises(PeerError) as caught:
                client.receive(large)
            return caught.value.code, tracemalloc.get_traced_memory()[1] >= size
        finally:
            tracemalloc.stop()

    assert refusal() == (ErrorCode.TOO_LARGE, False)
    without("wire.size_allowed")(patch)
    assert refusal() == (ErrorCode.WRONG_SESSION, True)


@story("wire.well_formed")
def bytes_that_are_no_message_make_the_client_fall_over(patch: Patch) -> None:
    """A message without its last byte: what comes out says nothing about the server."""
    lie = Resize("SHARE", -1, (0,))
    assert refused(lied_to(lie), ErrorCode.MALFORMED) == {0}
    instead_of("wire.well_formed", lambda decode, data, versions: decode(data))(patch)
    spoils = lied_to(lie)
    assert spoils.codes == set()
    assert [(index, type(crash)) for index, crash in spoils.crashes] == [(0, msgspec.DecodeError)]


@story("wire.version_spoken")
def a_message_of_another_version_is_taken_for_one_of_this(patch: Patch) -> None:
    lie = Rewrite("SHARE", (("version", 2),), (0,))
    assert refused(lied_to(lie), ErrorCode.WRONG_VERSION) == {0}
    without("wire.version_spoken")(patch)
    spoils = lied_to(lie)
    assert spoils.codes == set()
    assert 0 in {view.index for view in spoils.ledger.views if view.openings}


@story("wire.config_of_version")
def a_config_of_another_version_is_called_unsound(patch: Patch) -> None:
    """A version 2 invitation brings a config of version 1: nothing is wrong with that config but its place."""
    round_id, config = bytes(32), PLAIN.to_bytes()
    invitation = messages.encode(messages.Invitation(2, round_id, config, bytes(32)))

    def refusal() -> ErrorCode:
        with pytest.raises(PeerError) as caught:
            Client.join(invitation, 0)
        return caught.value.code

    assert refusal() is ErrorCode.WRONG_VERSION
    without("wire.config_of_version")(patch)
    assert refusal() is ErrorCode.CONFIG_UNSOUND


def with_attachments() -> Stage:
    """A round of version 2 in which nobody is lost; each host attaches a value for that, and one for any losses."""
    stage = Stage(staging.active(5, 2, version=2, attachment_bytes=8))
    stage.attachments = lambda client: [(0, b"nobody %d" % client), (5, b"anybody%d" % client)]
    return stage


@story("R-ATTACH-2")
def the_server_has_the_value_for_losses_that_there_were_not(patch: Patch) -> None:
    """Clients that answer as for the most losses, whatever the survivors say."""
    assert with_attachments().finish().attachments[2] == b"nobody 2"
    revealed = attachment.revealed
    patch.setattr(attachment, "revealed", lambda losses, values, lost: revealed(losses, values, losses[-1]))
    assert with_attachments().finish().attachments[2] == b"anybody2"


@story("R-ATTACH-3")
def whoever_has_the_clients_memory_has_the_other_values(patch: Patch) -> None:
    """The state is kept when the client has answered."""

    def held() -> bytes:
        stage = with_attachments()
        stage.finish()
        values = getattr(stage.clients[2]._record, "attachment", None)
        return b"" if values is None else values.reveal()

    assert held() == b""
    keep_the_shares(patch)
    assert b"anybody2" in held()


@story("R-ENV-10")
def two_envelopes_of_one_seed_show_the_difference_of_their_vectors(patch: Patch) -> None:
    """Clients that put two vectors into envelopes of the same seed, in one session."""
    config = enveloped.config_of(input_max=100)
    parameters = config.envelope
    assert parameters is not None

    def difference() -> int:
        """Of the first coefficients modulo the first prime, which hold the first elements."""
        driver = enveloped.Tampering(config, {})
        driver.play_phases()
        bits, size = parameters.primes[0].bit_length(), parameters.key_bytes
        mine, other = (int.from_bytes(driver.sent[index][size : size + 8], "little") % 2**bits for index in (2, 3))
        return (mine - other) % parameters.primes[0]

    def shown() -> int:
        """What the elements make of it, where nothing else differs."""
        weights = [pow(2, slot * parameters.element_bits, parameters.primes[0]) for slot in range(parameters.slots)]
        sent = -(-enveloped.LENGTH // (64 * parameters.slots)) * 64
        mine, other = ([*vector] for vector in enveloped.vectors(config)[2:4].tolist())
        columns = zip(weights, mine[::sent], other[::sent], strict=False)
        return sum(weight * (x - y) for weight, x, y in columns) % parameters.primes[0]

    assert shown()
    assert difference() != shown()
    patch.setattr(carrier, "EnvelopeRandomness", lambda seed: EnvelopeRandomness(bytes(32)))
    assert difference() == shown()


@pytest.mark.parametrize(
    ("name", "lie"),
    [
        ("wire.records_whole", Rewrite("SHARE", (("sealed", b""),), (0,))),
        ("wire.ids_whole", Rewrite("ADVERTISE", (("present", b"\0"),), (0,))),
    ],
)
def test_lists_that_end_in_the_middle_make_the_client_fall_over(name: str, lie: Lie, monkeypatch: Patch) -> None:
    assert refused(lied_to(lie), ErrorCode.MALFORMED) == {0}
    without(name)(monkeypatch)
    spoils = lied_to(lie)
    assert spoils.codes == set()
    assert [(index, type(crash)) for index, crash in spoils.crashes] == [(0, ValueError)]


@story("wire.bitmap_whole")
def a_client_is_blamed_for_signing_a_bitmap_that_nobody_else_was_shown(patch: Patch) -> None:
    """The same survivors in a byte more: what the client signs is not what the others sign."""

    def lengthen(phase: str, index: int, data: bytes) -> bytes:
        message = messages.to_client.decode(data, len(data), 1)
        if index or not isinstance(message, Survivors):
            return data
        return messages.encode(msgspec.structs.replace(message, survivors=message.survivors + b"\0"))

    coalition = Coalition(active(7, 1, 2), wire=lengthen)
    outcome = coalition.run()
    assert outcome.client_errors[0].code is ErrorCode.MALFORMED
    assert outcome.blame == ()
    without("wire.bitmap_whole")(patch)
    outcome = coalition.run()
    assert [(entry.sender, entry.code) for entry in outcome.blame] == [(0, ErrorCode.BAD_SIGNATURE)]


@story("wire.bitmap_of_cohort")
def a_member_that_the_cohort_does_not_have_makes_up_for_one_that_is_gone(patch: Patch) -> None:
    """Six survivors are asked for; five are there, and a bit behind the cohort's is set."""
    config = semi_honest(7, 0, 1, threshold=4, min_survivors=6)
    phantom = Rewrite("MASK", (("survivors", b"\x9f"),), (0,))

    def told() -> set[ErrorCode]:
        spoils = Attack(config, (phantom,)).run()
        return {error.code for index, error in spoils.refusals if index == 0}

    assert told() == {ErrorCode.MALFORMED}
    without("wire.bitmap_of_cohort")(patch)
    assert told() == set(), "client 0 answers for five survivors"


@story("wire.of_session")
def a_message_of_another_round_misleads(patch: Patch) -> None:
    """The transport brings a client the survivors of another session of its cohort: its answer is then blamed on it."""

    def mix_up(phase: str, index: int, data: bytes) -> bytes:
        message = messages.to_client.decode(data, len(data), 1)
        if index or not isinstance(message, Survivors):
            return data
        other = messages.encode_bitmap((0, 1, 2, 3, 4, 6), PLAIN.clients)
        return messages.encode(Survivors(message.version, bytes(32), other))

    coalition = Coalition(PLAIN, wire=mix_up)
    outcome = coalition.run()
    assert outcome.client_errors[0].code is ErrorCode.WRONG_SESSION
    assert [event for event in outcome.events if isinstance(event, Misbehaved)] == []
    without("wire.of_session")(patch)
    outcome = coalition.run()
    assert outcome.client_errors == {}
    assert [(event.sender, event.code) for event in outcome.events if isinstance(event, Misbehaved)] == [
        (0, ErrorCode.BAD_SHARE)
    ]


@story("wire.in_phase")
def the_client_falls_over_out_of_phase(patch: Patch) -> None:
    """Survivors in place of shares: without the rule an internal error comes out."""
    lie = OutOfPhase("SHARE", to=(0,))
    assert refused(lied_to(lie), ErrorCode.WRONG_PHASE) == {0}
    without("wire.in_phase")(patch)
    spoils = lied_to(lie)
    assert spoils.codes == set()
    assert [(index, type(crash)) for index, crash in spoils.crashes] == [(0, RuntimeError)]


@story("wire.not_conflicting")
def a_second_roster_goes_unnoticed_and_the_round_hangs(patch: Patch) -> None:
    """A server set back to before the roster decides on another.  Who says nothing to that is waited for in vain."""
    told, waited_for = second_roster()
    assert told == {ErrorCode.CONFLICT}
    assert waited_for == set()
    without("wire.not_conflicting")(patch)
    told, waited_for = second_roster()
    assert told == set()
    assert waited_for == {0, 1, 2, 3, 4, 5}


def second_roster() -> tuple[set[ErrorCode], set[int]]:
    """What clients say to a second roster, and from whom a share is still awaited after that."""
    server = Server(PLAIN, randomness=SeededRandomness(1, "server"))
    clients = [
        Client.join(server.invitation(), index, policy=Policy(), randomness=SeededRandomness(1, f"client {index}"))
        for index in range(7)
    ]
    adverts = [client.start() for client in clients]
    for index in range(6):
        server.receive(index, adverts[index])
    snapshot = server.snapshot()
    server.receive(6, adverts[6])
    for index, roster in server.close_phase():
        clients[index].receive(roster)
    server = Server.restore(snapshot)
    codes = set()
    for index, roster in server.close_phase():
        try:
            for answer in clients[index].receive(roster).outgoing:
                server.receive(index, answer)
        except PeerError as error:
            codes.add(error.code)
            server.receive(index, error.reply)
    return codes, set(server.missing)


@pytest.mark.parametrize("name", STORIES)
def test_without_the_rule_the_round_goes_wrong(name: str, monkeypatch: Patch) -> None:
    STORIES[name](monkeypatch)


def test_every_rule_of_a_client_has_a_mutant() -> None:
    functions = {name for rule in RULES for name in rule.functions if not name.startswith("server.")}
    by_construction = {rule.requirements[0] for rule in RULES if not rule.functions}
    mutants = [*(mutant.rule for mutant in PRIVACY), *STORIES, "wire.records_whole", "wire.ids_whole"]
    assert sorted(mutants) == sorted(functions | by_construction)
