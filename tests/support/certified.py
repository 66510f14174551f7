"""Small rounds that are played and certified, one behind the other."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from secagg import Identity, MemoryDirectory, RoundConfig, Server
from secagg.simulation import Faults, make_cohort
from secagg.simulation.rounds import Simulation

CLIENTS = 6


class CertifiedCohort:
    """A cohort, its server's identity, and the chain of its rounds so far."""

    def __init__(self, clients: int = CLIENTS, *, threat: str = "active") -> None:
        self.identities, self.directory, cohort = make_cohort(clients)
        self.clients, self.threat = clients, threat
        self.cohort = cohort if threat == "active" else b""
        self.server = Identity.generate()
        self.chain: list[bytes] = []

    def config(self, **changes: Any) -> RoundConfig:
        """A round of the cohort with vectors of five elements."""
        given = {
            "gamma": 0.1,
            "neighbours": "complete",
            "delta": 0.3,
            "threat_model": self.threat,
            "cohort": self.cohort,
            **changes,
        }
        return RoundConfig.for_cohort(self.clients, 5, **given)

    def play(self, fates: Mapping[int, str] | None = None, **changes: Any) -> Server:
        """A round to its end, with a sum or without, in which these clients are lost after their last message."""
        config = self.config(**changes)
        active = self.threat == "active"
        played = Simulation(
            lambda client: np.full(5, client + 1, dtype=config.modulus.dtype),
            config,
            faults=Faults(dict(fates or {})),
            identities=self.identities if active else (),
            directory=self.directory if active else None,
        )
        played.run()
        assert isinstance(played.server, Server)
        return played.server

    def certify(self, server: Server, **given: Any) -> bytes:
        """The round's certificate, behind those so far."""
        data = server.certificate(self.server, previous=self.chain[-1] if self.chain else b"", **given)
        self.chain.append(data)
        return data

    @property
    def keys(self) -> Sequence[bytes]:
        """The members' public keys."""
        return [identity.public_key for identity in self.identities]

    @property
    def vouching(self) -> MemoryDirectory | None:
        """The directory of an active cohort."""
        return self.directory if self.threat == "active" else None
