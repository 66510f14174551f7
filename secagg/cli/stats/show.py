"""What a study found, on the terminal."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

import typer
from rich.console import Console
from rich.table import Table as Grid
from rich.text import Text

from secagg.cli.output import results
from secagg.statistics.page import facts, numeric
from secagg.statistics.report import results_json, write_report
from secagg.statistics.results import StudyResult, Table, text_of


def show_result(result: StudyResult, console: Console) -> None:
    """Print the tables of every method, with what each rests on, and what was withheld and why."""
    for name, reported in result.sections.items():
        console.print()
        console.print(Text(reported.label or name, style="bold"), Text(f"({facts(reported)})", style="dim"))
        for table in reported.result.tables:
            console.print(_grid(table))
        if reported.result.withheld:
            console.print(Text(f"Nothing is reported: {reported.result.withheld}."))
        _print_lines(reported.result.notes, console)


def report(result: StudyResult, directory: Path | None, *, as_json: bool) -> None:
    """Print what was found, and write its report into the directory, if there is one.  Raises OSError."""
    if directory is not None:
        write_report(result, directory)
    if as_json:
        typer.echo(results_json(result).decode())
    else:
        show_result(result, results())


def _print_lines(lines: Iterable[str], console: Console) -> None:
    for line in lines:
        console.print(Text(line))


def _grid(table: Table) -> Grid:
    """Text stands on the left and numbers on the right, whatever a cell holds: markup in it is shown as it is."""
    made = Grid(title=Text(table.title), title_justify="left", title_style="italic")
    for name, is_number in zip(table.columns, numeric(table), strict=True):
        made.add_column(Text(name), justify="right" if is_number else "left", no_wrap=is_number)
    for row in table.rows:
        made.add_row(*(Text(text_of(value)) for value in row))
    return made
