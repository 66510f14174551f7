"""The options that several commands have."""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated, TypeAlias

import typer

from secagg.cli.rounds import SuiteName
from secagg.config import ThreatModel

Threat: TypeAlias = Annotated[ThreatModel, typer.Option(help="What the server may do.")]
Gamma: TypeAlias = Annotated[
    float, typer.Option(help="The largest share of the clients that colludes with the server.")
]
Bits: TypeAlias = Annotated[int, typer.Option(help="Bits of one encoded value; the ring follows from them.")]
Neighbours: TypeAlias = Annotated[str, typer.Option(metavar="auto|complete|K", help="Neighbours of a client.")]
ChosenSuite: TypeAlias = Annotated[SuiteName, typer.Option(help="The cipher of masks and shares.")]
AsJson: TypeAlias = Annotated[
    bool, typer.Option("--json", help="One JSON object instead of tables; null stands for minus infinity.")
]


class LogFormatName(StrEnum):
    """How log lines look."""

    PAIRS = "pairs"
    JSON = "json"


LogFormat: TypeAlias = Annotated[
    LogFormatName, typer.Option(help="Log lines, on standard error: key=value pairs, or JSON objects.")
]
