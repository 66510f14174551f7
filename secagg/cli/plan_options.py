"""What ``secagg plan`` can be told."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

import typer

from secagg.cli.options import DEFAULT_CLIENTS, DEFAULT_DIM, AsJson, ChosenSuite, Neighbours, RoundGamma, Threat
from secagg.cli.promise_options import (
    DEFAULT_CLIP,
    PANEL,
    Epsilon,
    Levels,
    MaxDropout,
    Noise,
    PrivacyOptions,
    PrivateRounds,
    RoundBits,
    delta_option,
)
from secagg.cli.rounds import SuiteName
from secagg.pairwise.phases import ThreatModel


@dataclass(frozen=True, kw_only=True)
class PlanOptions:
    """The options, as they were given."""

    clients: Annotated[int, typer.Option(help="Number of clients to invite.")] = DEFAULT_CLIENTS
    dim: Annotated[int, typer.Option(help="Number of values in an update.", min=1)] = DEFAULT_DIM
    gamma: RoundGamma = None
    delta: Annotated[float | None, delta_option("a tenth, and at least one client where --gamma leaves room")] = None
    max_dropout: MaxDropout = None
    threat: Threat = ThreatModel.SEMI_HONEST
    bits: RoundBits = None
    neighbours: Neighbours = "auto"
    suite: ChosenSuite = SuiteName.AES_128
    epsilon: Epsilon = None
    rounds: PrivateRounds = None
    clip: Annotated[
        float | None,
        typer.Option(
            help="L2 norm that an update of a private round is shortened to, in the unit of the values (default: "
            f"{DEFAULT_CLIP:g}).",
            show_default=False,
            rich_help_panel=PANEL,
        ),
    ] = None
    noise: Noise = None
    levels: Levels = None
    as_json: AsJson = False

    @property
    def privacy(self) -> PrivacyOptions:
        """What the options say of privacy."""
        return PrivacyOptions.of(self, rounds=self.rounds, clip=self.clip)
