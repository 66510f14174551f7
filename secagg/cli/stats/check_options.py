"""What ``secagg stats check`` can be told."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import typer

from secagg.cli.options import AsJson
from secagg.cli.stats.data_options import Data, Decimal, Encoding, Missing, OwnPolicy, Separator, Thousands


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
    policy: OwnPolicy = None
    as_json: AsJson = False
