"""What ``secagg stats check`` can be told."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import typer

from secagg.cli.options import AsJson
from secagg.cli.stats.data_options import PANEL, Data, Decimal, Encoding, Missing, Separator, Thousands


@dataclass(frozen=True, kw_only=True)
class CheckOptions:
    """The options, as they were given."""

    study: Annotated[Path, typer.Argument(help="TOML file with the study.", show_default=False)]
    data: Data = None
    separator: Separator = ","
    encoding: Encoding = "utf-8"
    decimal: Decimal = "."
    thousands: Thousands = None
    missing: Missing = None
    policy: Annotated[
        Path | None,
        typer.Option(
            help="TOML file with your own rules, which the study must keep to (default: none are asked).",
            show_default=False,
            rich_help_panel=PANEL,
        ),
    ] = None
    as_json: AsJson = False
