"""How a site's data are read: the options of every command that reads some."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Final, TypeAlias

import typer

PANEL: Final = "Data"

Data: TypeAlias = Annotated[
    Path | None,
    typer.Option(
        help="CSV file with a header line, or Parquet file, with one record in a row (default: no data are read).",
        show_default=False,
        rich_help_panel=PANEL,
    ),
]
Separator: TypeAlias = Annotated[
    str, typer.Option(help="Character between the values of a CSV file; tab stands for one.", rich_help_panel=PANEL)
]
Encoding: TypeAlias = Annotated[
    str, typer.Option(help="Encoding of a CSV file, such as latin-1.", rich_help_panel=PANEL)
]
Decimal: TypeAlias = Annotated[
    str, typer.Option(help="Decimal point of the numbers in a CSV file.", rich_help_panel=PANEL)
]
Thousands: TypeAlias = Annotated[
    str | None,
    typer.Option(
        help="Character between groups of three digits in a CSV file (default: none).",
        show_default=False,
        rich_help_panel=PANEL,
    ),
]
Missing: TypeAlias = Annotated[
    list[str] | None,
    typer.Option(
        metavar="TEXT",
        help="Text that stands for a missing value; give it once for each text (default: nothing, NA, NaN and the "
        "like).",
        show_default=False,
        rich_help_panel=PANEL,
    ),
]

OwnPolicy: TypeAlias = Annotated[
    Path | None,
    typer.Option(
        help="TOML file with your own rules, which the study must keep to (default: none are asked).",
        show_default=False,
        rich_help_panel=PANEL,
    ),
]


def separator_of(given: str) -> str:
    """The character that an option names."""
    return "\t" if given in ("tab", "\\t") else given
