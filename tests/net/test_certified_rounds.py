"""The service certifies every round that ends, in the order in which they end."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from secagg import Identity, MemoryDirectory
from secagg.adapters.net.certifying import Certifier, spent_by
from secagg.adapters.net.frames import RefusedError
from secagg.audit import audit
from secagg.certificate_files import CertificateFiles, read_certificates
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
