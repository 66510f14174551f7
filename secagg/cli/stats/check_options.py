"""What ``secagg stats check`` can be told."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import typer

from secagg.cli.options import AsJson


@dataclass(frozen=True, kw_only=True)
class CheckOptions:
    """The options, as they were given."""

    study: Annotated[Path, typer.Argument(help="TOML file with the study.", show_default=False)]
    as_json: AsJson = False
