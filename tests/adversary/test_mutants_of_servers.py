"""Every rule taken out of an honest server, one at a time: a client's lie then ends the round, or spoils the sum."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import msgspec
import numpy as np
import pytest

from secagg import ErrorCode, Modulus, PeerError, Suite
from secagg.arithmetic import PackedLengthError, add_packed
from secagg.envelopes.parameters import EnvelopeParameters
from secagg.envelopes.scheme import EnvelopeError, add_envelope, open_sum
from secagg.pairwise.rules.table import RULES
from secagg.pairwise.transcript import KEY_SHARE
from secagg.primitives import aead
from secagg.primitives.suites import CryptoError
from secagg.testing.adversary import (
    BadShares,
    BrokenSecret,
    ClientLie,
    Coalition,
    CoalitionOutcome,
    FalseSignature,
    Garbage,
    Leaves,
    LimbOutOfRange,
    OtherSecret,
    WeakKeys,
    WrongLength,
    WrongSecret,
)
from tests.support import complaint_mutants, staging, wire
from tests.support import enveloped as enveloped_rounds
from tests.support.attack_stage import active, semi_honest
from tests.support.mutants import Patch, instead_of, without
from tests.support.staging import Stage

PLAIN, ACTIVE = semi_honest(7, 1, 2), active(7, 1, 2)
"""t = 5 and t = 4."""
STORIES: dict[str, Callable[[Patch], None]] = dict(complaint_mutants.SERVER_STORIES)


def story(name: str) -> Callable[[Callable[[Patch], None]], Callable[[Patch], None]]:
    def told(tell: Callable[[Patch], None]) -> Callable[[Patch], None]:
        STORIES[name] = tell
        return tell

    return told


def among_liars(liar: int, *lies: ClientLie, signed: bool = False) -> CoalitionOutcome:
    """A round in which one client lies to a server and clients that are honest."""
    return Coalition(ACTIVE if signed else PLAIN, liars={liar: lies}).run()


def blamed(outcome: CoalitionOutcome) -> set[tuple[int, ErrorCode]]:
    """Whom the server named, and for what."""
    return {(entry.sender, entry.code) for entry in outcome.blame}


def refused_by_clients(outcome: CoalitionOutcome) -> dict[int, ErrorCode]:
    """What the honest clients refused of the honest server's messages."""
    return {index: error.code for index, error in outcome.client_errors.items()}


def is_right(outcome: CoalitionOutcome) -> bool:
    """Whether there is a sum, and it is that of the vectors of those that it says are in it."""
    assert outcome.result is not None
    columns = zip(*(outcome.inputs[member, 0] for member in outcome.result.included), strict=True)
    return outcome.result.sum.tolist() == [sum(column) % PLAIN.modulus.value for column in columns]


def with_field(message: bytes, field: int, value: bytes) -> bytes:
    values = wire.read(message)
    values[field] = value
    return wire.write(values)


# -- Every message -----------------------------------------------------------------------------------------------------


@story("server.sender_invited")
def strangers_fill_the_memory(patch: Patch) -> None:
    """Whoever is not of the cohort sends ABORTs, each under another index: the server would remember them all."""
    stage = Stage(staging.semi_honest(5))
    leave = stage.join(0).abort()

    def growth() -> int:
        size = len(stage.server.snapshot())
        for stranger in range(10**6, 10**6 + 1000):
            stage.server.receive(stranger, leave)
        return len(stage.server.snapshot()) - size

    assert growth() == 0
    without("server.sender_invited")(patch)
    assert growth() > 1000


def test_bytes_that_are_no_message_end_everybodys_round(monkeypatch: Patch) -> None:
    assert is_right(among_liars(6, Garbage("SHARE", b"\xc1")))
    instead_of("wire.well_formed", lambda decode, data, versions: decode(data))(monkeypatch)
    with pytest.raises(msgspec.DecodeError):
        among_liars(6, Garbage("SHARE", b"\xc1"))


