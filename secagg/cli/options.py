"""The options that several commands have."""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated, Final, TypeAlias

import typer

from secagg.cli.rounds import SuiteName
from secagg.pairwise.phases import ThreatModel

Threat: TypeAlias = Annotated[
    ThreatModel,
    typer.Option(help="What the server may do: in semi_honest it follows the protocol, in active it may lie."),
]
RoundGamma: TypeAlias = Annotated[
    float | None,
    typer.Option(
        "--gamma",
        help="Largest share of the clients that may collude with the server (default: a fifth, and at least one "
        "client).",
        show_default=False,
    ),
]
DEFAULT_CLIENTS: Final = 100
DEFAULT_DIM: Final = 10_000
Bits: TypeAlias = Annotated[
    int, typer.Option(help="Number of bits of one encoded value. The ring of the sum follows from it.")
]
Neighbours: TypeAlias = Annotated[
    str,
    typer.Option(
        metavar="auto|complete|K",
        help="Number of neighbours per client: auto chooses it, complete makes everybody a neighbour of everybody.",
    ),
]
Groups: TypeAlias = Annotated[
    int,
    typer.Option(
        help="Number of groups that the cohort is drawn into. Each group has a sum of its own, and a robust mean can "
        "be taken over them. With 1 there is one sum over everybody.",
        min=1,
    ),
]
MinGroup: TypeAlias = Annotated[
    int | None,
    typer.Option(
        help="Fewest clients in the sum of a group. A group with fewer is left out (default: the fewest that the "
        "threshold, the quorum and two honest clients ask for).",
        show_default=False,
        min=1,
    ),
]
ChosenSuite: TypeAlias = Annotated[
    SuiteName,
    typer.Option(
        help="Cipher of the masks and of the shares. hybrid is aes-256 with keys that are agreed on by X25519 and by "
        "ML-KEM-768: what is recorded today stays secret from quantum computers. All members then run one release."
    ),
]
AsJson: TypeAlias = Annotated[bool, typer.Option("--json", help="Print one JSON object instead of tables.")]


class LogFormatName(StrEnum):
    """The forms of log lines."""

    PAIRS = "pairs"
    JSON = "json"


LogFormat: TypeAlias = Annotated[
    LogFormatName, typer.Option(help="Form of the log lines on standard error: key=value pairs or JSON objects.")
]
