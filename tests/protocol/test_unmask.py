"""UNMASK: what opens, what does not, and who is named when something is wrong."""

from __future__ import annotations

from collections.abc import Callable, Collection

import numpy as np
import pytest

from secagg import Accepted, ErrorCode, Misbehaved, PeerError, StateError, ThreatModel
from secagg.arithmetic.modulus import MERSENNE_61
from secagg.pairwise.rules import client as client_rules
from secagg.pairwise.server.records import Aborted
from secagg.pairwise.server.snapshot import load
from secagg.primitives import secret_sharing
from tests.support import wire
from tests.support.staging import MODELS, Stage

CLIENTS, THRESHOLD = 7, {ThreatModel.SEMI_HONEST: 3, ThreatModel.ACTIVE: 4}
RECORD, SHARE = 72, 40  # a share and its salt


def stage_in(threat_model: ThreatModel, phase: str = "UNMASK", lost: Collection[int] = ()) -> Stage:
    """Seven clients on the complete graph; those lost share, but send no vector."""
    stage = Stage(MODELS[threat_model](CLIENTS, 3, delta=0.3))
    assert (stage.config.threshold, stage.config.dropouts) == (THRESHOLD[threat_model], 2)
    return stage.play(phase, silent={"MASK": lost})


def openings(answer: bytes) -> list[bytes]:
    """One record for each other client, ascending."""
    blob = wire.read(answer)[3]
    return [blob[start : start + RECORD] for start in range(0, len(blob), RECORD)]


def with_openings(answer: bytes, records: list[bytes]) -> bytes:
    return wire.write([*wire.read(answer)[:3], b"".join(records)])


def others(client: int) -> list[int]:
    return [index for index in range(CLIENTS) if index != client]


# Too few.


@pytest.mark.parametrize("threat_model", ThreatModel)
@pytest.mark.parametrize("answering", range(CLIENTS + 1))
def test_nothing_opens_below_the_threshold(threat_model: ThreatModel, answering: int) -> None:
    """The seed of a survivor that answers needs t answers of others: so t + 1 must answer."""
    stage = stage_in(threat_model)
    answers = stage.answers()
    stage.deliver({index: answers[index] for index in range(answering)})
    stage.server.close_phase()
    if answering >= stage.config.threshold + 1:
        assert stage.server.compute().sum.tolist() == stage.plain_sum(range(CLIENTS))
        return
    failure = stage.server.failure
    assert failure is not None
    assert (failure.phase, failure.missing) == ("UNMASK", tuple(range(answering, CLIENTS)))
    assert str(stage.config.threshold) in failure.reason
    with pytest.raises(StateError):
        stage.server.compute()
    held = load(stage.server.snapshot(), stage.directory).held
    assert isinstance(held, Aborted), "what could still be unmasked is gone"


@pytest.mark.parametrize("threat_model", ThreatModel)
@pytest.mark.parametrize("lost", [(0,), (6,), (2, 3), (0, 6)])
def test_masks_of_the_lost_are_opened_by_the_others(threat_model: ThreatModel, lost: tuple[int, ...]) -> None:
    stage = stage_in(threat_model, lost=lost)
    result = stage.finish()
    survivors = [index for index in range(CLIENTS) if index not in lost]
    assert result.included == tuple(survivors)
    assert result.sum.tolist() == stage.plain_sum(survivors)


@pytest.mark.parametrize("threat_model", ThreatModel)
def test_one_answer_short_for_a_lost_client(threat_model: ThreatModel) -> None:
    """The lost client's key opens with t answers, each survivor's seed with t answers of others: t + 1 in all."""
    stage = stage_in(threat_model, lost=(0, 6))
    answers = stage.answers()
    threshold = stage.config.threshold
    stage.deliver(dict(list(answers.items())[:threshold]))
    stage.server.close_phase()
    assert stage.server.failure is not None
    assert stage.server.failure.missing == tuple(sorted(answers)[threshold:])


