"""Where a site's records come from: CSV, Parquet, or a data frame, as Arrow tables of bounded size.

Nothing here raises for a value; lines of a CSV file that are no records are counted.
"""

from __future__ import annotations

import codecs
import os
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Protocol, final

import pandas as pd
import pyarrow as pa
import pyarrow.csv as pacsv
import pyarrow.parquet as pq

from secagg.errors import InputError, ParameterError

_BLOCK: Final = 2**20
"""Bytes of a CSV file at a time; a line must be shorter."""


@final
@dataclass(frozen=True)
class Part:
    """Some records.

    Attributes:
        table: the columns that were asked for.
        skipped: lines that were no records so far in this part.
        first_skipped: the number of the first of them, counted as records are; 0: none.
    """

    table: Any
    skipped: int = 0
    first_skipped: int = 0


class Source(Protocol):
    """Records in columns, as often as they are asked for."""

    name: str
    columns: tuple[str, ...]

    def parts(self, columns: Sequence[str], rows: int) -> Iterator[Part]:
        """All records, at most so many at a time.  Raises InputError for a file that cannot be read or has changed."""
        ...


@final
@dataclass(frozen=True)
class CsvForm:
    """How a CSV file is written.  Raises ParameterError."""

    separator: str = ","
    encoding: str = "utf-8"
    quote: str = '"'

    def __post_init__(self) -> None:
        for name, text in (("separator", self.separator), ("quote", self.quote)):
            if len(text) != 1 or ord(text) > 127 or text in "\r\n":
                raise ParameterError(f"{name} {text!r}: must be one ASCII character, such as ';'")
        try:
            codecs.lookup(self.encoding)
        except LookupError:
            raise ParameterError(f"encoding {self.encoding!r} is unknown: use utf-8 or latin-1, for example") from None


class _File:
    """A file that must stay as it was when it was opened."""

    def __init__(self, path: Path) -> None:
        self.name = str(path)
        self._path = path
        self._state = self._now()

    def _now(self) -> tuple[int, int, int]:
        found = os.stat(self._path)
        return found.st_ino, found.st_size, found.st_mtime_ns

    def _check_unchanged(self) -> None:
        if self._now() != self._state:
            raise InputError(f"{self.name}: the file has changed since it was opened; start again")


@final
class CsvSource(_File):
    """A CSV file with a header line."""

    def __init__(self, path: Path, form: CsvForm) -> None:
        super().__init__(path)
        self._form = form
        self.columns = tuple(self._schema().names)

    def parts(self, columns: Sequence[str], rows: int) -> Iterator[Part]:
        """See ``Source``; every column is text."""
        self._check_unchanged()
        skipped: list[int] = []
        reader = self._reader(columns, skipped)
        while True:
            try:
                batch = reader.read_next_batch()
            except StopIteration:
                break
            except pa.ArrowInvalid:
                raise self._unreadable() from None
            table = pa.Table.from_batches([batch])
            for start in range(0, len(table), rows):
                yield Part(table.slice(start, rows), len(skipped), skipped[0] if skipped else 0)
                skipped.clear()
        if skipped:
            yield Part(reader.schema.empty_table(), len(skipped), skipped[0])
        self._check_unchanged()

    def _schema(self) -> Any:
        """Without a function of Python's where the file allows it.

        Arrow reads ahead on a thread of its own, and drops the function there: where the interpreter ends at that
        moment, as when a policy refuses a study at once, it aborts the process.
        """
        try:
            return self._open(None, None).schema
        except (pa.ArrowInvalid, UnicodeError):
            return self._reader(None, []).schema

    def _reader(self, columns: Sequence[str] | None, skipped: list[int]) -> Any:
        def skip(row: Any) -> str:
            skipped.append(row.number - 1)
            return "skip"

        try:
            return self._open(columns, skip)
        except (pa.ArrowInvalid, UnicodeError):
            raise self._unreadable() from None

    def _open(self, columns: Sequence[str] | None, skip: Callable[[Any], str] | None) -> Any:
        utf8 = codecs.lookup(self._form.encoding).name in ("utf-8", "utf-8-sig", "ascii")
        return pacsv.open_csv(
            self.name,
            pacsv.ReadOptions(use_threads=False, block_size=_BLOCK, encoding="utf8" if utf8 else self._form.encoding),
            pacsv.ParseOptions(
                delimiter=self._form.separator,
                quote_char=self._form.quote,
                newlines_in_values=True,
                invalid_row_handler=skip,
            ),
            pacsv.ConvertOptions(
                include_columns=list(columns or ()),
                column_types={name: pa.string() for name in columns or ()},
                strings_can_be_null=False,
            ),
        )

    def _unreadable(self) -> InputError:
        return InputError(
            f"{self.name}: this cannot be read as CSV with the separator {self._form.separator!r} and the encoding "
            f"{self._form.encoding}: name the right ones; each line must be shorter than {_BLOCK} bytes"
        )


@final
class ParquetSource(_File):
    """A Parquet file, of which only the columns that are asked for are read."""

    def __init__(self, path: Path) -> None:
        super().__init__(path)
        self.columns = tuple(self._open().schema_arrow.names)

    def parts(self, columns: Sequence[str], rows: int) -> Iterator[Part]:
        """See ``Source``."""
        self._check_unchanged()
        file = self._open()
        try:
            for batch in file.iter_batches(batch_size=rows, columns=list(columns), use_threads=False):
                yield Part(pa.Table.from_batches([batch]))
        except pa.ArrowException:
            raise InputError(f"{self.name}: the file is damaged") from None
        self._check_unchanged()

    def _open(self) -> Any:
        try:
            return pq.ParquetFile(self.name)
        except pa.ArrowException:
            raise InputError(f"{self.name}: this is no Parquet file") from None


@final
class FrameSource:
    """A data frame, which must stay as it is."""

    name = "the data frame"

    def __init__(self, frame: pd.DataFrame) -> None:
        self._frame = frame
        self.columns = tuple(str(name) for name in frame.columns)

    def parts(self, columns: Sequence[str], rows: int) -> Iterator[Part]:
        """See ``Source``."""
        places = [self.columns.index(name) for name in columns]
        for start in range(0, len(self._frame), rows):
            part = self._frame.iloc[start : start + rows]
            yield Part(pa.table([_arrow(part.iloc[:, place]) for place in places], names=list(columns)))


def open_source(data: str | os.PathLike[str] | pd.DataFrame, form: CsvForm) -> Source:
    """Raises InputError for a file that cannot be read, and OSError."""
    if isinstance(data, pd.DataFrame):
        return FrameSource(data)
    path = Path(data)
    with path.open("rb") as file:
        parquet = file.read(4) == b"PAR1"
    return ParquetSource(path) if parquet else CsvSource(path, form)


def _arrow(series: pd.Series) -> Any:
    """A column of a frame; one of several types of Python becomes text."""
    try:
        return pa.Array.from_pandas(series)
    except (pa.ArrowException, TypeError):
        return pa.Array.from_pandas(series.map(str, na_action="ignore"), type=pa.string())
