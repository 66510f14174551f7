"""Complaints in the hybrid suite: a dealer is at fault for a pair secret as it is for a pair, and opens both."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from secagg import Client, ErrorCode, PeerError, RoundConfig, Server
from secagg.pairwise import messages, records
from secagg.pairwise.client import dealing
from secagg.pairwise.hybrid import KeyPair
from secagg.pairwise.messages import Accusations, Settled, SharesWithSecrets
from secagg.pairwise.phases import Phase
from secagg.pairwise.server import opening
from secagg.primitives import agreement
from secagg.simulation.driver import RoundDriver
from secagg.testing.adversary import (
    AnswersWrongly,
    BrokenSecret,
    ClientLie,
    Coalition,
    CoalitionOutcome,
    FlipsSealed,
    Leaves,
    OtherSecret,
    known_cohort,
)
from tests.support.attack_stage import active, semi_honest
from tests.support.complaint_rounds import blamed, check_sum, with_shares

ACTIVE = active(7, 1, 2, version=2, complaints="auto", suite="hybrid")
PLAIN = semi_honest(7, 1, 2, version=2, complaints="auto", suite="hybrid")
BOTH = pytest.mark.parametrize("config", [ACTIVE, PLAIN], ids=["active", "semi_honest"])
LIAR = 6
SEALED_FOR, NOT_SEALED_FOR = 2, 3
"""On a complete graph the liar is the sealer for the even members (R-HYBRID-6)."""


def played(config: RoundConfig, *lies: ClientLie, **options: Any) -> CoalitionOutcome:
    return Coalition(config, liars={LIAR: lies}, **options).run()


def check_all(outcome: CoalitionOutcome, config: RoundConfig, included: set[int]) -> None:
    """The sum is right, and of honest vectors nothing but their whole sum opens."""
    check_sum(outcome, config, included)
    honest = {member for member in range(7) if member != LIAR}
    assert {opening.clients for opening in outcome.openings} == {frozenset(included & honest)}


PARTS = pytest.mark.parametrize("part", ["ciphertext", "sealed", "commitment"])


@BOTH
@PARTS
def test_a_sealer_of_bad_pair_secrets_is_named_and_the_round_goes_on(config: RoundConfig, part: str) -> None:
    outcome = played(config, BrokenSecret(tuple(range(7)), part))
    check_all(outcome, config, set(range(6)))
    assert blamed(outcome) == {(LIAR, ErrorCode.DISPUTED)}
    assert outcome.client_errors == {}


def test_without_complaints_the_same_sealer_makes_its_holders_leave() -> None:
    outcome = played(ACTIVE.replace(complaints=0), BrokenSecret(tuple(range(7))))
    assert outcome.result is None
    assert outcome.blame == ()
    assert {error.code for error in outcome.client_errors.values()} == {ErrorCode.SECRET_UNSEALABLE}


def bad_pair(kind: str) -> ClientLie:
    """What the liar sends the holder does not open: the pair, or the pair secret."""
    return FlipsSealed((SEALED_FOR,)) if kind == "pair" else BrokenSecret((SEALED_FOR,), kind)


WHAT_IS_BAD = pytest.mark.parametrize("bad", ["pair", "ciphertext", "sealed"])


@BOTH
@WHAT_IS_BAD
def test_the_holder_masks_with_the_opened_pair_secret(config: RoundConfig, bad: str) -> None:
    outcome = played(config, bad_pair(bad))
    check_all(outcome, config, set(range(7)))
    assert outcome.client_errors == {}
    assert outcome.blame == ()


@BOTH
@WHAT_IS_BAD
def test_a_holder_is_lost_whose_pair_secret_was_opened(config: RoundConfig, bad: str) -> None:
    """R-COMPLAIN-14: the record that would give its secret to the server does not open, and nobody is to blame."""
    outcome = played(config, bad_pair(bad), fates={SEALED_FOR: "COMPLAIN"})
    check_all(outcome, config, set(range(7)) - {SEALED_FOR})
    assert outcome.blame == ()


def test_what_a_job_knows_of_a_lost_holder_hides_the_opened_pair_secret(monkeypatch: pytest.MonkeyPatch) -> None:
    """The owners in a job show none of it either, when a log or a failed assertion shows one apart from its job."""
    jobs: list[opening.Job] = []
    keys_of = opening.open_secrets
    monkeypatch.setattr(opening, "open_secrets", lambda job: jobs.append(job) or keys_of(job))
    played(ACTIVE, bad_pair("sealed"), fates={SEALED_FOR: "COMPLAIN"})
    (lost,) = [owner for job in jobs for owner in job.owners if isinstance(owner, opening.Lost)]
    assert [len(secret) for secret in lost.opened_secrets if secret] == [32]
    assert (repr(lost), f"{lost}") == ("<Lost 2>", "<Lost 2>")


@BOTH
def test_a_sealer_is_lost_whose_pair_secret_was_opened(config: RoundConfig) -> None:
    outcome = played(config, bad_pair("sealed"), Leaves("MASK"), fates={5: "MASK"})
    check_all(outcome, config, {0, 1, 2, 3, 4, 5})
    assert outcome.blame == ()


def test_a_lost_sealer_that_opened_another_secret_than_its_root_makes_is_named() -> None:
    """It sealed, committed to and opened one of its own choice; nothing that the holder or ANSWER checks tells."""
    outcome = played(ACTIVE, OtherSecret((SEALED_FOR,)), FlipsSealed((SEALED_FOR,)), Leaves("MASK"))
    assert outcome.client_errors == {}
    assert outcome.result is None
    assert blamed(outcome) == {(LIAR, ErrorCode.BAD_DEALER)}


@BOTH
@pytest.mark.parametrize(
    ("lie", "at"), [(bad_pair("pair"), -1), (bad_pair("commitment"), 0), (FlipsSealed((NOT_SEALED_FOR,)), -1)]
)
def test_a_wrong_pair_secret_is_no_answer(config: RoundConfig, lie: ClientLie, at: int) -> None:
    """Nor are other bytes than zeros where the dealer sealed none."""
    outcome = played(config, lie, *([AnswersWrongly(at)] if at else []))
    check_all(outcome, config, set(range(6)))
    assert blamed(outcome) == {(LIAR, ErrorCode.BAD_ANSWER)}


def decoded(data: bytes) -> Any:
    return messages.to_client.decode(data, len(data), 2, ACTIVE.suite.agreement)


def with_bad_secret(data: bytes) -> bytes:
    """The same Shares, with one bit turned in the first pair secret."""
    shares = decoded(data)
    assert isinstance(shares, SharesWithSecrets)
    turned = bytes((shares.pair_secrets[0] ^ 1,)) + shares.pair_secrets[1:]
    return messages.encode(msgspec.structs.replace(shares, pair_secrets=turned))


def test_a_server_that_alters_a_pair_secret_gets_no_signature_that_its_sealer_takes() -> None:
    """The pair itself came unaltered, so that the digest tells the two apart by the pair secret alone."""
    driver, outgoing = with_shares(ACTIVE)
    (complaint,) = driver.clients[2].receive(with_bad_secret(outgoing[2])).outgoing
    message: Any = messages.to_server.decode(complaint, 10**6, 2, ACTIVE.suite.agreement)
    (sealer,) = messages.decode_ids(message.dealers)
    driver.clients[sealer].receive(outgoing[sealer])
    accusations = Accusations(2, message.session, messages.encode_ids([2]), message.signatures)
    with pytest.raises(PeerError) as refused:
        driver.clients[sealer].receive(messages.encode(accusations))
    assert refused.value.code is ErrorCode.ACCUSATION_SIGNATURE


@pytest.mark.parametrize(
    ("config", "code"), [(ACTIVE, ErrorCode.ANSWER_SIGNATURE), (PLAIN, ErrorCode.SECRET_COMMITMENT)]
)
def test_a_holder_takes_no_other_pair_secret_than_the_sealer_committed_to(config: RoundConfig, code: ErrorCode) -> None:
    def wire(phase: str, index: int, data: bytes) -> bytes:
        message = decoded(data)
        if index != SEALED_FOR or not isinstance(message, Settled):
            return data
        assert len(message.pairs) == records.opened_bytes(config.suite) == 176
        return messages.encode(msgspec.structs.replace(message, pairs=message.pairs[:-1] + b"\0"))

    outcome = played(config, bad_pair("sealed"), wire=wire, seed=3)
    assert {index: (error.code, error.culprit) for index, error in outcome.client_errors.items()} == {
        SEALED_FOR: (code, (LIAR,))
    }


def test_an_honest_dealer_opens_no_pair_secret_where_it_is_not_the_sealer() -> None:
    """Zeros stand there, whatever it would derive: the mask of that pair is the other one's secret."""
    driver, outgoing = with_shares(ACTIVE)
    replaced = decoded(outgoing[3])
    boxes = records.cut(replaced.sealed, records.sealed_bytes(ACTIVE.suite))
    client: Any = driver.clients[3]
    dealt_by_it = records.cut(client._record.dealt.reveal(), 176)
    present = client._record.present
    assert len(boxes) == len(dealt_by_it) == 6
    for neighbour, opened in zip(present, dealt_by_it, strict=True):
        assert (opened[144:] == bytes(32)) == (neighbour in client._record.sealers)


