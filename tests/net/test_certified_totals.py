"""A total and the certificate that comes with it: what a member that keeps a chain makes of both."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest

from secagg import ErrorCode, Identity, ParameterError, PeerError, Policy, Server
from secagg.adapters.net.ending import Ending, Outbound
from secagg.adapters.net.hosted import HostedRound
from secagg.adapters.net.membership import Total
from secagg.adapters.net.receipts import CertifiedTotal, ContradictionError, certified_total
from secagg.arithmetic import pack
from secagg.audit import audit, check_contradiction, prove_contradiction
from secagg.certificate_files import read_certificates, read_receipts
from secagg.cli.receipt_files import check_receipts, keep_proof, show_certified, write_certified
from secagg.errors import CertificateError, StateError
from secagg.pairwise import certificate as certificates
from secagg.pairwise.certificate import Certificate
from secagg.testing.adversary.chained import ChainedCohort
from tests.support.aborted_rounds import ChainOverNetwork
from tests.support.moved_clock import run

CLIENTS = 4


def another_total(cohort: ChainOverNetwork | ChainedCohort, data: bytes, total: Any) -> bytes:
    """What the same server would have signed for another total of the round."""
    true = Certificate.from_bytes(data)
    digest = true.round_config.labels.sum_digest(true.session, pack(total, true.round_config.modulus))
    (opened,) = true.sums
    lie = msgspec.structs.replace(true, sums=(msgspec.structs.replace(opened, digest=digest),))
    return certificates.signed(lie, cohort.server).to_bytes()


def other(total: Any) -> Any:
    """Another total of as many elements."""
    changed = np.array(total)
    changed[0] ^= 1
    return changed


@pytest.fixture
def lying(monkeypatch: pytest.MonkeyPatch) -> Callable[[Callable[[Ending], Ending]], None]:
    """Makes servers hand out another ending than the true one."""
    honest = HostedRound._farewell

    def lie(change: Callable[[Ending], Ending]) -> None:
        def farewell(self: HostedRound, index: int, ending: Ending) -> Outbound:
            return honest(self, index, change(ending))

        monkeypatch.setattr(HostedRound, "_farewell", farewell)

    return lie


def certified(total: Total) -> CertifiedTotal:
    assert total.certified is not None
    return total.certified


def test_every_member_gets_the_certificate_and_signs_a_receipt(tmp_path: Path, tls_folder: Path) -> None:
    """Also the one that comes when the server was started again: its journal has the certificate."""

    async def test() -> None:
        cohort = ChainOverNetwork(tmp_path, tls_folder)
        spec = cohort.spec("first")
        async with cohort.hosting(spec) as running:
            port = running.port
            members = cohort.start(running, spec)
            totals = await asyncio.gather(*members.values())
        async with cohort.hosting(spec, port=port, certifier=None) as running:
            totals.append(await cohort.member(running, spec, 2).run())
        (data,) = read_certificates([tmp_path / "certificates"])
        for total in totals:
            found = certified(total)
            assert found.certificate is not None
            assert found.certificate.to_bytes() == data
            assert found.why_none == ""
            write_certified(tmp_path, found)
            write_certified(tmp_path, found)
        assert [file.name for file in sorted(tmp_path.glob("*.receipt"))] == [
            f"00000000.member-{member}.receipt" for member in range(CLIENTS)
        ]
        history = audit([data], directory=spec.directory, receipts=read_receipts([tmp_path]))
        assert history.rounds[0].receipts == (0, 1, 2, 3)
        assert read_certificates([tmp_path]) == [data]

    run(test)


def test_a_member_that_did_not_answer_compares_and_signs_nothing(tmp_path: Path, tls_folder: Path) -> None:
    """It is in the sum all the same; and so is one that has gone on to the next round before it asks for its total."""

    async def test() -> None:
        cohort = ChainOverNetwork(tmp_path, tls_folder, delta=0.25)
        cohort.asleep = {3}
        spec = cohort.spec("first")
        async with cohort.hosting(spec) as running:
            port = running.port
            members = cohort.start(running, spec)
            await running.until("UNMASK", 3, "first")
            running.end_phase("first")
            totals = await asyncio.gather(*members.values())
        assert [certified(total).receipt is None for total in totals] == [False, False, False, True]
        assert "has not answered in the round" in certified(totals[3]).why_none
        cohort.asleep = set()
        second = cohort.spec("second")
        async with cohort.hosting(second) as running:
            await asyncio.gather(*cohort.start(running, second).values())
        async with cohort.hosting(spec, port=port) as running:
            late = certified(await cohort.member(running, spec, 0).run())
        assert late.receipt is None
        assert late.certificate is not None
        assert "has joined a later one since" in late.why_none

    run(test)


def test_a_total_without_a_certificate(
    tmp_path: Path, tls_folder: Path, lying: Callable[..., None], capsys: pytest.CaptureFixture[str]
) -> None:
    """The member takes it, signs nothing, and says so; a member without a chain hears nothing of it."""

    async def test() -> None:
        cohort = ChainOverNetwork(tmp_path, tls_folder)
        spec = cohort.spec("first")
        lying(lambda ending: msgspec.structs.replace(ending, certificate=b""))
        async with cohort.hosting(spec) as running:
            totals = await asyncio.gather(*cohort.start(running, spec).values())
        found = certified(totals[0])
        assert (found.certificate, found.receipt) == (None, None)
        assert all(chain.answered(spec.config.cohort)[1] == b"" for chain in cohort.chains)
        write_certified(tmp_path / "receipts", found)
        assert not (tmp_path / "receipts").exists()
        assert show_certified(tmp_path, found) == {"certificate": None, "receipt": None}
        assert capsys.readouterr().err.startswith("Warning: no receipt: the server handed out no certificate with the")
        assert show_certified(tmp_path, None) == {}

    run(test)


@pytest.mark.parametrize(
    ("lie", "says"),
    [
        ("total", "the total of group 0 is not the one that the server certified"),
        ("digest", "the total of group 0 is not the one that the server certified"),
        ("server", "signed it; this client knows"),
        ("bytes", "does not decode"),
        ("round", "it is of another round"),
        ("included", "its sums are over other members"),
        ("unsigned", "the signature is not the server's"),
    ],
)
def test_a_certificate_that_is_not_of_the_total(
    tmp_path: Path, tls_folder: Path, lying: Callable[..., None], lie: str, says: str
) -> None:
    """The member takes no such total, and has signed nothing; it takes the true one, when the server hands that out."""

    async def test() -> None:
        cohort = ChainOverNetwork(tmp_path, tls_folder, delta=0.25)
        spec = cohort.spec("first")
        config = spec.config

        def change(ending: Ending) -> Ending:
            true, data = Certificate.from_bytes(ending.certificate), ending.certificate
            match lie:
                case "total":
                    return msgspec.structs.replace(ending, packed=bytes(len(ending.packed)))
                case "digest":
                    nothing = np.zeros(config.length, config.modulus.dtype)
                    data = another_total(cohort, data, nothing)
                case "server":
                    data = certificates.signed(true, Identity.generate()).to_bytes()
                case "bytes":
                    data = data[:-1]
                case "round":
                    of_another = config.replace(context=bytes(32)).to_bytes()
                    data = certificates.signed(
                        msgspec.structs.replace(true, config=of_another), cohort.server
                    ).to_bytes()
                case "included":
                    return msgspec.structs.replace(ending, included=(0, 1, 2))
                case "unsigned":
                    data = data[:-1] + bytes([data[-1] ^ 1])
            return msgspec.structs.replace(ending, certificate=data)

        lying(change)
        async with cohort.hosting(spec) as running:
            port = running.port
            members = cohort.start(running, spec)
            ends = await asyncio.gather(*(members[number] for number in range(3)), return_exceptions=True)
            for end in ends:
                assert isinstance(end, PeerError), end
                assert end.code is ErrorCode.CHAIN_CERTIFICATE
                assert says in str(end)
        assert all(chain.answered(config.cohort)[1] == b"" for chain in cohort.chains[:3])
        lying(lambda ending: ending)
        async with cohort.hosting(spec, port=port) as running:
            assert certified(await cohort.member(running, spec, 0).run()).receipt is not None

    run(test, seconds=20.0)


def test_two_totals_for_one_round_are_a_proof(tmp_path: Path, tls_folder: Path, lying: Callable[..., None]) -> None:
    """The server signs a second certificate, for another total, and hands it to a member that comes again."""

    async def test() -> None:
        cohort = ChainOverNetwork(tmp_path, tls_folder)
        spec = cohort.spec("first")
        config = spec.config
        async with cohort.hosting(spec) as running:
            port = running.port
            totals = await asyncio.gather(*cohort.start(running, spec).values())
        second = other(totals[1].vector)
        receipts = tmp_path / "receipts"
        check_receipts(receipts)
        write_certified(receipts, certified(totals[1]))
        lying(
            lambda ending: msgspec.structs.replace(
                ending,
                packed=pack(second, config.modulus),
                certificate=another_total(cohort, ending.certificate, second),
            )
        )
        async with cohort.hosting(spec, port=port) as running:
            with pytest.raises(ContradictionError, match="another certificate of this round") as lie:
                await cohort.member(running, spec, 1).run()
        assert keep_proof(None, lie.value) == ""
        assert keep_proof(receipts, lie.value) == f"; {receipts / '00000000.contradiction'} is the second one"
        (first,) = read_certificates([receipts])
        proof = prove_contradiction(first, (receipts / "00000000.contradiction").read_bytes())
        assert check_contradiction(proof)

    run(test)


# What is compared, without a network.


class PlayedRound:
    """A chained round that is over, of which a member's host is handed the total and the certificate."""

    def __init__(self, **config: Any) -> None:
        self.cohort = ChainedCohort(24, neighbours="auto") if "groups" in config else ChainedCohort()
        self.server: Server = self.cohort.open(**config)
        policy = Policy(gamma=0.0, max_groups=2)
        clients = self.cohort.join(self.server, range(self.cohort.clients), policy=policy)
        assert self.cohort.play(self.server, clients) == {}
        self.result = self.server.compute()
        self.certificate = self.cohort.certify(self.server)

    def handed(self, **changes: Any) -> CertifiedTotal:
        """What member 0 makes of it."""
        given = {
            "data": self.certificate,
            "total": self.result.sum,
            "chain": self.cohort.chains[0],
            "config": self.server.config,
            "included": self.result.included,
            "without_surplus": False,
            "identity": self.cohort.identities[0],
            "directory": self.cohort.directory,
            **changes,
        }
        return certified_total(given.pop("data"), given.pop("total"), **given)


