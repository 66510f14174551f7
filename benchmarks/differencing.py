"""What the ledger against differencing takes for each round, beside its target of 50 ms for 1,000 clients.

    python benchmarks/differencing.py --rounds 1000 --clients 1000

Each round invites whole batches out of twice as many members; the set is checked, and recorded in a file.  Every tenth
round is then asked for once more without one of its clients, which must be refused.  A check reads the file; to record
also waits until the disk has what was written; what that takes alone is in the row without a check.
"""

from __future__ import annotations

import argparse
import random
import statistics
import tempfile
import time
from collections import defaultdict
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Final, TypeVar

from machine import describe, duration, machine, save, table

from secagg.differencing import DifferenceLedger, batches_of, sample
from secagg.durable import FileKind, PrivateDatabase
from secagg.errors import SecAggError

T = TypeVar("T")
KIND: Final = FileKind("test", 1, 1, SecAggError)
TARGET_S: Final = 0.05
BATCH: Final = 10
_EVERY: Final = 10


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure, print, save."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=1000)
    parser.add_argument(
        "--clients", type=int, default=1000, help="clients in each round; the members are twice as many"
    )
    parser.add_argument("--output", type=Path, help="a JSON file to write")
    options = parser.parse_args(arguments)
    here = machine()
    print(
        f"{describe(here)}\n{options.rounds:,} rounds of {options.clients:,} clients, batches of {BATCH}\n", flush=True
    )
    with tempfile.TemporaryDirectory() as folder:
        seconds = _seconds(Path(folder) / "ledger.sqlite", options.rounds, options.clients)
    rows, figures = [], {}
    for what, taken in seconds.items():
        median, worst = statistics.median(taken), max(taken)
        rows.append([what, duration(median), duration(worst), f"{median / TARGET_S:.2f}", f"{worst / TARGET_S:.2f}"])
        figures[what] = {"median": median, "worst": worst}
    print(table(["call", "median", "worst", "median over 50 ms", "worst over 50 ms"], rows))
    if options.output:
        save(options.output, {"machine": here, "clients": options.clients, "seconds": figures})


def _seconds(file: Path, rounds: int, clients: int) -> dict[str, list[float]]:
    """By call, of every round."""
    draw = random.Random(1)
    members = [f"member-{number:06}" for number in range(2 * clients)]
    ledger = DifferenceLedger(file)
    one_row = PrivateDatabase(
        file.with_name("one.sqlite"), KIND, lambda database: database.execute("CREATE TABLE one (n)")
    )
    taken: defaultdict[str, list[float]] = defaultdict(list)

    def time_of(call: str, work: Callable[[], T]) -> T:
        started = time.perf_counter()
        done = work()
        taken[call].append(time.perf_counter() - started)
        return done

    def one() -> None:
        with one_row.step():
            one_row.execute("INSERT INTO one VALUES (1)")

    for number in range(rounds):
        batches = time_of("cut batches", lambda: batches_of(ledger.classes(), members, BATCH))
        chosen = sample(batches, clients // BATCH, draw)
        if time_of("check, allowed", lambda: ledger.classes().why_not([chosen], BATCH)):  # noqa: B023
            raise SystemExit("the ledger refuses whole batches")
        if number % _EVERY == 0:
            ledger.record([chosen], BATCH)
            if not time_of("check, refused", lambda: ledger.classes().why_not([chosen[1:]], BATCH)):  # noqa: B023
                raise SystemExit("the ledger lets a set through that gives one member away")
        else:
            time_of("check and record", lambda: ledger.record([chosen], BATCH))  # noqa: B023
        time_of("one row, no check", one)
    ledger.close()
    one_row.close()
    return taken


if __name__ == "__main__":
    main()
