"""The service certifies every round that ends, in the order in which they end."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from secagg import ErrorCode, Identity, MemoryDirectory, PeerError, Policy, ThreatModel
from secagg.adapters.net.certifying import Certifier, spent_by
from secagg.adapters.net.frames import RefusedError
from secagg.audit import audit
from secagg.certificate_files import CertificateFiles, read_certificates
from secagg.cli.serve_run import chained_spec
from secagg.pairwise.client.chaining import Chain
from tests.support.hosting import hosting, spec_of
from tests.support.moved_clock import run


def test_each_round_that_ends_is_in_the_chain(tmp_path: Path, tls_folder: Path) -> None:
    run(lambda: two_rounds(tmp_path, tls_folder))


async def two_rounds(tmp_path: Path, tls_folder: Path) -> None:
    identities = [Identity.generate() for _ in range(3)]
    server = Identity.generate()
    certifier = Certifier(server, CertificateFiles(tmp_path / "certificates"))
    specs = [spec_of(3, name=name, identities=identities, active=True) for name in ("one", "two")]
    async with hosting(specs, tmp_path, tls_folder, certifier=certifier) as running:
        members = [
            running.member(number, name=name, identity=identities[number], directory=specs[0].directory)
            for name in ("one", "two")
            for number in range(3)
            if (name, number) != ("two", 2)
        ]
        running_members = [asyncio.create_task(member.run()) for member in members]
        await asyncio.gather(*running_members[:3])
        await running.until("ADVERTISE", 2, "two")
        running.end_phase("two")
        with pytest.raises(RefusedError):
            await asyncio.gather(*running_members[3:])
    assert specs[0].keys is not None
    history = audit(
        read_certificates([tmp_path / "certificates"]),
        directory=MemoryDirectory(specs[0].keys),
        server=server.public_key,
    )
    assert [(audited.name, audited.outcome) for audited in history.rounds] == [
        ("one", "sum"),
        ("two", "too-few-clients"),
    ]
    assert history.rounds[1].missing == (2,)
    assert all(audited.time for audited in history.rounds)


def test_a_round_that_failed_took_no_privacy() -> None:
    assert spent_by(spec_of(3), None) is None


def test_rounds_behind_each_other_over_the_network(tmp_path: Path, tls_folder: Path) -> None:
    run(lambda: chained_rounds(tmp_path, tls_folder))


async def chained_rounds(tmp_path: Path, tls_folder: Path) -> None:
    """Two rounds with everybody, and a third whose server has lost the second one's certificate."""
    identities = [Identity.generate() for _ in range(3)]
    server = Identity.generate()
    files = CertificateFiles(tmp_path / "certificates")
    chains = [Chain(server.public_key) for _ in range(3)]
    for name, folder in (("one", files), ("two", files), ("three", None)):
        if folder is None:
            (tmp_path / "certificates" / "00000001.certificate").unlink()
            folder = CertificateFiles(tmp_path / "certificates")
        plain = spec_of(3, name=name, identities=identities, active=True)
        spec = chained_spec(plain, folder)
        assert len(spec.certificates) == len(read_certificates([folder.folder])) if folder.last else True
        (tmp_path / name).mkdir()
        async with hosting([spec], tmp_path / name, tls_folder, certifier=Certifier(server, folder)) as running:
            members = [
                running.member(
                    number,
                    name=name,
                    identity=identities[number],
                    directory=spec.directory,
                    chain=chains[number],
                    policy=Policy(threat_model=ThreatModel.ACTIVE, gamma=0.2, min_survivors=3, require_chain=True),
                )
                for number in range(3)
            ]
            if name == "three":
                for member in members:
                    with pytest.raises(PeerError) as refused:
                        await member.run()
                    assert refused.value.code in (ErrorCode.CHAIN_UNSETTLED, ErrorCode.CHAIN_BROKEN)
                continue
            await asyncio.gather(*(member.run() for member in members))
    assert [audited.name for audited in audit([files.last], directory=plain.directory, partial=True).rounds] == ["two"]