def test_no_receipt_for_a_total_without_unneeded_noise() -> None:
    """Neither total is the certificate's: the receipt would be for a sum that the member was not handed."""
    played = PlayedRound()
    found = played.handed(without_surplus=True, total=other(played.result.sum))
    assert found.receipt is None
    assert "took noise off" in found.why_none
    assert played.handed().receipt is not None


def test_no_receipt_for_the_sum_over_all_groups() -> None:
    played = PlayedRound(groups=2, min_group=8, delta=0.0)
    found = played.handed()
    assert found.receipt is None
    assert "the sum of each group" in found.why_none
    with pytest.raises(PeerError, match="over other members"):
        played.handed(included=played.result.included[1:])


def test_a_receipt_is_for_one_certificate() -> None:
    """The same one again gives the same receipt; a second one is kept as a proof, whatever its total is."""
    played = PlayedRound()
    first = played.handed().receipt
    assert first is not None
    again = played.handed().receipt
    assert again is not None
    assert again.to_bytes() == first.to_bytes()
    for total in (played.result.sum, other(played.result.sum)):
        with pytest.raises(ContradictionError) as lie:
            played.handed(data=another_total(played.cohort, played.certificate, other(played.result.sum)), total=total)
        assert prove_contradiction(played.certificate, lie.value.certificate)


