"""What ``secagg simulate`` can be told."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import typer

from secagg.cli.carriers import CarrierChoice, ChosenCarrier
from secagg.cli.complaints import Complaints
from secagg.cli.layout_options import ArrayBitsTexts, ClipTexts, ExactTexts
from secagg.cli.options import (
    DEFAULT_CLIENTS,
    DEFAULT_DIM,
    AsJson,
    ChosenSuite,
    Groups,
    MinGroup,
    Neighbours,
    RoundGamma,
    Threat,
)
from secagg.cli.promise_options import (
    Epsilon,
    Levels,
    MaxDropout,
    Noise,
    PrivacyOptions,
    Private,
    PrivateRounds,
    RoundBits,
    delta_option,
)
from secagg.cli.rounds import SuiteName
from secagg.pairwise.phases import ThreatModel


@dataclass(frozen=True, kw_only=True)
class SimulateOptions:
    """The options, as they were given."""

    clients: Annotated[
        int | None,
        typer.Option(
            help=f"Number of clients to invite (default: {DEFAULT_CLIENTS}, or one per input file).",
            show_default=False,
        ),
    ] = None
    dim: Annotated[
        int | None,
        typer.Option(
            help=f"Number of values in an update (default: {DEFAULT_DIM:,}, or as many as the input files hold).",
            show_default=False,
            min=1,
        ),
    ] = None
    dropout: Annotated[
        str,
        typer.Option(
            help="Share of the clients that drops out in the phase MASK, after they have dealt their shares. Shares "
            "for several phases are written as share=.02,mask=.05,unmask=.03; advertise= and confirm= exist too. The "
            "number of clients is rounded down."
        ),
    ] = "0"
    neighbours: Neighbours = "auto"
    threat: Threat = ThreatModel.SEMI_HONEST
    gamma: RoundGamma = None
    delta: Annotated[float | None, delta_option("the total of --dropout")] = None
    max_dropout: MaxDropout = None
    bits: RoundBits = None
    clip: ClipTexts = None
    array_bits: ArrayBitsTexts = None
    exact: ExactTexts = None
    private: Private = False
    epsilon: Epsilon = None
    rounds: PrivateRounds = None
    noise: Noise = None
    levels: Levels = None
    groups: Groups = 1
    min_group: MinGroup = None
    carrier: ChosenCarrier = CarrierChoice.MASKS
    complaints: Complaints = False
    suite: ChosenSuite = SuiteName.AES_128
    seed: Annotated[
        int | None,
        typer.Option(
            help="Seed of all randomness, which makes the round reproducible. For tests only.",
            min=0,
            show_default=False,
        ),
    ] = None
    inputs: Annotated[
        list[Path] | None,
        typer.Option(
            "--input",
            metavar="FILE ...",
            help="The clients' updates, one .npz or .safetensors file per client (default: random values).",
            show_default=False,
        ),
    ] = None
    more_inputs: Annotated[
        list[Path] | None, typer.Argument(metavar="FILE", help="More input files, one per client.")
    ] = None
    output: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE",
            help="File to write the sum to, .npz or .safetensors (default: the sum is not written).",
            show_default=False,
        ),
    ] = None
    full: Annotated[
        int | None,
        typer.Option(
            help="Number of clients to run in full. The messages of the others are made in a cheaper way, which saves "
            "time in large rounds, above all with --threat active (default: all).",
            show_default=False,
            min=1,
        ),
    ] = None
    as_json: AsJson = False

    @property
    def files(self) -> list[Path]:
        """The input files, however they were given."""
        return [*(self.inputs or ()), *(self.more_inputs or ())]

    @property
    def is_private(self) -> bool:
        """Whether the round has noise."""
        return self.privacy(None).is_private

    def privacy(self, clip: float | None) -> PrivacyOptions:
        """What the options say of privacy; ``clip`` is the norm that a private update is shortened to."""
        return PrivacyOptions.of(self, rounds=self.rounds, clip=clip, private=self.private)