# Bad shares.


def flip_share(record: bytes, other: bytes) -> bytes:
    return bytes([record[0] ^ 1]) + record[1:]


def flip_salt(record: bytes, other: bytes) -> bytes:
    return record[:-1] + bytes([record[-1] ^ 0x80])


def of_another_dealer(record: bytes, other: bytes) -> bytes:
    return other


def all_zero(record: bytes, other: bytes) -> bytes:
    return bytes(RECORD)


def all_ones(record: bytes, other: bytes) -> bytes:
    return b"\xff" * RECORD


def not_canonical(record: bytes, other: bytes) -> bytes:
    """The same residue, plus the prime: it would reconstruct the same secret."""
    element = int.from_bytes(record[:8], "little") + MERSENNE_61
    return element.to_bytes(8, "little") + record[8:]


def shares_swapped_with_salts(record: bytes, other: bytes) -> bytes:
    return other[:SHARE] + record[SHARE:]


DAMAGES = [
    flip_share,
    flip_salt,
    of_another_dealer,
    all_zero,
    all_ones,
    not_canonical,
    shares_swapped_with_salts,
]


def with_all_bad(answer: bytes, damage: Callable[[bytes, bytes], bytes]) -> bytes:
    records = openings(answer)
    return with_openings(answer, [damage(record, records[position - 1]) for position, record in enumerate(records)])


@pytest.mark.parametrize("damage", DAMAGES)
@pytest.mark.parametrize("threat_model", ThreatModel)
def test_bad_shares_up_to_the_spare_ones_do_no_harm(
    threat_model: ThreatModel, damage: Callable[[bytes, bytes], bytes]
) -> None:
    """Six shares return for each secret of an honest client: six less t may be bad."""
    stage = stage_in(threat_model)
    spare = CLIENTS - 1 - stage.config.threshold
    answers = stage.answers()
    for bad in range(spare):
        answers[bad] = with_all_bad(answers[bad], damage)
    events = stage.deliver(answers)
    for client, event in enumerate(events):
        if client >= spare:
            assert event == Accepted(client, "UNMASK")
            continue
        assert isinstance(event, Misbehaved)
        assert (event.sender, event.phase, event.code) == (client, "UNMASK", ErrorCode.BAD_SHARE)
        assert event.dealers == tuple(others(client))
    stage.server.close_phase()
    result = stage.server.compute()
    assert result.sum.tolist() == stage.plain_sum(range(CLIENTS))
    assert result.included == tuple(range(CLIENTS))
    blamed = [(entry.sender, entry.phase, entry.code) for entry in result.blame]
    assert blamed == [(client, "UNMASK", ErrorCode.BAD_SHARE) for client in range(spare)]


@pytest.mark.parametrize("threat_model", ThreatModel)
def test_one_bad_share_more_ends_the_round(threat_model: ThreatModel) -> None:
    stage = stage_in(threat_model)
    spare = CLIENTS - 1 - stage.config.threshold
    answers = stage.answers()
    for bad in range(spare + 1):
        answers[bad] = with_all_bad(answers[bad], flip_share)
    stage.deliver(answers)
    stage.server.close_phase()
    failure = stage.server.failure
    assert failure is not None
    assert failure.phase == "UNMASK"
    assert failure.missing == (), "everybody answered"
    assert {entry.sender for entry in stage.server.blame} == set(range(spare + 1))
    with pytest.raises(StateError):
        stage.server.compute()


