"""What ``secagg stats join`` can be told."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import typer

from secagg.cli.options import AsJson, LogFormat, LogFormatName
from secagg.cli.stats.budget_options import BudgetDelta, BudgetEpsilon, BudgetFile
from secagg.cli.stats.data_options import Decimal, Encoding, Missing, OwnPolicy, Separator, Thousands
from secagg.pairwise.phases import ThreatModel


@dataclass(frozen=True, kw_only=True)
class JoinStudyOptions:
    """The options, as they were given."""

    url: Annotated[
        str, typer.Argument(metavar="URL", help="wss://HOST:PORT/NAME, the address of the study.", show_default=False)
    ]
    study: Annotated[Path, typer.Option(metavar="FILE", help="TOML file with the study that was agreed on.")]
    data: Annotated[
        Path,
        typer.Option(
            metavar="FILE", help="CSV or Parquet file with this organisation's records. It does not leave this machine."
        ),
    ]
    separator: Separator = ","
    encoding: Encoding = "utf-8"
    decimal: Decimal = "."
    thousands: Thousands = None
    missing: Missing = None
    policy: OwnPolicy = None
    ledger: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE",
            help="File that remembers with whom these data were summed. A sum that would lay few organisations bare, "
            "together with earlier ones, is not completed. Use one for all studies of the same data (default: "
            "DATA.ledger, beside the data).",
            show_default=False,
        ),
    ] = None
    output: Annotated[
        Path | None,
        typer.Option(metavar="DIR", help="Directory for the report (default: it is only printed).", show_default=False),
    ] = None
    budget: BudgetFile = None
    epsilon: BudgetEpsilon = None
    delta: BudgetDelta = None
    yes: Annotated[
        bool,
        typer.Option(
            "--yes",
            help="Take part without being asked. A policy that lists the digest of the study approves it, too.",
        ),
    ] = False
    identity: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE",
            help="Identity file of this organisation (default: a fresh one for this study).",
            show_default=False,
        ),
    ] = None
    directory: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE",
            help="This organisation's own copy of the directory. The threat model active needs it.",
            show_default=False,
        ),
    ] = None
    threat: Annotated[
        ThreatModel | None,
        typer.Option(
            "--threat-model",
            help="Weakest threat model to accept (default: active with a directory, semi_honest without one).",
            show_default=False,
        ),
    ] = None
    gamma: Annotated[
        float,
        typer.Option(help="Share of the organisations that a round must withstand when they collude with the server."),
    ] = 0.2
    ca: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE", help="PEM file of trusted CA certificates (default: the system's).", show_default=False
        ),
    ] = None
    insecure_plaintext: Annotated[
        bool, typer.Option(help="Allow a URL that begins with ws://, which has no TLS, to a server on this machine.")
    ] = False
    give_up_after: Annotated[
        float, typer.Option(help="Number of seconds without progress of the study before this command stops.")
    ] = 600.0
    log_format: LogFormat = LogFormatName.PAIRS
    as_json: AsJson = False