class StoredRound(RoundDriver):
    """Members and server are suspended and resumed between all phases; ``lost`` sends no vector."""

    lost: int | None = None

    def hand_in(self, phase: str, index: int, message: bytes) -> None:
        if not (phase == Phase.MASK and index == self.lost):
            super().hand_in(phase, index, message)

    def store(self, identities: Any, directory: Any) -> None:
        for index, client in self.clients.items():
            if isinstance(client, Client) and not client.done:
                self.clients[index] = Client.resume(
                    client.suspend(), lambda token: True, identity=identities[index], directory=directory
                )
        assert isinstance(self.server, Server)
        self.server = Server.restore(self.server.snapshot(), directory=directory)


@pytest.mark.parametrize("lost", [None, SEALED_FOR])
def test_members_and_server_are_stored_between_complaint_and_sum(
    monkeypatch: pytest.MonkeyPatch, lost: int | None
) -> None:
    """The holder comes back with what makes its mask, and the server with the pair secret that was opened."""
    seal = dealing.seal_secrets

    def sealing_badly(secrets: Any, neighbours: Any, sealing: Any) -> list[bytes]:
        made = seal(secrets, neighbours, sealing)
        if list(neighbours) == list(range(LIAR)):
            made[SEALED_FOR] = bytes((made[SEALED_FOR][0] ^ 1,)) + made[SEALED_FOR][1:]
        return made

    monkeypatch.setattr(dealing, "seal_secrets", sealing_badly)
    identities, directory, _ = known_cohort(7)
    vectors = [[index, 1, 2] for index in range(7)]
    driver = StoredRound(vectors, ACTIVE, seed=1, identities=identities, directory=directory)
    driver.lost = lost
    while not driver.server.ready_to_compute:
        driver.collect()
        driver.close()
        driver.store(identities, directory)
    result = driver.compute()
    assert result is not None
    assert set(result.included) == set(range(7)) - {lost}
    assert result.sum.tolist() == [sum(result.included), len(result.included), 2 * len(result.included)]


@pytest.mark.parametrize("config", [ACTIVE, PLAIN], ids=["active", "semi_honest"])
def test_who_solves_x25519_later_gains_one_mask_by_an_opened_pair_secret(
    config: RoundConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    """That of the liar and the holder, which the liar has anyway: the masks among honest clients stay."""
    monkeypatch.setattr(agreement.AgreementKey, "agree", lambda key, peer: bytes(32))
    outcome = played(config, bad_pair("sealed"))
    outcome.ledger.solver = KeyPair(config, bytes(32), 0, bytes(32), "masking")
    (view,) = [view for view in outcome.ledger.views if view.opened_secrets]
    assert (view.index, set(view.opened_secrets)) == (SEALED_FOR, {LIAR})
    assert {opening.clients for opening in outcome.ledger.openings()} == {frozenset(range(6))}
