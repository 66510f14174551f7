"""``open_data``: a site's own records as a dataset.  Imports pandas and pyarrow only when it is called."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Final

from secagg._install import how_to_install
from secagg.errors import ParameterError
from secagg.statistics.chunk import Dataset
from secagg.statistics.study import Study

if TYPE_CHECKING:
    import pandas as pd

MISSING: Final = ("", "NA", "N/A", "n/a", "NaN", "nan", "NULL", "null", "None", "<NA>", "#N/A")
"""Texts that stand for missing values."""
_ROWS: Final = 2**16
_MEMORY: Final = 256_000_000


def open_data(
    data: str | os.PathLike[str] | pd.DataFrame,
    study: Study,
    *,
    separator: str = ",",
    encoding: str = "utf-8",
    quote: str = '"',
    decimal: str = ".",
    thousands: str = "",
    missing: tuple[str, ...] = MISSING,
    memory: int = _MEMORY,
    rows: int = _ROWS,
) -> Dataset:
    """A site's records for this study.

    Args:
        data: a CSV file with a header line, a Parquet file, or a data frame, which must not change afterwards.
        study: says which columns are read, and what they hold.
        separator, encoding, quote, decimal, thousands: how a CSV file is written.
        missing: the texts of missing values; a category that lists one of them has it as a value.
        memory: bytes of prepared records that are kept; more than that is read again in each round.
        rows: the most records of a chunk.

    Raises InputError for a file that cannot be read or lacks columns, ParameterError, and OSError.
    """
    try:
        from secagg.statistics.reading import TextForm
        from secagg.statistics.sources import CsvForm, open_source
        from secagg.statistics.study_data import StudyData
    except ModuleNotFoundError as missed:
        if missed.name not in ("pandas", "pyarrow"):
            raise
        raise ParameterError(
            f"{missed.name} is not installed, and reading data needs it: {how_to_install('stats')}"
        ) from None
    text = TextForm(decimal, thousands, missing)
    source = open_source(data, CsvForm(separator, encoding, quote))
    return StudyData(study, source, text, memory=memory, rows=rows)
