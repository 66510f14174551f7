"""What a study found, on the terminal."""

from __future__ import annotations

import os
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path
from typing import Final

import typer
from rich.console import Console
from rich.table import Table as Grid
from rich.text import Text

from secagg.cli.output import results
from secagg.errors import ParameterError
from secagg.statistics.page import facts, numeric, privacy
from secagg.statistics.report import drawing_module, is_report_file, results_json, write_report
from secagg.statistics.results import StudyResult, Table, text_of
from secagg.wording import counted

_RULE: Final = 3
"""What a column takes beside its text: a rule, and a space on each side."""

_MOST_ROWS: Final = 40
"""Of a table on a terminal: the files of a report have them all."""


def show_result(result: StudyResult, console: Console) -> None:
    """Print the tables of every method, with what each rests on, and what was withheld and why."""
    for name, reported in result.sections.items():
        console.print()
        console.print(Text(reported.label or name, style="bold"), Text(f"({facts(reported)})", style="dim"))
        for table in reported.result.tables:
            for piece in _pieces(replace(table, rows=table.rows[:_MOST_ROWS]), console.width):
                console.print(_grid(piece))
            if (further := len(table.rows) - _MOST_ROWS) > 0:
                console.print(Text(f"{counted(further, 'further row')}: the report in --output DIR has all of them."))
        if reported.result.withheld:
            console.print(Text(f"Nothing is reported: {reported.result.withheld}."))
        _print_lines(reported.result.notes, console)
    if words := privacy(result):
        console.print(Text(f"\n{words}"))


def report(result: StudyResult, directory: Path | None, *, as_json: bool) -> None:
    """Print what was found, and write its report into the directory, if there is one.  Raises OSError."""
    if directory is not None:
        write_report(result, directory)
    if as_json:
        typer.echo(results_json(result).decode())
    else:
        show_result(result, results())


def check_report(directory: Path | None, given: Iterable[Path | None]) -> None:
    """Before anything is connected: raises ParameterError for a directory in which no report can be written.

    ``given`` are the files that the command reads or keeps: no file of the report may replace one.  Raises
    ModuleNotFoundError, which says what to install, where pictures cannot be drawn.
    """
    if directory is None:
        return
    drawing_module()
    there = next(one for one in (directory, *directory.absolute().parents) if one.exists())
    if not there.is_dir():
        raise ParameterError(f"--output {directory}: {there} is no directory; name another one")
    if not os.access(there, os.W_OK):
        raise ParameterError(f"--output {directory}: the directory {there} cannot be written; name another one")
    for file in given:
        if file is not None and is_report_file(file) and file.resolve().parent == directory.resolve():
            raise ParameterError(
                f"--output {directory}: the report could replace {file}, which is in the same directory; name one for "
                "the report alone"
            )


def _print_lines(lines: Iterable[str], console: Console) -> None:
    for line in lines:
        console.print(Text(line))


def _pieces(table: Table, width: int) -> list[Table]:
    """The table, or, where it is too wide, some of its columns at a time, each time beside the names of the rows."""
    cells = [table.columns, *([text_of(value) for value in row] for row in table.rows)]
    widths = [max(map(len, column)) + _RULE for column in zip(*cells, strict=True)]
    names = next((at for at, is_number in enumerate(numeric(table)) if is_number), len(widths))
    pieces: list[list[int]] = [[]]
    for at in range(names, len(widths)):
        if pieces[-1] and sum(widths[:names]) + sum(widths[one] for one in pieces[-1]) + widths[at] >= width:
            pieces.append([])
        pieces[-1].append(at)
    return [_columns_of(table, [*range(names), *piece]) for piece in pieces]


def _columns_of(table: Table, which: list[int]) -> Table:
    return Table(
        table.title,
        tuple(table.columns[at] for at in which),
        tuple(tuple(row[at] for at in which) for row in table.rows),
    )


def _grid(table: Table) -> Grid:
    """Text stands on the left and numbers on the right, whatever a cell holds: markup in it is shown as it is."""
    made = Grid(title=Text(table.title), title_justify="left", title_style="italic")
    for name, is_number in zip(table.columns, numeric(table), strict=True):
        made.add_column(Text(name), justify="right" if is_number else "left", no_wrap=is_number)
    for row in table.rows:
        made.add_row(*(Text(text_of(value)) for value in row))
    return made