@pytest.mark.parametrize("threat_model", ThreatModel)
def test_only_the_bad_ones_of_an_answer_are_left_out(threat_model: ThreatModel) -> None:
    """With no more answers than the threshold needs, one bad share is one too many for its dealer, and for it alone."""
    stage = stage_in(threat_model)
    answers = stage.answers()
    records = openings(answers[0])
    records[2] = flip_share(records[2], b"")  # the others are 1, 2, 3 ...: client 3's seed
    answers[0] = with_openings(answers[0], records)
    spare_copy = dict(answers)
    (event, *_) = stage.deliver(answers)
    assert isinstance(event, Misbehaved)
    assert event.dealers == (3,)
    stage.server.close_phase()
    assert stage.finish().sum.tolist() == stage.plain_sum(range(CLIENTS))

    scarce = stage_in(threat_model)
    scarce.answers()
    members = range(scarce.config.threshold + 1)
    assert 3 in members
    scarce.deliver({index: spare_copy[index] for index in members})
    scarce.server.close_phase()
    assert scarce.server.failure is not None
    assert "client 3's" in scarce.server.failure.reason


@pytest.mark.parametrize("threat_model", ThreatModel)
def test_a_share_of_the_wrong_secret_is_bad(threat_model: ThreatModel) -> None:
    """Who answers for a lost client as if it had survived reveals a share that nobody takes."""
    lost, stage = 5, stage_in(threat_model, lost=(5,))
    answers = stage.answers()
    told_otherwise = Stage(stage.config, stage.seed).play("UNMASK", silent={})
    seed_share = openings(told_otherwise.answers([0])[0])[lost - 1]
    records = openings(answers[0])
    assert records[lost - 1] != seed_share
    records[lost - 1] = seed_share
    answers[0] = with_openings(answers[0], records)
    event = stage.deliver(answers)[0]
    assert isinstance(event, Misbehaved)
    assert event.dealers == (lost,)
    stage.server.close_phase()
    assert stage.finish().sum.tolist() == stage.plain_sum([0, 1, 2, 3, 4, 6])


# Bad dealers.

Share = Callable[..., np.ndarray]
KEY, SEED = 0, 1


def wrong_secret(kind: int) -> Callable[[Share], Share]:
    """Good shares of another secret."""

    def dealing(share: Share) -> Share:
        def dealt(secrets: list[bytes], *rest: object) -> np.ndarray:
            changed = list(secrets)
            changed[kind] = bytes([changed[kind][5] ^ 1]) * 32
            return share(changed, *rest)

        return dealt

    return dealing


def inconsistent(kind: int) -> Callable[[Share], Share]:
    """Shares that lie on no polynomial of the right degree."""

    def dealing(share: Share) -> Share:
        def dealt(*arguments: object) -> np.ndarray:
            shares = share(*arguments)
            shares[kind] = np.random.default_rng(3).integers(0, MERSENNE_61, shares[kind].shape, np.uint64)
            return shares

        return dealt

    return dealing


def out_of_range(kind: int) -> Callable[[Share], Share]:
    """Good shares of limbs that no 256 bits have: a constant is added to a polynomial."""

    def dealing(share: Share) -> Share:
        def dealt(*arguments: object) -> np.ndarray:
            shares = share(*arguments)
            shares[kind] = (shares[kind] + np.uint64(2**53)) % np.uint64(MERSENNE_61)
            return shares

        return dealt

    return dealing


