"""A privacy budget of one's own, over all studies with noise: what both commands are told of it."""

from __future__ import annotations

from contextlib import AbstractContextManager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Final, Protocol, TypeAlias

import typer

from secagg.cli.private_options import open_budget
from secagg.errors import ParameterError

if TYPE_CHECKING:
    from secagg.privacy.budget import Budget

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


class _OfCommand(Protocol):
    """The options of a budget that ``serve`` and ``join`` have under the same names."""

    @property
    def budget(self) -> Path | None: ...
    @property
    def epsilon(self) -> float | None: ...
    @property
    def delta(self) -> float | None: ...


def opened_budget(options: _OfCommand) -> AbstractContextManager[Budget | None]:
    """The budget of a command, for the length of a block; None without one.

    Raises ParameterError, also for what belongs to a budget and comes without one, OSError and BudgetFileError.
    """
    for option, value in (("--epsilon", options.epsilon), ("--delta", options.delta)):
        if options.budget is None and value is not None:
            raise ParameterError(
                f"{option} {value:g}: it is that of a new budget; give --budget FILE with it. The noise of a study is "
                "in the study itself"
            )
    return open_budget(options.budget, options.epsilon, options.delta)