def test_a_message_of_a_later_phase_ends_everybodys_round(monkeypatch: Patch) -> None:
    stage = Stage(staging.semi_honest(5)).play("SHARE")
    session = wire.read(stage.answer(1))[2]
    early = wire.write([10, 1, session, b""])
    stage.server.receive(1, early)
    assert stage.server.failure is None
    without("wire.in_phase")(monkeypatch)
    with pytest.raises(RuntimeError, match="none of"):
        stage.server.receive(1, early)
    assert stage.server.failure is not None


# -- ADVERTISE ---------------------------------------------------------------------------------------------------------


@story("server.signature_sized")
def a_server_keeps_what_nobody_asked_for(patch: Patch) -> None:
    """Where nothing is signed, a client sends a signature as long as the longest message of the round."""
    config, junk = staging.semi_honest(5, 100_000), b"junk" * 40_000

    def keeps() -> bool:
        stage = Stage(config)
        stage.server.receive(1, with_field(stage.join(1).start(), 5, junk))
        return junk in stage.server.snapshot()

    assert not keeps()
    without("server.signature_sized")(patch)
    assert keeps()


@story("server.advertised_keys_usable")
def everybody_refuses_a_weak_key(patch: Patch) -> None:
    outcome = among_liars(6, WeakKeys())
    assert blamed(outcome) == {(6, ErrorCode.KEY_UNUSABLE)}
    assert is_right(outcome)
    without("server.advertised_keys_usable")(patch)
    outcome = among_liars(6, WeakKeys())
    assert refused_by_clients(outcome) == dict.fromkeys(range(6), ErrorCode.ROSTER_KEYS)
    assert outcome.result is None


@story("server.advertised_keys_new")
def everybody_refuses_a_key_in_two_places(patch: Patch) -> None:
    """Client 1 advertises client 0's channel key."""

    def advertised() -> Stage:
        stage = Stage(staging.semi_honest(5))
        answers = stage.answers()
        answers[1] = with_field(answers[1], 3, wire.read(answers[0])[3])
        stage.deliver(answers)
        stage.server.close_phase()
        return stage

    assert advertised().finish().included == (0, 2, 3, 4)
    without("server.advertised_keys_new")(patch)
    stage = advertised()
    for index in range(2, 5):
        with pytest.raises(PeerError, match="one public key in two places"):
            stage.answer(index)


@story("server.advertisement_signed")
def everybody_refuses_a_key_that_is_not_signed(patch: Patch) -> None:
    outcome = among_liars(6, FalseSignature("ADVERTISE"), signed=True)
    assert blamed(outcome) == {(6, ErrorCode.BAD_SIGNATURE)}
    assert is_right(outcome)
    without("server.advertisement_signed")(patch)
    outcome = among_liars(6, FalseSignature("ADVERTISE"), signed=True)
    assert refused_by_clients(outcome) == dict.fromkeys(range(6), ErrorCode.ROSTER_SIGNATURE)
    assert outcome.result is None


HYBRID = semi_honest(7, 1, 2, suite=Suite.HYBRID, version=2)
"""t = 5; client 6 is the sealer for 0, 2 and 4."""


# -- SHARE to CONFIRM --------------------------------------------------------------------------------------------------


@story("server.shares_sized")
def a_share_too_few_ends_everybodys_round(patch: Patch) -> None:
    assert is_right(among_liars(6, WrongLength("SHARE", -64)))
    without("server.shares_sized")(patch)
    with pytest.raises(ValueError, match="reshape"):
        among_liars(6, WrongLength("SHARE", -64))


@story("server.vector_added")
def a_vector_too_short_ends_everybodys_round(patch: Patch) -> None:
    assert is_right(among_liars(6, WrongLength("MASK", -1)))

    def add(total: np.ndarray, packed: memoryview, modulus: Modulus) -> None:
        add_packed(total, packed, modulus)

    instead_of("server.vector_added", add)(patch)
    with pytest.raises(PackedLengthError):
        among_liars(6, WrongLength("MASK", -1))


def enveloped(change: enveloped_rounds.Change) -> enveloped_rounds.Tampering:
    """A round with envelopes in which client 4 sends something else before the right one."""
    return enveloped_rounds.Tampering(enveloped_rounds.config_of(), {4: change}, repeat=True)


