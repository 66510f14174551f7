"""``--ledger`` and ``--min-difference``, for ``serve`` and ``join``."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Annotated, Final, TypeAlias

import typer

from secagg.cli.command_options import check_range
from secagg.differencing import DifferenceLedger
from secagg.errors import DisclosureError, ParameterError

_PANEL: Final = "Several rounds"
LedgerFile: TypeAlias = Annotated[
    Path | None,
    typer.Option(
        "--ledger",
        metavar="FILE",
        help="File that remembers who was summed with whom, made when it is not there. A round is refused before its "
        "sum is opened if earlier sums, taken off it, would tell of fewer members than --min-difference. It needs "
        "--directory, by whose names the members are known (default: nothing is remembered).",
        show_default=False,
        rich_help_panel=_PANEL,
    ),
]
MinDifference: TypeAlias = Annotated[
    int | None,
    typer.Option(
        help="Fewest members that must always be in and out of the sums together (default: two more than --gamma of "
        "the members, so that two of them do not collude).",
        show_default=False,
        rich_help_panel=_PANEL,
    ),
]


def check_ledger(ledger: Path | None, min_difference: int | None, directory: Path | None) -> None:
    """Raises ParameterError for an option that another one needs, and for a number that keeps nothing apart."""
    check_range("--min-difference", min_difference, 2)
    if ledger is None and min_difference is not None:
        raise ParameterError(f"--min-difference {min_difference}: it is what --ledger checks; give --ledger FILE")
    if ledger is not None and directory is None:
        raise ParameterError(
            f"--ledger {ledger}: it needs names that stay the same over all rounds; give the cohort's --directory"
        )


@contextmanager
def open_ledger(file: Path | None, data_name: str = "data") -> Iterator[DifferenceLedger | None]:
    """The ledger of ``--ledger``, for the length of the block; None without the option.

    ``data_name`` is what the ledger calls the values that are summed: it looks at no sums of others.
    Raises ParameterError, OSError and DifferenceLedgerError.
    """
    if file is None:
        yield None
        return
    with closing(DifferenceLedger(file, data_name)) as ledger:
        yield ledger


def asks(ledger: DifferenceLedger, names: Sequence[str], least: int) -> Callable[[tuple[int, ...]], None]:
    """What records a set of survivors by their seats, and raises DisclosureError for one that is not allowed.

    ``names`` are the directory's, by seat.
    """

    def may_reveal(survivors: tuple[int, ...]) -> None:
        if survivors and survivors[-1] >= len(names):
            raise DisclosureError(
                f"the sum has a member on seat {survivors[-1]}, and the directory lists {len(names)}: the server has "
                "another directory than this client"
            )
        try:
            ledger.record([[names[seat] for seat in survivors]], least)
        except DisclosureError as refused:
            raise DisclosureError(str(refused).replace("(min_difference)", "(--min-difference)")) from None

    return may_reveal
