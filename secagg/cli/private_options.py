"""``--epsilon`` and what goes with it, for ``serve`` and ``join``."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, TypeAlias

import typer

from secagg.cli.layout_options import LayoutOptions
from secagg.cli.promise_options import PANEL, need_extra
from secagg.errors import ParameterError
from secagg.wording import counted

if TYPE_CHECKING:
    from secagg.privacy.budget import Budget

BudgetFile: TypeAlias = Annotated[
    Path | None,
    typer.Option(
        metavar="FILE",
        help="File that remembers what privacy was spent, made with --epsilon and --delta when it is not there. A "
        "round that would pass it is refused before anything is sent (default: nothing is remembered).",
        show_default=False,
        rich_help_panel=PANEL,
    ),
]


def check_one_clip(given: LayoutOptions) -> float:
    """The norm that ``--clip`` says.  Raises ParameterError for what a private round has no use for."""
    reason = "a private round (--epsilon) has one clip, the L2 norm of a whole update, and one number of bits"
    for option, patterns in reversed(given.of_single_arrays):
        if patterns:
            name = next(iter(patterns))
            instead = (
                "an exact sum has no noise, which is what hides a client; leave the array out of the file"
                if option == "--exact"
                else f"give {'--clip VALUE' if option == '--clip' else '--bits'} for all arrays together"
            )
            raise ParameterError(f"{option} '{name}=...': {reason}; {instead}, or leave --epsilon out")
    if given.clip is None:
        raise ParameterError(
            f"--clip is missing: {reason}; give --clip VALUE, a norm that about half of the files have"
        )
    return given.clip


@contextmanager
def open_budget(file: Path | None, epsilon: float | None, delta: float | None) -> Iterator[Budget | None]:
    """The budget of ``--budget``, for the length of the block; None without the option.

    Raises ParameterError, also without the extra ``privacy``, OSError and BudgetFileError.
    """
    if file is None:
        yield None
        return
    need_extra()
    from secagg.privacy.budget import Budget

    with closing(Budget(file, epsilon=epsilon, delta=delta)) as budget:
        yield budget


def spent_line(budget: Budget) -> str:
    """What is spent, as a whole sentence."""
    spent = budget.spent()
    return (
        f"{budget.path}: epsilon {spent.epsilon:.4g} of {spent.limit:g} at delta {spent.delta:g} is spent, over "
        f"{counted(spent.rounds, 'round')}."
    )