@pytest.mark.parametrize("threat_model", ThreatModel)
@pytest.mark.parametrize("kind", [KEY, SEED], ids=["masking key", "seed"])
@pytest.mark.parametrize("cheat", [wrong_secret, inconsistent, out_of_range])
def test_a_bad_dealer_is_named(
    threat_model: ThreatModel,
    kind: int,
    cheat: Callable[[int], Callable[[Share], Share]],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Its commitments are to the shares that it dealt, so that every holder takes them, and every answer is good."""
    dealer = 4
    stage = stage_in(threat_model, "SHARE")
    with monkeypatch.context() as patch:
        patch.setattr(secret_sharing, "share", cheat(kind)(secret_sharing.share))
        bad = stage.answer(dealer)
    stage.deliver({dealer: bad, **stage.answers(others(dealer))})
    stage.server.close_phase()
    stage.play(silent={"MASK": [dealer] if kind == KEY else []})
    assert stage.server.blame == (), "no holder is to blame"
    with pytest.raises(PeerError) as caught:
        stage.server.compute()
    assert (caught.value.code, caught.value.culprit) == (ErrorCode.BAD_DEALER, (dealer,))
    assert stage.server.phase == "ABORTED"
    failure = stage.server.failure
    assert failure is not None
    assert failure.culprit == (dealer,)
    assert [(entry.sender, entry.code) for entry in stage.server.blame] == [(dealer, ErrorCode.BAD_DEALER)]
    with pytest.raises(StateError):
        stage.server.compute()


@pytest.mark.parametrize("kind", [KEY, SEED], ids=["masking key", "seed"])
def test_a_bad_secret_that_nobody_opens_does_no_harm(kind: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Only one of a dealer's two secrets is ever opened."""
    dealer, stage = 4, stage_in(ThreatModel.SEMI_HONEST, "SHARE")
    with monkeypatch.context() as patch:
        patch.setattr(secret_sharing, "share", wrong_secret(kind)(secret_sharing.share))
        bad = stage.answer(dealer)
    stage.deliver({dealer: bad, **stage.answers(others(dealer))})
    stage.server.close_phase()
    lost = [] if kind == KEY else [dealer]
    result = stage.play(silent={"MASK": lost}).server.compute()
    assert result.sum.tolist() == stage.plain_sum(sorted(set(range(CLIENTS)) - set(lost)))


def test_a_share_that_is_not_canonical_is_bad_though_it_was_committed_to(monkeypatch: pytest.MonkeyPatch) -> None:
    """A dealer and a holder of one mind: she deals him an element above the prime, he takes it and returns it."""
    dealer, holder = 1, 0  # her first neighbour
    stage, encode = stage_in(ThreatModel.SEMI_HONEST, "SHARE"), secret_sharing.encode_shares

    def encode_badly(shares: np.ndarray) -> bytes:
        data = encode(shares)
        return not_canonical(data[:SHARE], b"") + data[SHARE:]

    with monkeypatch.context() as patch:
        patch.setattr(secret_sharing, "encode_shares", encode_badly)
        dealt = stage.answer(dealer)
    stage.deliver({dealer: dealt, **stage.answers(others(dealer))})
    stage.server.close_phase()
    with monkeypatch.context() as patch:
        patch.setattr(client_rules, "share_in_range", lambda *arguments: None)
        taken = stage.answer(holder)
    stage.deliver({holder: taken, **stage.answers(others(holder))})
    stage.server.close_phase()
    event, *events = stage.deliver(stage.answers())
    assert isinstance(event, Misbehaved)
    assert (event.sender, event.code, event.dealers) == (holder, ErrorCode.BAD_SHARE, (dealer,))
    assert {type(event) for event in events} == {Accepted}
    stage.server.close_phase()
    assert stage.server.compute().sum.tolist() == stage.plain_sum(range(CLIENTS))


def test_the_threshold_s_shares_open_and_one_less_does_not() -> None:
    """Any t of the shares that are returned for a secret give it; t - 1 of them give something else."""
    stage = stage_in(ThreatModel.SEMI_HONEST)
    stage.collect()
    threshold, dealer = stage.config.threshold, 2
    rows = {holder: openings(stage.sent["UNMASK"][holder])[dealer - (dealer > holder)] for holder in others(dealer)}
    shares = {holder: secret_sharing.decode_shares(record[:SHARE])[0] for holder, record in rows.items()}

    def reconstruct(holders: list[int]) -> list[int]:
        weights = secret_sharing.lagrange_at_zero(secret_sharing.points(holders))
        return secret_sharing.reconstruct(weights, np.array([shares[holder] for holder in holders])).tolist()

    first = reconstruct(others(dealer)[:threshold])
    assert first == reconstruct(others(dealer)[-threshold:])
    assert all(limb < 2**52 for limb in first)
    assert reconstruct(others(dealer)[: threshold - 1]) != first
