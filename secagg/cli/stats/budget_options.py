"""A privacy budget of one's own, over all studies with noise: what both commands are told of it."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Final, TypeAlias

import typer

_PANEL: Final = "Privacy over all studies"

BudgetFile: TypeAlias = Annotated[
    Path | None,
    typer.Option(
        metavar="FILE",
        help="File that remembers what privacy all studies with noise have cost; made with --epsilon and --delta when "
        "it is not there. A study that it has no room for is refused before anything is sent, and one without noise, "
        "too (default: each study is counted by itself).",
        show_default=False,
        rich_help_panel=_PANEL,
    ),
]
BudgetEpsilon: TypeAlias = Annotated[
    float | None,
    typer.Option(
        "--epsilon",
        help="Epsilon of a new budget: the most that all studies together may cost the privacy of a record.",
        show_default=False,
        rich_help_panel=_PANEL,
    ),
]
BudgetDelta: TypeAlias = Annotated[
    float | None,
    typer.Option(
        "--delta",
        help="Delta of a new budget: the probability with which its epsilon may fail.",
        show_default=False,
        rich_help_panel=_PANEL,
    ),
]