def test_a_statement_is_checked_against_the_session_of_an_aborted_round() -> None:
    cohort = ChainedCohort()
    server = cohort.open()
    clients = cohort.join(server, range(6))
    cohort.play(server, clients, answering=[0])
    with pytest.raises(StateError, match="it is for a round with a roster that was aborted"):
        server.check_statement(1, bytes(64))
    server.abort()
    clients[1].abort()
    statement = clients[1].disclaim()
    server.check_statement(1, statement)
    for member, wrong in ((2, statement), (1, statement[:-1]), (1, bytes(64)), (1, b"")):
        with pytest.raises(CertificateError, match=f"the statement of member {member}"):
            server.check_statement(member, wrong)


# Files.


def test_a_directory_of_receipts_is_of_one_chain(tmp_path: Path) -> None:
    one, two = PlayedRound(), PlayedRound()
    write_certified(tmp_path, one.handed())
    with pytest.raises(ParameterError, match="give each chain a directory of its own"):
        write_certified(tmp_path, two.handed())
    assert read_certificates([tmp_path]) == [one.certificate]
    with pytest.raises(ParameterError, match="this is no directory"):
        check_receipts(next(tmp_path.glob("*.receipt")))


def test_what_is_said_of_a_receipt(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    found = PlayedRound().handed()
    assert found.certificate is not None
    digest = found.certificate.digest.hex()
    assert show_certified(None, found) == {"certificate": digest, "receipt": None}
    assert capsys.readouterr().err == f"the server signed this total, with the certificate {digest}\n"
    file = tmp_path / "00000000.member-0.receipt"
    assert show_certified(tmp_path, found) == {"certificate": digest, "receipt": str(file)}
    assert capsys.readouterr().err.startswith(f"{file}: the receipt for this total")
    without = replace(found, receipt=None, why_none="it rains")
    assert show_certified(tmp_path, without) == {"certificate": digest, "receipt": None}
    assert capsys.readouterr().err == "Warning: no receipt: it rains.\n"
