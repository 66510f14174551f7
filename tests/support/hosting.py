"""A service inside the test's own event loop, over real sockets, and members as tasks beside it."""

from __future__ import annotations

import socket
import ssl
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from secagg import Identity, MemoryDirectory, Policy, RoundConfig, ThreatModel
from secagg.adapters.net.ballot_layout import BallotLayout
from secagg.adapters.net.certificates import client_context, server_context
from secagg.adapters.net.certifying import Certifier
from secagg.adapters.net.frames import Progress
from secagg.adapters.net.journal import Journal
from secagg.adapters.net.keeping_apart import SumsApart
from secagg.adapters.net.member import Member
from secagg.adapters.net.membership import MemberOptions, Total
from secagg.adapters.net.round_spec import PHASES, RoundSpec
from secagg.adapters.net.score_keeping import ScoreKeeper
from secagg.adapters.net.service import Limits, Service
from secagg.adapters.net.store import ClientStore
from secagg.adapters.net.voting import Judging
from secagg.encoding.layout import Layout
from secagg.privacy.budget import Budget
from secagg.privacy.layout import AnyLayout, PrivateLayout
from secagg.privacy.terms import PrivacyTerms
from tests.support.moved_clock import MovedClock, eventually, the_clock

SHAPES = {"w": (4, 3), "b": (5,)}
CLIP = 2.0
LAYOUT = Layout.of(SHAPES, clip=CLIP, bits=18)


def spec_of(
    clients: int = 3,
    *,
    name: str = "default",
    active: bool = False,
    identities: Sequence[Identity] | None = None,
    seconds: float = 20.0,
    layout: AnyLayout | BallotLayout = LAYOUT,
    candidate: bytes = b"",
    **config: Any,
) -> RoundSpec:
    """A round; with identities, of a directory; without, open.  ``candidate`` is a ballot's."""
    encoder = layout.encoder()
    keys = None if identities is None else tuple(identity.public_key for identity in identities)
    directory = MemoryDirectory()
    digest = directory.add(keys) if keys is not None else b""
    own: dict[str, Any] = {}
    if isinstance(layout, PrivateLayout):
        attached = layout.terms.attachment_bytes
        own = {"modulus": encoder.modulus_for(clients), "version": 2 if attached else 1, "attachment_bytes": attached}
    agreed = RoundConfig.for_cohort(
        clients,
        encoder.length,
        threat_model="active" if active else "semi_honest",
        input_max=encoder.input_max,
        context=layout.digest(),
        cohort=digest if active else b"",
        **{"delta": 0.0, "min_survivors": 3 if clients < 5 else None, **own, **config},
    )
    deadlines = dict.fromkeys(PHASES, seconds)
    return RoundSpec(
        name=name,
        config=agreed,
        layout=layout,
        deadlines=deadlines,
        keys=keys,
        directory=directory,
        candidate=candidate,
    )


@dataclass
class Hosting:
    """A running service.  ``url`` lacks the round's name."""

    service: Service
    url: str
    port: int
    tls: ssl.SSLContext
    folder: Path
    door: socket.socket
    clock: MovedClock
    totals: dict[int, Any] = field(default_factory=dict)

    def member(
        self,
        number: int,
        *,
        name: str = "default",
        arrays: dict[str, Any] | Judging | None = None,
        policy: Policy | None = None,
        store: ClientStore | None = None,
        on_progress: Callable[[Progress], None] = lambda progress: None,
        on_terms: Callable[[PrivacyTerms], None] = lambda terms: None,
        **options: Any,
    ) -> Member:
        """A client with a state file of its own."""
        given = MemberOptions(
            **{
                "url": f"{self.url}/{name}",
                "tls": self.tls,
                "policy": policy or Policy(threat_model=ThreatModel.SEMI_HONEST, gamma=0.2, min_survivors=3),
                "give_up_seconds": 20.0,
                **options,
            }
        )
        return Member(
            given,
            store or ClientStore(self.folder / f"{name}{number}.state"),
            arrays_of(number) if arrays is None else arrays,
            on_total=lambda total: self.totals.__setitem__(number, total),
            on_progress=on_progress,
            on_terms=on_terms,
            clock=self.clock,
        )

    def hosted(self, name: str = "default") -> Any:
        """The hosted round."""
        return self.service.rounds[name]

    async def until(self, phase: str, arrived: int, name: str = "default") -> None:
        """Wait until so many have answered in a phase."""
        hosted = self.hosted(name)
        await eventually(lambda: hosted.phase == phase and hosted.progress().arrived == arrived)

    def end_phase(self, name: str = "default") -> None:
        """Let time pass to the deadline of the phase that is open."""
        self.clock.move(self.hosted(name).seconds_left + 0.001)


def arrays_of(number: int) -> dict[str, np.ndarray[Any, Any]]:
    """A member's input."""
    rng = np.random.default_rng(number)
    return {name: rng.uniform(-CLIP, CLIP, shape).astype(np.float32) for name, shape in SHAPES.items()}


def check_total(total: Total, members: Sequence[int]) -> None:
    """The total is the plain sum of these members' inputs."""
    bound = total.encoder.error_bound(total.mean.count, total.mean.weight) * total.mean.weight
    assert total.mean.count == len(members)
    for name in SHAPES:
        plain = np.sum([arrays_of(member)[name] for member in members], axis=0, dtype=np.float64)
        assert np.abs(total.mean.mean[name] * total.mean.weight - plain).max() <= bound


@asynccontextmanager
async def hosting(
    specs: Sequence[RoundSpec],
    folder: Path,
    tls_folder: Path,
    *,
    limits: Limits | None = None,
    port: int = 0,
    open_journal: Callable[[Path], Journal] = Journal,
    privacy_budget: Budget | None = None,
    certifier: Certifier | None = None,
    sums_apart: SumsApart | None = None,
    scores: ScoreKeeper | None = None,
) -> AsyncIterator[Hosting]:
    """Host rounds, in a time that the test moves; their journal is in the folder."""
    context, certificate = server_context(tls_folder / "server.pem", tls_folder / "server.key")
    journal = open_journal(folder / "journal.sqlite")
    try:
        service = Service(
            specs,
            journal,
            certificate=certificate,
            limits=limits,
            clock=the_clock(),
            privacy_budget=privacy_budget,
            certifier=certifier,
            sums_apart=sums_apart,
            scores=scores,
        )
        async with service.listen("localhost", port, context) as listener:
            door = next(iter(listener.sockets))
            bound, trusting = door.getsockname()[1], client_context(tls_folder / "server.pem")
            yield Hosting(service, f"wss://localhost:{bound}", bound, trusting, folder, door, the_clock())
    finally:
        journal.close()
