"""How commands speak: results on standard output, everything else on standard error, one line an error."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, Final, NoReturn

import typer
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Table

from secagg.errors import UsageError

EXIT_FAILED: Final = 1
EXIT_USAGE: Final = 2
EXIT_STOPPED: Final = 3
EXIT_REFUSED: Final = 4
EXIT_ANOTHER_INPUT: Final = 5

_NAMED: Final = 8  # arrays in one message
_PLAIN_WIDTH: Final = 100  # of tables, where there is no terminal


def fail(command: str, message: str) -> NoReturn:
    """End the command for a reason that its user can mend."""
    typer.echo(f"secagg {command}: {' '.join(message.split())}", err=True)
    raise typer.Exit(EXIT_USAGE)


@contextmanager
def usage_errors(command: str) -> Iterator[None]:
    """Turn what the library refuses, and files that cannot be read or written, into one line and exit code 2."""
    try:
        yield
    except UsageError as refused:
        fail(command, str(refused))
    except BrokenPipeError:
        raise
    except OSError as failure:
        where = f"{failure.filename}: " if failure.filename is not None else ""
        fail(command, f"{where}{failure.strerror or failure}")


def results() -> Console:
    """The console that tables are printed to."""
    console = Console(highlight=False)
    return console if console.is_terminal else Console(highlight=False, width=_PLAIN_WIDTH)


def print_json(value: Mapping[str, Any]) -> None:
    """Print one object on standard output."""
    typer.echo(json.dumps(value, indent=2, allow_nan=False))


def table(title: str, *columns: str) -> Table:
    """A table whose first column is text and whose others are numbers."""
    made = Table(title=title, title_justify="left", title_style="bold")
    for position, column in enumerate(columns):
        made.add_column(column, justify="right" if position else "left", no_wrap=position == 0)
    return made


def fact_table(title: str) -> Table:
    """A table of names and what there is to say about each."""
    made = Table(title=title, title_justify="left", title_style="bold", show_header=False)
    made.add_column(no_wrap=True)
    made.add_column()
    return made


class PhaseProgress:
    """A progress bar on standard error, a phase at a time; nothing without a terminal."""

    def __init__(self, first: str = "warming up") -> None:
        console = Console(stderr=True)
        self._bar = Progress(
            TextColumn("{task.description:>10}"),
            BarColumn(),
            MofNCompleteColumn(),
            TimeElapsedColumn(),
            console=console,
            disable=not console.is_terminal,
            transient=True,
        )
        self._task = self._bar.add_task(first, total=None)
        self._phase = ""

    def __enter__(self) -> PhaseProgress:
        self._bar.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._bar.stop()

    def __call__(self, phase: str, through: int, total: int) -> None:
        """What ``secagg.simulation.simulate`` calls."""
        if phase != self._phase:
            self._phase = phase
            self._bar.reset(self._task, total=total, description=phase)
        self._bar.update(self._task, completed=through)


def names_of(names: Sequence[str]) -> str:
    """Some names of arrays, and how many more there are."""
    more = f" and {len(names) - _NAMED:,} more" if len(names) > _NAMED else ""
    return f"{', '.join(names[:_NAMED])}{more}"


def seconds(value: float | None) -> str:
    """A time, as a person reads it."""
    if value is None:
        return "-"
    for limit, factor, unit in ((1e-3, 1e6, "us"), (1.0, 1e3, "ms")):
        if 0 < value < limit:
            return f"{value * factor:.3g} {unit}"
    return f"{value:,.2f} s" if value else "0"


def size(value: float) -> str:
    """A number of bytes, as a person reads it."""
    for factor, unit in ((1e9, "GB"), (1e6, "MB"), (1e3, "kB")):
        if value >= factor:
            return f"{value / factor:.3g} {unit}" if value < 999.5 * factor else f"{value / factor:,.0f} {unit}"
    return f"{value:.0f} B"


def ratio(value: float | None, floor: float | None) -> str:
    """How many times a floor, for a person."""
    return f"{value / floor:.2f}" if value is not None and floor else "-"


def power_of_two(log2: float | None) -> str:
    """A probability for a person: its log2, None where it is zero."""
    return "0" if log2 is None else f"2^{log2:.1f}"


def finite(value: float) -> float | None:
    """A number for JSON, which has no infinities: None for one."""
    return None if math.isinf(value) else value
