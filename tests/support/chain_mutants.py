"""Chains with one rule taken out, and the lie that then succeeds: mostly a fake abort that opens a vector."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import msgspec
import numpy as np
import pytest

from secagg import AbortCode, ErrorCode, PeerError, Server
from secagg.arithmetic.packing import pack
from secagg.pairwise import certificate as certificates
from secagg.pairwise.certificate import NO_CERTIFICATE, Certificate
from secagg.testing.adversary import CertificateLie, ChainedCohort, FakeAbort, OtherKey, OtherTotal
from tests.support.mutants import instead_of, without

Patch = pytest.MonkeyPatch

VICTIM = 3
OTHERS = [0, 1, 2, 4, 5]
STORIES: dict[str, Callable[[Patch], None]] = {}


def story(name: str) -> Callable[[Callable[[Patch], None]], Callable[[Patch], None]]:
    def told(tell: Callable[[Patch], None]) -> Callable[[Patch], None]:
        STORIES[name] = tell
        return tell

    return told


def code_of(call: Callable[[], object]) -> ErrorCode | None:
    """The code with which the call is refused, if it is."""
    try:
        call()
    except PeerError as refused:
        return refused.code
    return None


class Lied:
    """A sum that was opened, and a server that asks for the same vectors again, but for the victim's."""

    def __init__(self) -> None:
        self.cohort = ChainedCohort()
        self.first = self.cohort.open()
        self.cohort.play(self.first, self.cohort.join(self.first, range(6)))

    def lie(self, lie: CertificateLie) -> bytes:
        """What the server says of the first round."""
        return lie.told(self.cohort.true_certificate(self.first), self.cohort.server)

    def refusals(self, told: Sequence[bytes]) -> set[ErrorCode | None]:
        """With what the others refuse the next round, behind these certificates."""
        lying = self.cohort.open(behind=told)
        return {code_of(lambda m=member: self.cohort.join(lying, [m])) for member in OTHERS}  # type: ignore[misc]

    def opens(self, told: Sequence[bytes]) -> bool:
        """Whether the server gets the victim's vector from the next round."""
        again = self.cohort.open(behind=told)
        # Whoever moved on moved in a copy: the refusals above came first.
        self.cohort.play(again, self.cohort.join(again, OTHERS))
        difference = self.first.compute().sum.astype(np.int64) - again.compute().sum.astype(np.int64)
        return bool((difference == 10**VICTIM).all())


@story("client.round_settled")
def nothing_is_said_of_the_round(patch: Patch) -> None:
    """No certificate at all: the next round stands behind the same one as the round before."""
    server = Lied()
    assert server.refusals([]) == {ErrorCode.CHAIN_UNSETTLED}
    without("client.round_settled")(patch)
    assert server.opens([])


@story("client.silent_enough")
def an_abort_that_nobody_states(patch: Patch) -> None:
    server = Lied()
    told = [server.lie(FakeAbort())]
    assert server.refusals(told) == {ErrorCode.CHAIN_UNSETTLED}
    without("client.silent_enough")(patch)
    assert server.opens(told)


@story("client.silence_signed")
def an_abort_with_statements_that_nobody_made(patch: Patch) -> None:
    server = Lied()
    told = [server.lie(FakeAbort(stated_by=tuple(range(6))))]
    assert server.refusals(told) == {ErrorCode.CHAIN_UNSETTLED}
    without("client.silence_signed")(patch)
    assert server.opens(told)


def any_certificate(decode: Callable[[bytes], Any], data: bytes, server: bytes, cohort: bytes) -> Any:
    """R-CHAIN-8: whoever signed it."""
    return decode(data)


@story("client.one_certificate")
def a_member_is_handed_another_total(patch: Patch) -> None:
    """It signed a receipt for a total; the certificate that goes into the chain has another one."""
    cohort = ChainedCohort()
    first = cohort.open()
    cohort.play(first, cohort.join(first, range(6)))
    true = Certificate.from_bytes(cohort.certify(first))
    total = first.compute().sum + 1
    digest = true.round_config.labels.sum_digest(true.session, pack(total, first.config.modulus))
    handed = OtherTotal(digest).told(true, cohort.server)
    cohort.chains[0].receive(handed, total, identity=cohort.identities[0], directory=cohort.directory)
    assert code_of(lambda: cohort.join(cohort.open(), [0])) is ErrorCode.CHAIN_UNSETTLED
    without("client.one_certificate")(patch)
    cohort.join(cohort.open(), [0])
    assert not cohort.chains[0].is_unsettled(cohort.digest)