def is_right_sum(driver: enveloped_rounds.Tampering) -> bool:
    everybody = tuple(range(enveloped_rounds.CLIENTS))
    return driver.server.compute().sum.tolist() == enveloped_rounds.sum_over(driver.config, everybody)


@story("server.masked_input_sized")
def a_masked_key_alone_ends_everybodys_round(patch: Patch) -> None:
    driver = enveloped(lambda vector: vector[:100])
    driver.play_phases()
    assert is_right_sum(driver)
    without("server.masked_input_sized")(patch)
    instead_of("server.envelope_added", scheme_adds)(patch)
    with pytest.raises(EnvelopeError, match="an envelope of 0 bytes"):
        enveloped(lambda vector: vector[:100]).play_phases()


def scheme_adds(total: np.ndarray, envelope: memoryview, parameters: EnvelopeParameters) -> None:
    """Add an envelope as it comes."""
    add_envelope(parameters, total, envelope)


@story("server.envelope_added")
def a_residue_out_of_range_ends_everybodys_round(patch: Patch) -> None:
    driver = enveloped(enveloped_rounds.residue_of_ones)
    driver.play_phases()
    assert is_right_sum(driver)
    instead_of("server.envelope_added", scheme_adds)(patch)
    with pytest.raises(EnvelopeError, match="it must be below"):
        enveloped(enveloped_rounds.residue_of_ones).play_phases()


@story("server.envelopes_opened")
def another_envelope_makes_the_sum_wrong(patch: Patch) -> None:
    config = enveloped_rounds.config_of()
    driver = enveloped_rounds.Tampering(config, {4: enveloped_rounds.other_envelope(config)})
    driver.play_phases()
    with pytest.raises(PeerError, match="there is no sum"):
        driver.server.compute()
    again = enveloped_rounds.Tampering(config, {4: enveloped_rounds.other_envelope(config)})
    again.play_phases()

    def open_with_any_noise(parameters: EnvelopeParameters, *given: Any) -> np.ndarray:
        return open_sum(replace(parameters, clients=2**40), *given)

    instead_of("server.envelopes_opened", open_with_any_noise)(patch)
    assert not is_right_sum(again)


@story("server.confirmation_signed")
def everybody_refuses_a_confirmation_that_is_no_signature(patch: Patch) -> None:
    """The liar has the lowest index: its confirmation is among the quorum's that is sent round."""
    outcome = among_liars(0, FalseSignature("CONFIRM"), signed=True)
    assert blamed(outcome) == {(0, ErrorCode.BAD_SIGNATURE)}
    assert is_right(outcome)
    without("server.confirmation_signed")(patch)
    outcome = among_liars(0, FalseSignature("CONFIRM"), signed=True)
    assert refused_by_clients(outcome) == dict.fromkeys(range(1, 7), ErrorCode.CONFIRM_SIGNATURE)
    assert outcome.result is None


# -- UNMASK and COMPUTE ------------------------------------------------------------------------------------------------


@story("server.openings_sized")
def an_opening_too_few_ends_everybodys_round(patch: Patch) -> None:
    assert is_right(among_liars(6, WrongLength("UNMASK", -72)))
    without("server.openings_sized")(patch)
    with pytest.raises(ValueError, match="shape"):
        among_liars(6, WrongLength("UNMASK", -72))


@story("server.attachment_sized")
def a_server_keeps_an_attachment_that_nobody_asked_for(patch: Patch) -> None:
    """In version 2 of the wire, in a round without attachments."""
    config, junk = staging.semi_honest(5, 100_000, version=2), b"junk" * 40_000

    def keeps() -> bool:
        stage = Stage(config).play("UNMASK")
        stage.server.receive(1, with_field(stage.answer(1), 4, junk))
        return junk in stage.server.snapshot()

    assert not keeps()
    without("server.attachment_sized")(patch)
    assert keeps()


