"""What a round of the service is: its config, its layout, its cohort, its deadlines."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final

from secagg.adapters.net.ballot_layout import BallotLayout
from secagg.adapters.net.frames import AnnouncedLayout, encode_layout
from secagg.errors import ParameterError
from secagg.identity import Directory
from secagg.pairwise.config import RoundConfig
from secagg.pairwise.phases import Phase
from secagg.privacy.layout import AnyLayout
from secagg.statistics.layout import StudyLayout
from secagg.wording import counted

PHASES: Final = tuple(Phase)
STATEMENTS: Final = "STATEMENTS"
"""Of ``deadlines``: how long the statements of a chained round that was aborted in UNMASK are waited for."""
_PHASE_DEADLINES: Final[Mapping[str, float]] = {
    Phase.ADVERTISE: 600.0,
    Phase.SHARE: 120.0,
    Phase.COMPLAIN: 120.0,
    Phase.ANSWER: 120.0,
    Phase.MASK: 600.0,
    Phase.CONFIRM: 120.0,
    Phase.UNMASK: 120.0,
}
DEFAULT_DEADLINES: Final[Mapping[str, float]] = {**_PHASE_DEADLINES, STATEMENTS: 600.0}
"""Seconds: ten minutes where people start clients or models are trained, two where machines answer machines.  Who did
not answer in UNMASK is off line, and may have to be started again before it states so."""
LARGEST_MESSAGE: Final = 2**32 - 2**20
"""MessagePack counts the bytes of a string in 32 bits; a snapshot's strings have some bytes around them."""


@dataclass(frozen=True, kw_only=True)
class RoundSpec:
    """A round that the service is to host.

    Attributes:
        name: the last part of the URL.
        config: its context is the layout's digest.
        layout: what the clients' files must look like, what a study asks for, or what a ballot is about.
        deadlines: seconds by phase, and for the statements of a chained round that was aborted in UNMASK
            (``STATEMENTS``; 600 s when they are not named).
        keys: the identity key of each seat; None: open, whoever comes first takes a free seat.
        names: what logs and the status page call each seat; empty: they say ``seat 3``.
        directory: ``active``: holds the config's cohort.
        certificates: of a chained round: what its invitation brings.
        candidate: of a ballot: the bytes that its members test, which are those of its layout.

    Raises ParameterError when it is made with what cannot be hosted, sent or stored.
    """

    name: str
    config: RoundConfig
    layout: AnnouncedLayout
    deadlines: Mapping[str, float] = field(default_factory=lambda: dict(DEFAULT_DEADLINES))
    keys: tuple[bytes, ...] | None = None
    names: tuple[str, ...] = ()
    directory: Directory | None = None
    certificates: tuple[bytes, ...] = ()
    candidate: bytes = field(default=b"", repr=False)

    def __post_init__(self) -> None:
        config = self.config
        if config.context != self.layout.digest():
            raise ParameterError(f"round {self.name}: the config's context must be the digest of its layout")
        self.layout.check_round(config)
        self._check_candidate()
        encode_layout(self.layout)
        self._check_sizes()
        for what, given in (("keys", self.keys), ("names", self.names)):
            if given and len(given) != config.clients:
                raise ParameterError(f"round {self.name}: {len(given)} {what} for {counted(config.clients, 'client')}")
        if config.threat_model.signs and (self.keys is None or self.directory is None):
            raise ParameterError(f"round {self.name}: active needs the directory of its cohort")
        if missing := [phase for phase in config.phases if self.deadlines.get(phase, 0) <= 0]:
            raise ParameterError(f"round {self.name}: give {missing[0]} a deadline above 0 seconds")
        if self.statement_seconds < 0:
            raise ParameterError(
                f"round {self.name}: {STATEMENTS} are waited for {self.statement_seconds:g} seconds; give 0 or more"
            )

    @property
    def statement_seconds(self) -> float:
        """How long statements are waited for."""
        return self.deadlines.get(STATEMENTS, DEFAULT_DEADLINES[STATEMENTS])

    @property
    def file_layout(self) -> AnyLayout:
        """What the clients' files look like.  Raises TypeError for a study's round and a ballot, which sum no files."""
        if isinstance(self.layout, StudyLayout):
            raise TypeError(f"round {self.name} is a study's: its sums are read by the study's analyst")
        if isinstance(self.layout, BallotLayout):
            raise TypeError(f"round {self.name} is a ballot: it sums votes and no files")
        return self.layout

    def _check_candidate(self) -> None:
        if isinstance(self.layout, BallotLayout):
            if not self.layout.is_candidate(self.candidate):
                raise ParameterError(
                    f"round {self.name}: the candidate is not the one of the ballot's layout; make the layout with "
                    "BallotLayout.of(candidate, ballot)"
                )
        elif self.candidate:
            raise ParameterError(f"round {self.name}: a candidate is for a ballot, and this round has another layout")

    def _check_sizes(self) -> None:
        """The round must fit into the messages and the snapshots that it will need; better to know it now."""
        config = self.config
        running_sum = config.running_sum_bytes
        largest = max(running_sum, *(config.max_message_bytes(phase) for phase in PHASES))
        if largest > LARGEST_MESSAGE:
            raise ParameterError(
                f"round {self.name}: {counted(config.length, 'element')} can take up to {counted(largest, 'byte')} "
                f"in one message or snapshot; at most {LARGEST_MESSAGE:,} are possible: sum the arrays in several "
                "rounds"
            )
        shares = config.clients * config.max_message_bytes(Phase.SHARE)
        if shares > LARGEST_MESSAGE:
            raise ParameterError(
                f"round {self.name}: the shares of {counted(config.clients, 'client')} with "
                f"{counted(config.neighbours, 'neighbour')} each take {counted(shares, 'byte')} in a snapshot; at "
                f"most {LARGEST_MESSAGE:,} are possible: invite fewer clients, or give them fewer neighbours"
            )

    def name_of(self, seat: int) -> str:
        """What a person calls the client on a seat."""
        return self.names[seat] if self.names else f"seat {seat}"
