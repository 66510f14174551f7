"""What ``secagg plan`` can be told."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Any, Final

import typer

from secagg.cli.carriers import CarrierChoice, ChosenCarrier
from secagg.cli.complaints import Complaints
from secagg.cli.options import DEFAULT_CLIENTS, DEFAULT_DIM, AsJson, ChosenSuite, Neighbours, RoundGamma, Threat
from secagg.cli.plan_workers import COUNTS
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
from secagg.errors import ParameterError
from secagg.pairwise.phases import ThreatModel
from secagg.pairwise.poisoning import DEFAULT_ROBUST_BITS

_GROUPS: Final = "Groups, for a robust mean"


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
    carrier: ChosenCarrier = CarrierChoice.MASKS
    complaints: Complaints = False
    workers: Annotated[
        int | None,
        typer.Option(
            min=1,
            help="Number of workers to share MASK and UNMASK out among (default: "
            f"{', '.join(map(str, COUNTS))} for a round that takes the server long, and none for others).",
            show_default=False,
        ),
    ] = None
    groups: Annotated[
        str | None,
        typer.Option(
            metavar="auto|G",
            help="Number of groups that public randomness draws the cohort into, each with a sum of its own; auto "
            "finds the smallest number that withstands --attackers (default: one sum over everybody).",
            show_default=False,
            rich_help_panel=_GROUPS,
        ),
    ] = None
    attackers: Annotated[
        int | None,
        typer.Option(
            help="Number of clients that may send any values they like. A robust mean of the groups withstands them "
            "as long as they are in fewer than half of the groups (default: the plan does not say).",
            show_default=False,
            rich_help_panel=_GROUPS,
        ),
    ] = None
    robust_bits: Annotated[
        int,
        typer.Option(
            help="The robust mean fails with a probability below 2 to the power of minus this number.",
            rich_help_panel=_GROUPS,
        ),
    ] = DEFAULT_ROBUST_BITS
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

    def grouped(self) -> dict[str, Any]:
        """The arguments of a round with groups; nothing where none are asked for.

        Raises ParameterError for a number that is none, and for options that do not go together.
        """
        if self.groups is None:
            if self.attackers is not None:
                raise ParameterError(
                    f"--attackers {self.attackers}: one sum over everybody withstands none; give --groups auto"
                )
            return {}
        if self.epsilon is not None:
            raise ParameterError(
                f"--groups {self.groups}: the noise of --epsilon is for one sum; leave out one of the two"
            )
        if self.groups != "auto" and not self.groups.isdecimal():
            raise ParameterError(f"--groups {self.groups!r}: give auto, or a number of groups")
        number = self.groups if self.groups == "auto" else int(self.groups)
        return {"groups": number, "attackers": self.attackers, "robust_bits": self.robust_bits, "version": 2}
