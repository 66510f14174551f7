"""Files of many records in bounded memory: a site's check and its first answer, with the time and the peak memory.

    python benchmarks/statistics_rows.py [--rows 100000 1000000 10000000] [--forms csv parquet] [--output FILE]

The study describes numbers by group, asks for quartiles and fits a linear model, over a number with decimals, a whole
number, a flag, a category, a date, and a column derived from them.  Each file is read by a process of its own, whose
peak memory is given above what it holds once everything is imported.  Records that fit into ``open_data``'s ``memory``
are kept for the later rounds; ``--memory 0`` keeps none.  Times are those of the clock.
"""

from __future__ import annotations

import argparse
import json
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from machine import describe, duration, machine, save, size, table
from study_files import FORMS, write_records

from secagg.statistics import Analyst, Site, Study, open_data
from secagg.statistics.distributions import scipy_module

_MEMORY = 256_000_000
_FEW = 1000
STUDY = Study.from_toml(
    """
    name = "Benchmark"
    filters = ["age >= 18"]
    max_records = 1_000_000_000
    [columns.age]
    type = "whole"
    min = 0
    max = 110
    [columns.pressure]
    type = "number"
    min = 50
    max = 260
    decimals = 1
    outside = "clip"
    [columns.smoker]
    type = "flag"
    [columns.ward]
    type = "category"
    values = ["north", "south", "east", "west"]
    [columns.seen]
    type = "date"
    min = 2000-01-01
    max = 2029-12-31
    [columns.decades]
    type = "number"
    min = 0
    max = 11
    expression = "age / 10"
    [methods.basics]
    method = "describe"
    of = ["age", "pressure", "seen"]
    by = "ward"
    [methods.quartiles]
    method = "quantiles"
    of = "pressure"
    [methods.fit]
    method = "linear"
    y = "pressure"
    x = ["decades", "smoker", "ward"]
    """
)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, nargs="+", default=[100_000, 1_000_000, 10_000_000])
    parser.add_argument("--forms", nargs="+", choices=FORMS, default=FORMS)
    parser.add_argument("--memory", type=int, default=_MEMORY, help="as open_data has it, in bytes")
    parser.add_argument("--folder", type=Path, help="where files are written for the while (default: a temporary one)")
    parser.add_argument("--output", type=Path)
    parser.add_argument("--read", nargs=2, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.read:
        few, file = map(Path, options.read)
        print(json.dumps(read(few, file, options.memory)))
        return
    rows = [row for form in options.forms for row in measured(form, options)]
    found = {"machine": machine("pandas", "pyarrow", "scipy"), "rows": rows}
    print(describe(found["machine"]))
    heads = ["file", "records", "bytes", "check", "first round", "second round", "records per second", "peak memory"]
    print(table(heads, [cells(row) for row in rows]))
    if options.output:
        save(options.output, found)


def measured(form: str, options: argparse.Namespace) -> list[dict[str, Any]]:
    """The figures of each size of file; a file is gone before the next one is written."""
    found = []
    for rows in options.rows:
        with tempfile.TemporaryDirectory(dir=options.folder) as folder:
            few, file = (Path(folder) / f"{name}.{form}" for name in ("few", "many"))
            write_records(few, records, _FEW, 1)
            write_records(file, records, rows, 1)
            command = [sys.executable, __file__, "--memory", str(options.memory), "--read", str(few), str(file)]
            figures = json.loads(subprocess.run(command, check=True, stdout=subprocess.PIPE).stdout)
            found.append({"form": form, "records": rows, "file_bytes": file.stat().st_size, **figures})
    return found


def records(generator: np.random.Generator, rows: int) -> Mapping[str, Any]:
    age, smoker = generator.integers(0, 100, rows), generator.random(rows) < 0.3
    pressure = 100 + 0.4 * age + 6 * smoker + generator.normal(0, 12, rows)
    days = generator.integers(0, 10_000, rows)
    return {
        "age": age,
        "pressure": pressure.round(1),
        "smoker": np.where(smoker, "yes", "no"),
        "ward": generator.choice(["north", "south", "east", "west"], rows),
        "seen": (np.datetime64("2001-01-01") + days).astype("datetime64[D]"),
    }


def read(few: Path, file: Path, memory: int) -> dict[str, Any]:
    """In a process of its own: the study over a small file first, which imports all that it needs, and over this."""
    scipy_module("special")
    answered(few, memory)
    before = peak()
    seconds = answered(file, memory)
    return {**seconds, "peak_bytes": peak() - before}


def answered(file: Path, memory: int) -> dict[str, Any]:
    site = Site(STUDY, open_data(file, STUDY, memory=memory))
    times = [time.perf_counter()]
    site.check()
    times.append(time.perf_counter())
    analyst = Analyst(STUDY)
    for _ in range(2):
        question = analyst.question()
        if question is None:
            raise SystemExit("the study has fewer rounds than are measured")
        layout = analyst.layout(question)
        vector = layout.encode(site.answer(question))
        times.append(time.perf_counter())
        analyst.release(question, layout.decode(vector, 1), ["a", "b", "c"])
    check_s, *rounds_s = np.diff(times).tolist()
    return {"check_s": check_s, "rounds_s": rounds_s}


def peak() -> int:
    """Bytes: the most memory that this process ever had."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def cells(row: Mapping[str, Any]) -> list[str]:
    return [
        row["form"],
        f"{row['records']:,}",
        size(row["file_bytes"]),
        duration(row["check_s"]),
        *map(duration, row["rounds_s"]),
        f"{row['records'] / row['check_s']:,.0f}",
        size(row["peak_bytes"]),
    ]


if __name__ == "__main__":
    main()
