"""Chained rounds over real sockets, which end in UNMASK when enough members do not answer."""

from __future__ import annotations

import asyncio
from collections.abc import Collection
from contextlib import AbstractAsyncContextManager
from pathlib import Path
from typing import Any

import numpy as np

from secagg import Identity, Policy, ThreatModel
from secagg.adapters.net.certifying import Certifier
from secagg.adapters.net.member import Member
from secagg.adapters.net.round_spec import PHASES, RoundSpec
from secagg.certificate_files import CertificateFiles
from secagg.cli.serve_run import chained_spec
from secagg.pairwise.client.chaining import Chain
from tests.support.hosting import CLIP, SHAPES, Hosting, hosting, spec_of

STATEMENT_SECONDS = 50.0


class ChainOverNetwork:
    """A cohort whose members keep chains, and a server whose certificates are in a folder."""

    def __init__(self, folder: Path, tls: Path, clients: int = 4, **config: Any) -> None:
        self.folder, self.tls, self.clients, self.config = folder, tls, clients, config
        self.identities = [Identity.generate() for _ in range(clients)]
        self.server = Identity.generate()
        self.chains = [Chain(self.server.public_key) for _ in range(clients)]
        self.asleep: set[int] = set()
        """Members whose machines sleep when UNMASK begins."""

    @property
    def files(self) -> CertificateFiles:
        """The chain so far."""
        return CertificateFiles(self.folder / "certificates")

    def spec(self, name: str) -> RoundSpec:
        """A round behind the certificates so far."""
        plain = spec_of(self.clients, name=name, identities=self.identities, active=True, **self.config)
        deadlines = {**dict.fromkeys(PHASES, 20.0), "STATEMENTS": STATEMENT_SECONDS}
        return chained_spec(
            RoundSpec(
                name=name,
                config=plain.config,
                layout=plain.layout,
                deadlines=deadlines,
                keys=plain.keys,
                directory=plain.directory,
            ),
            self.files,
        )

    def hosting(self, spec: RoundSpec, **options: Any) -> AbstractAsyncContextManager[Hosting]:
        """Host one round; its journal is in a folder of its own."""
        folder = self.folder / spec.name
        folder.mkdir(exist_ok=True)
        certifier = options.pop("certifier", Certifier(self.server, self.files))
        return hosting([spec], folder, self.tls, certifier=certifier, **options)

    def member(self, running: Hosting, spec: RoundSpec, number: int, **options: Any) -> Member:
        """A member; while it is in ``asleep``, what the server says from UNMASK on does not get to it."""
        rng = np.random.default_rng([number, *spec.name.encode()])
        arrays = {name: rng.uniform(-CLIP, CLIP, shape).astype(np.float32) for name, shape in SHAPES.items()}
        member = running.member(
            number,
            **{
                "name": spec.name,
                "arrays": arrays,
                "identity": self.identities[number],
                "directory": spec.directory,
                "chain": self.chains[number],
                "policy": Policy(threat_model=ThreatModel.ACTIVE, gamma=0.2, min_survivors=3, require_chain=True),
                "give_up_seconds": 500.0,
                **options,
            },
        )
        take = member._steps.take

        def take_unless_asleep(seat: int, phase: str, data: bytes) -> Any:
            if phase == "UNMASK" and number in self.asleep:
                raise OSError("the machine sleeps")
            return take(seat, phase, data)

        state_silence = member._steps.state_silence

        def state_unless_asleep() -> bool:
            if number in self.asleep:
                raise OSError("the machine sleeps")
            return bool(state_silence())

        member._steps.take, member._steps.state_silence = take_unless_asleep, state_unless_asleep
        return member

    def start(
        self, running: Hosting, spec: RoundSpec, members: Collection[int] | None = None, **options: Any
    ) -> dict[int, asyncio.Task[Any]]:
        """These members take part; everybody unless they are named."""
        numbers = range(self.clients) if members is None else members
        return {number: asyncio.create_task(self.member(running, spec, number, **options).run()) for number in numbers}
