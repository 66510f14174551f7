"""What a study found, as files: for programs, for spreadsheets, and one page for people.

All of it is public: a report holds nothing that ``StudyResult`` does not.
"""

from __future__ import annotations

import csv
import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from types import ModuleType
from typing import Any, Final

import msgspec
import numpy as np

from secagg._install import how_to_install
from secagg.statistics.page import Picture, page
from secagg.statistics.results import Reported, StudyResult, Table

RESULTS: Final = "results.json"
PAGE: Final = "report.html"


def drawing_module() -> ModuleType:
    """What draws the pictures.  Raises ModuleNotFoundError, which says what to install, without Matplotlib."""
    try:
        from secagg.statistics import drawing
    except ModuleNotFoundError as missing:
        raise ModuleNotFoundError(
            f"{missing.name} is not installed, and a report needs it: {how_to_install('stats')}", name=missing.name
        ) from None
    return drawing


def is_report_file(path: Path) -> bool:
    """Whether a report may have a file of this name."""
    return path.name in (RESULTS, PAGE) or path.suffix in (".csv", ".png")


def write_report(result: StudyResult, directory: Path) -> None:
    """Write a study's report into a directory, which is made if it is not there; files of the same names are replaced.

    ``results.json`` has all values: its keys are sorted, numbers have all their digits, and what is withheld or not
    defined is null.  ``METHOD.csv`` (``METHOD-2.csv``, ...) has each table, ``METHOD.png`` each figure, and
    ``report.html`` all of it on one page, which loads nothing from anywhere.

    Raises ModuleNotFoundError, which says what to install, without Matplotlib, and OSError.
    """
    drawing = drawing_module()
    directory.mkdir(parents=True, exist_ok=True)
    pictures: dict[str, list[Picture]] = {}
    stems = _stems(list(result.sections))
    for name, reported in result.sections.items():
        for number, table in enumerate(reported.result.tables, 1):
            _write_table(table, directory / f"{_numbered(stems[name], number)}.csv")
        pictures[name] = []
        for number, figure in enumerate(reported.result.figures, 1):
            picture = Picture(figure.title, drawing.draw(figure))
            (directory / f"{_numbered(stems[name], number)}.png").write_bytes(picture.png)
            pictures[name].append(picture)
    (directory / RESULTS).write_bytes(msgspec.json.format(results_json(result), indent=2) + b"\n")
    (directory / PAGE).write_text(page(result, pictures), encoding="utf-8")


def results_json(result: StudyResult) -> bytes:
    """All values of a study as one JSON object, as ``results.json`` has them but for the line breaks."""
    rounds = [{"asked": dict(one.asked), "sites": list(one.sites)} for one in result.rounds]
    document = {
        "study": {"name": result.name, "purpose": result.purpose, "digest": result.digest},
        "rounds": rounds,
        "failed_rounds": result.failed_rounds,
        "methods": {name: _method(reported) for name, reported in result.methods.items()},
        "columns": None if result.columns is None else _method(result.columns),
        "privacy": None if result.privacy is None else asdict(result.privacy),
    }
    return msgspec.json.encode(document, order="deterministic")


def _method(reported: Reported) -> dict[str, Any]:
    return {
        "label": reported.label,
        "values": _plain(reported.result.values),
        "notes": list(reported.result.notes),
        "withheld": reported.result.withheld or None,
        "records": reported.records,
        "incomplete": reported.incomplete,
        "rounds": reported.rounds,
        "sites": list(reported.sites),
        "noise": dict(reported.noise),
    }


def _plain(value: Any) -> Any:
    """Values as JSON has them: it knows neither infinity nor what is not a number, nor NumPy's scalars."""
    if isinstance(value, np.generic):
        value = value.item()
    if isinstance(value, Mapping):
        return {str(key): _plain(one) for key, one in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(one) for one in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def _stems(names: Sequence[str]) -> dict[str, str]:
    """What the files of each method begin with: its name, marked where a file system could take it for another."""
    lowered = [name.casefold() for name in names]
    earlier = [lowered[:at].count(name) for at, name in enumerate(lowered)]
    return {name: f"{name}-{'x' * count}" if count else name for name, count in zip(names, earlier, strict=True)}


def _numbered(name: str, number: int) -> str:
    return name if number == 1 else f"{name}-{number}"


def _write_table(table: Table, file: Path) -> None:
    """With all digits; an empty cell is withheld, or not defined."""
    with file.open("w", encoding="utf-8", newline="") as opened:
        writer = csv.writer(opened)
        writer.writerow(table.columns)
        writer.writerows([_plain(value) for value in row] for row in table.rows)
