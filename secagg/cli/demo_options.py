"""What ``secagg demo`` can be told."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from secagg.cli.options import AsJson, Threat
from secagg.errors import ParameterError
from secagg.pairwise.phases import ThreatModel
from secagg.robust import AttackName, RuleName


class Data(StrEnum):
    """What to train on."""

    BOTH = "both"
    BREAST_CANCER = "breast-cancer"
    DIGITS = "digits"


@dataclass(frozen=True, kw_only=True)
class DemoOptions:
    """The options, as they were given."""

    data: Annotated[Data, typer.Option(help="Data set to train on.")] = Data.BOTH
    rounds: Annotated[int, typer.Option(help="Number of rounds of federated averaging.", min=1, max=1000)] = 15
    threat: Threat = ThreatModel.SEMI_HONEST
    output: Annotated[Path, typer.Option(help="File to write the picture to. Its suffix gives the format.")] = Path(
        "secagg-demo.png"
    )
    seed: Annotated[
        int,
        typer.Option(
            help="Seed of the data's split and of the dropouts. The protocol itself uses the system's randomness.",
            min=0,
        ),
    ] = 0
    private: Annotated[
        bool,
        typer.Option(
            "--private",
            help="Train with noise that hides each client, and show the accuracy for several values of epsilon.",
        ),
    ] = False
    attack: Annotated[
        AttackName | None,
        typer.Option(help="Train while some clients send poisoned updates: what these clients do."),
    ] = None
    attackers: Annotated[
        float, typer.Option(help="With --attack: share of the clients that attack.", min=0, max=0.5)
    ] = 0.1
    rule: Annotated[RuleName, typer.Option(help="With --attack: robust mean of the groups' means.")] = (
        RuleName.MIXED_GEOMETRIC_MEDIAN
    )
    ballots: Annotated[
        bool,
        typer.Option(
            "--ballots", help="With --attack: the clients vote on each new model, and drop it when too many object."
        ),
    ] = False
    strength: Annotated[
        float | None,
        typer.Option(
            help="With --attack: what attackers multiply their updates by, or for little, how many standard deviations "
            "they deviate. Weaker attacks are harder to find (default: one that spoils plain averaging).",
            min=0.1,
            max=1000,
        ),
    ] = None
    leave_out: Annotated[
        bool,
        typer.Option("--leave-out", help="With --attack: no longer invite clients that stand out over several rounds."),
    ] = False
    as_json: AsJson = False

    def check(self) -> None:
        """Raises ParameterError for options that do not go together."""
        if self.private and self.attack is not None:
            raise ParameterError("--private and --attack are two demos: leave one of them out")
        if self.ballots and self.attack is None:
            raise ParameterError("--ballots: the clients vote on models that others may poison; give --attack too")
        for option, given in (("--leave-out", self.leave_out), ("--strength", self.strength is not None)):
            if given and self.attack is None:
                raise ParameterError(f"{option} belongs to --attack: give --attack, or leave it out")