@story("server.openings_committed")
def a_dealer_is_blamed_for_what_a_holder_made_of_its_share(patch: Patch) -> None:
    """Client 1 returns another share of client 0's seed than it was dealt."""
    outcome = among_liars(1, BadShares((0,)))
    assert blamed(outcome) == {(1, ErrorCode.BAD_SHARE)}
    assert is_right(outcome)
    instead_of("server.openings_committed", lambda canonical, commitments, expected: np.ones_like(canonical))(patch)
    outcome = among_liars(1, BadShares((0,)))
    assert blamed(outcome) == {(0, ErrorCode.BAD_DEALER)}
    assert outcome.result is None


@story("server.bad_openings")
def nobody_hears_who_returns_bad_shares(patch: Patch) -> None:
    assert blamed(among_liars(1, BadShares((0,)))) == {(1, ErrorCode.BAD_SHARE)}
    without("server.bad_openings")(patch)
    assert blamed(among_liars(1, BadShares((0,)))) == set()


@story("server.secret_in_range")
def a_number_out_of_range_makes_the_server_fall_over(patch: Patch) -> None:
    assert blamed(among_liars(6, LimbOutOfRange())) == {(6, ErrorCode.BAD_DEALER)}
    instead_of("server.secret_in_range", lambda secret, dealer: secret)(patch)
    with pytest.raises(TypeError):
        among_liars(6, LimbOutOfRange())


@story("server.seed_committed")
def another_seed_makes_the_sum_wrong(patch: Patch) -> None:
    outcome = among_liars(6, WrongSecret())
    assert blamed(outcome) == {(6, ErrorCode.BAD_DEALER)}
    assert outcome.result is None
    without("server.seed_committed")(patch)
    assert not is_right(among_liars(6, WrongSecret()))


@story("server.masking_key_advertised")
def another_masking_key_makes_the_sum_wrong(patch: Patch) -> None:
    """The liar is lost in MASK, so that its masking key is what is opened."""
    outcome = among_liars(6, WrongSecret(KEY_SHARE), Leaves("MASK"))
    assert blamed(outcome) == {(6, ErrorCode.BAD_DEALER)}
    assert outcome.result is None
    without("server.masking_key_advertised")(patch)
    assert not is_right(among_liars(6, WrongSecret(KEY_SHARE), Leaves("MASK")))


@story("server.secret_recovered")
def a_secret_that_does_not_open_makes_the_server_fall_over(patch: Patch) -> None:
    """The liar's secret for client 4 is noise, and client 4 is lost in MASK: it cannot be opened with 4's root."""
    coalition = Coalition(HYBRID, liars={6: (BrokenSecret((4,)),)}, fates={4: "SHARE"})
    outcome = coalition.run()
    assert blamed(outcome) == {(6, ErrorCode.BAD_DEALER)}
    assert outcome.result is None
    assert outcome.failure is not None
    assert outcome.failure.culprit == (6,)

    def unseal(suite: Suite, key: bytes, sealed: bytes, context: bytes, sealer: int) -> bytes:
        return aead.unseal(suite, key, sealed, context)

    instead_of("server.secret_recovered", unseal)(patch)
    with pytest.raises(CryptoError):
        coalition.run()


@story("server.secret_committed")
def another_pair_secret_makes_the_sum_wrong(patch: Patch) -> None:
    """The liar's secrets do not follow from its root; it is lost in MASK, so that they are derived from that."""
    coalition = Coalition(HYBRID, liars={6: (OtherSecret((0, 2, 4)), Leaves("MASK"))})
    outcome = coalition.run()
    assert blamed(outcome) == {(6, ErrorCode.BAD_DEALER)}
    assert outcome.result is None
    without("server.secret_committed")(patch)
    assert not is_right(coalition.run())


@pytest.mark.parametrize("name", STORIES)
def test_without_the_rule_the_round_goes_wrong(name: str, monkeypatch: Patch) -> None:
    STORIES[name](monkeypatch)


def test_every_rule_of_a_server_has_a_mutant() -> None:
    assert sorted(STORIES) == sorted(name for rule in RULES for name in rule.functions if name.startswith("server."))
