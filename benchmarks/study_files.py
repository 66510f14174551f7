"""Files of invented records for the benchmarks of studies, written some records at a time."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Final

import numpy as np
import pyarrow as pa
import pyarrow.csv as pacsv
import pyarrow.parquet as pq

FORMS: Final = ("csv", "parquet")
_ROWS: Final = 100_000
_WRITERS: Final[Mapping[str, Callable[[str, Any], Any]]] = {".csv": pacsv.CSVWriter, ".parquet": pq.ParquetWriter}

Records = Callable[[np.random.Generator, int], Mapping[str, Any]]
"""Makes so many records: arrays by column."""


def write_records(path: Path, records: Records, rows: int, seed: int) -> None:
    """A file of so many records, whose suffix says of which form; the same ones for the same seed."""
    generator = np.random.default_rng(seed)
    schema = pa.table(dict(records(np.random.default_rng(seed), 1))).schema
    with _WRITERS[path.suffix](str(path), schema) as writer:
        for start in range(0, rows, _ROWS):
            writer.write_table(pa.table(dict(records(generator, min(_ROWS, rows - start))), schema=schema))
