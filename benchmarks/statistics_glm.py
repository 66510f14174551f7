"""A logistic regression between organisations: the seconds of a round, and how many of them are reading.

    python benchmarks/statistics_glm.py [--sites 10] [--rows 1000000] [--columns 20] [--forms csv parquet]
                                        [--output FILE]

Every site has a file of so many records with so many predictors.  Each row of the table is the regression over files of
one form: with prepared records kept in memory between rounds, as is the default where they fit, and read again in each
round.  Sites answer one after another here, and each on its own machine in life, so a round's figures are those of the
median site and of the slowest one: from the question to its vector, and how much of that the file and its typing take.
The check comes before, once, and reads the file for the first time.  The protocol's time is that of all parties of a
round in this one process.  Times are those of the clock.

The sum of every round is checked against the plain one.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
import time
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from machine import describe, duration, machine, save, size, table
from study_files import FORMS, write_records

from secagg.simulation import simulate
from secagg.statistics import Analyst, Chunk, Dataset, Question, Site, Study, StudyLayout, open_data

_EFFECT = 0.3


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """Seconds of one form of files; those of a round are of the median site and of the slowest one."""

    form: str
    kept: bool
    file_bytes: int
    check_s: float
    round_s: float
    slowest_s: float
    reading_share: float
    protocol_s: float
    rounds: int


class Timed:
    """A dataset, and the seconds that its chunks took to make."""

    def __init__(self, dataset: Dataset) -> None:
        self._dataset = dataset
        self.seconds = 0.0

    def chunks(self) -> Iterator[Chunk]:
        chunks = self._dataset.chunks()
        while True:
            started = time.perf_counter()
            chunk = next(chunks, None)
            self.seconds += time.perf_counter() - started
            if chunk is None:
                return
            yield chunk


@dataclass(slots=True)
class Measured:
    """One site's seconds: of its check, of each round's answer, and how many of these it read."""

    site: Site
    data: Timed
    check_s: float = 0.0
    rounds_s: list[float] = field(default_factory=list)
    reading_s: list[float] = field(default_factory=list)

    def check(self) -> None:
        started = time.perf_counter()
        self.site.check()
        self.check_s = time.perf_counter() - started

    def answer(self, question: Question, layout: StudyLayout) -> np.ndarray:
        started, read = time.perf_counter(), self.data.seconds
        vector = layout.encode(self.site.answer(question))
        self.rounds_s.append(time.perf_counter() - started)
        self.reading_s.append(self.data.seconds - read)
        return vector


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sites", type=int, default=10)
    parser.add_argument("--rows", type=int, default=1_000_000, help="records of each site")
    parser.add_argument("--columns", type=int, default=20, help="predictors")
    parser.add_argument("--forms", nargs="+", choices=FORMS, default=FORMS)
    parser.add_argument("--folder", type=Path, help="where files are written for the while (default: a temporary one)")
    parser.add_argument("--output", type=Path)
    options = parser.parse_args()
    study, rows = study_of(options.columns), []
    for form in options.forms:
        with tempfile.TemporaryDirectory(dir=options.folder) as folder:
            files = [Path(folder) / f"{number}.{form}" for number in range(options.sites)]
            for seed, file in enumerate(files):
                write_records(
                    file, lambda generator, count: records(generator, count, options.columns), options.rows, seed
                )
            rows += [measured(study, files, kept) for kept in (True, False)]
    found = {"machine": machine("pandas", "pyarrow", "scipy"), "rows": [asdict(row) for row in rows]}
    print(describe(found["machine"]))
    print(f"{options.sites} sites of {options.rows:,} records, {options.columns} predictors.\n")
    heads = [
        "file",
        "bytes",
        "records",
        "check, once",
        "round, median site",
        "slowest",
        "reading",
        "protocol",
        "rounds",
    ]
    print(table(heads, [cells(row) for row in rows]))
    if options.output:
        save(options.output, found)


def study_of(columns: int) -> Study:
    names = names_of(columns)
    text = "".join(f'[columns.{name}]\ntype = "number"\nmin = -8\nmax = 8\noutside = "clip"\n' for name in names)
    method = f'[methods.fit]\nmethod = "glm"\noutcome = "event"\npredictors = {names}\n'
    return Study.from_toml(f'name = "Benchmark"\n{text}[columns.event]\ntype = "flag"\n{method}')


def names_of(columns: int) -> list[str]:
    return [f"x{number}" for number in range(columns)]


def records(generator: np.random.Generator, rows: int, columns: int) -> Mapping[str, Any]:
    """Predictors with four decimals, every other of which has an effect."""
    x = generator.standard_normal((rows, columns)).round(4)
    effects = np.where(np.arange(columns) % 2, _EFFECT, 0.0)
    event = generator.random(rows) < 1 / (1 + np.exp(1 - x @ effects))
    return dict(zip(names_of(columns), x.T, strict=True)) | {"event": event.astype(np.int8)}


def measured(study: Study, files: list[Path], kept: bool) -> Row:
    sites = [opened(study, file, kept) for file in files]
    for one in sites:
        one.check()
    analyst, protocol_s = Analyst(study), []
    while (question := analyst.question()) is not None:
        layout = analyst.layout(question)
        vectors = [one.answer(question, layout) for one in sites]
        started = time.perf_counter()
        outcome = simulate(vectors, layout.config_for(len(sites), study.release.min_organisations))
        protocol_s.append(time.perf_counter() - started)
        if not np.array_equal(outcome.sum, np.sum(vectors, axis=0, dtype=np.uint64)):
            raise SystemExit("a sum is wrong")
        analyst.release(question, layout.decode(outcome.sum, len(sites)), [file.stem for file in files])
    if why := analyst.result().methods["fit"].result.withheld:
        raise SystemExit(why)
    answers = [seconds for one in sites for seconds in one.rounds_s]
    return Row(
        form=files[0].suffix[1:],
        kept=kept,
        file_bytes=files[0].stat().st_size,
        check_s=statistics.median(one.check_s for one in sites),
        round_s=statistics.median(answers),
        slowest_s=max(answers),
        reading_share=sum(seconds for one in sites for seconds in one.reading_s) / sum(answers),
        protocol_s=statistics.median(protocol_s),
        rounds=analyst.rounds,
    )


def opened(study: Study, file: Path, kept: bool) -> Measured:
    data = Timed(open_data(file, study) if kept else open_data(file, study, memory=0))
    return Measured(Site(study, data), data)


def cells(row: Row) -> list[str]:
    return [
        row.form,
        size(row.file_bytes),
        "kept in memory" if row.kept else "read in each round",
        duration(row.check_s),
        duration(row.round_s),
        duration(row.slowest_s),
        f"{row.reading_share:.0%}",
        duration(row.protocol_s),
        str(row.rounds),
    ]


if __name__ == "__main__":
    main()