@story("client.chain_certificate")
def a_certificate_that_the_server_did_not_sign(patch: Patch) -> None:
    """It tells the clients something that nobody can hold against the server later."""
    server = Lied()
    told = [server.lie(OtherKey())]
    assert server.refusals(told) == {ErrorCode.CHAIN_CERTIFICATE}
    instead_of("client.chain_certificate", any_certificate)(patch)
    assert server.opens(told)


@story("client.certified_once")
def a_round_has_two_certificates(patch: Patch) -> None:
    """A sum for those that answered, and for whoever reads on, an abort of the same round."""
    cohort = ChainedCohort()
    first = cohort.open(chain=b"")
    cohort.play(first, cohort.join(first, range(6)))
    true = Certificate.from_bytes(first.certificate(cohort.server))
    fake = msgspec.structs.replace(
        Certificate.from_bytes(FakeAbort().told(true, cohort.server)), previous=true.digest, number=true.number + 1
    )
    told = [true.to_bytes(), certificates.signed(fake, cohort.server).to_bytes()]
    assert code_of(lambda: cohort.join(cohort.open(behind=told), [0])) is ErrorCode.CHAIN_CERTIFICATE
    without("client.certified_once")(patch)
    cohort.join(cohort.open(behind=told), [0])
    assert cohort.chains[0].head(cohort.digest) == Certificate.from_bytes(told[1]).digest


@story("client.chain_linked")
def the_history_begins_again(patch: Patch) -> None:
    """The server forgets a certificate that its clients have seen."""
    cohort = ChainedCohort()
    first = cohort.open()
    cohort.play(first, cohort.join(first, range(6)))
    cohort.certify(first)
    cohort.join(cohort.open(), range(6))
    anew = cohort.open(chain=NO_CERTIFICATE, brought=())
    assert code_of(lambda: cohort.join(anew, [0])) is ErrorCode.CHAIN_BROKEN
    without("client.chain_linked")(patch)
    cohort.join(anew, [0])
    assert cohort.chains[0].head(cohort.digest) == NO_CERTIFICATE


@story("client.answered_in_turn")
def two_rounds_behind_one_certificate(patch: Patch) -> None:
    """One of them can be certified; of the other, nobody ever asks."""

    def both() -> tuple[dict[int, PeerError], Server]:
        cohort = ChainedCohort()
        one, two = cohort.open(), cohort.open()
        clients = [cohort.join(server, range(6)) for server in (one, two)]
        cohort.play(one, clients[0])
        return cohort.play(two, clients[1]), two

    errors, second = both()
    assert {error.code for error in errors.values()} == {ErrorCode.CHAIN_UNSETTLED}
    without("client.answered_in_turn")(patch)
    errors, second = both()
    assert errors == {}
    assert second.failure is None


@story("client.not_disclaimed")
def a_round_that_is_opened_after_its_abort(patch: Patch) -> None:
    """The members state that they did not answer; copies of them, which a backup brought back, do answer."""

    def stated() -> tuple[ChainedCohort, dict[int, bytes]]:
        cohort, held = ChainedCohort(), {}
        server = cohort.open()
        clients = cohort.join(server, range(6))
        cohort.play(server, clients, answering=(), held=held)
        for client in clients.values():
            client.abort(AbortCode.CANCELLED)
            client.disclaim()
        return cohort, held

    cohort, held = stated()
    assert {code_of(lambda m=m: cohort.copies[m].receive(held[m])) for m in held} == {  # type: ignore[misc]
        ErrorCode.CHAIN_DISCLAIMED
    }
    without("client.not_disclaimed")(patch)
    cohort, held = stated()
    assert all(cohort.copies[member].receive(held[member]).outgoing for member in held)
