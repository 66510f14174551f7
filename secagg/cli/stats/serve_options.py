"""What ``secagg stats serve`` can be told."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import typer

from secagg.cli.options import AsJson, LogFormat, LogFormatName, RoundGamma
from secagg.cli.stats.budget_options import BudgetDelta, BudgetEpsilon, BudgetFile
from secagg.pairwise.phases import ThreatModel


@dataclass(frozen=True, kw_only=True)
class ServeStudyOptions:
    """The options, as they were given."""

    study: Annotated[Path, typer.Argument(help="TOML file with the study.", show_default=False)]
    output: Annotated[
        Path | None,
        typer.Option(metavar="DIR", help="Directory for the report (default: it is only printed).", show_default=False),
    ] = None
    name: Annotated[
        str, typer.Option("--round", metavar="NAME", help="Name of the study's rounds: the last part of the URL.")
    ] = "default"
    directory: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE", help="Directory file of the organisations: only its members may log in.", show_default=False
        ),
    ] = None
    open_seats: Annotated[
        bool,
        typer.Option(
            "--open", help="Host the study without a directory: anybody who reaches the port may take a seat."
        ),
    ] = False
    clients: Annotated[
        int | None,
        typer.Option(
            help="Number of organisations to invite (default: every member of the directory).", show_default=False
        ),
    ] = None
    threat: Annotated[
        ThreatModel | None,
        typer.Option(
            "--threat-model",
            help="What the server may do: in semi_honest it follows the protocol, in active it may lie (default: "
            "active with a directory, semi_honest with --open).",
            show_default=False,
        ),
    ] = None
    gamma: RoundGamma = None
    budget: BudgetFile = None
    epsilon: BudgetEpsilon = None
    delta: BudgetDelta = None
    deadline: Annotated[
        list[str] | None,
        typer.Option(
            metavar="[PHASE=]SECONDS",
            help="Longest time that a phase of a round may last, in seconds; see secagg serve.",
            show_default=False,
        ),
    ] = None
    host: Annotated[str, typer.Option(help="Address to listen on; 0.0.0.0 is every address of this machine.")] = (
        "localhost"
    )
    port: Annotated[int, typer.Option(help="Port to listen on; 0 takes any free port.")] = 8443
    cert: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="PEM file of the TLS certificate and its chain.", show_default=False),
    ] = None
    key: Annotated[
        Path | None, typer.Option(metavar="FILE", help="PEM file of the certificate's private key.", show_default=False)
    ] = None
    demo_cert: Annotated[
        Path | None,
        typer.Option(
            metavar="DIR",
            help="Make a self-signed certificate in the directory DIR, or use the one that is there.",
            show_default=False,
        ),
    ] = None
    insecure_plaintext: Annotated[
        bool, typer.Option(help="Listen without TLS. This is allowed for clients on the same machine only.")
    ] = False
    journal: Annotated[
        Path,
        typer.Option(
            metavar="FILE",
            help="File that keeps the rounds. A server that is started again goes on from there; give each session a "
            "file of its own.",
        ),
    ] = Path("secagg-study.sqlite")
    linger: Annotated[
        float, typer.Option(help="Seconds to wait at the end for organisations that miss the last sum.")
    ] = 60.0
    log_format: LogFormat = LogFormatName.PAIRS
    as_json: AsJson = False
