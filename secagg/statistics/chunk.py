"""Some records of a site, typed as the study says."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any, Protocol, TypeAlias, final

import numpy as np
import numpy.typing as npt

Floats: TypeAlias = npt.NDArray[np.float64]
Codes: TypeAlias = npt.NDArray[np.int64]
Flags: TypeAlias = npt.NDArray[np.bool_]


@final
class Chunk:
    """Columns by name, all of the same length.  Secret: it shows in no repr.

    A number, a flag or a date is float64 with NaN for a missing value (a flag is 0 or 1, a date counts days from
    1970-01-01); a category is int64, its position among the study's values, with -1 for a missing value.
    """

    __slots__ = ("_columns", "size")

    def __init__(self, columns: Mapping[str, npt.NDArray[Any]], size: int) -> None:
        self._columns = dict(columns)
        self.size = size

    def numbers(self, name: str) -> Floats:
        """A number, flag or date, shape (size,)."""
        return np.asarray(self._columns[name], np.float64)

    def codes(self, name: str) -> Codes:
        """A category or a flag, shape (size,), counted from 0 up; -1 is a missing value."""
        found = self._columns[name]
        if found.dtype.kind == "f":
            return np.where(np.isnan(found), -1, found).astype(np.int64)
        return np.asarray(found, np.int64)

    def complete(self, names: Iterable[str]) -> Flags:
        """Which records have a value in each of these columns, shape (size,)."""
        found: Flags = np.ones(self.size, np.bool_)
        for name in names:
            column = self._columns[name]
            found &= ~np.isnan(column) if column.dtype.kind == "f" else column >= 0
        return found

    def select(self, which: Flags) -> Chunk:
        """The records that are marked."""
        if which.all():
            return self
        return Chunk({name: column[which] for name, column in self._columns.items()}, int(np.count_nonzero(which)))

    def __repr__(self) -> str:
        return "Chunk(...)"


class Dataset(Protocol):
    """A site's records, some at a time, as often as they are asked for; always the same ones."""

    def chunks(self) -> Iterator[Chunk]:
        """All records once, after the study's filters, in chunks of a bounded size."""
        ...
