"""Some records of a site, typed as the study says."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol, TypeAlias, final

import numpy as np
import numpy.typing as npt

Floats: TypeAlias = npt.NDArray[np.float64]
Codes: TypeAlias = npt.NDArray[np.int64]
Flags: TypeAlias = npt.NDArray[np.bool_]


@final
@dataclass(frozen=True)
class Misfit:
    """Values for which the study has a site stay away.  Secret: none of it is sent.

    Attributes:
        column: the study's name of it; empty for lines that are no records.
        why: what is wrong with them, as it stands after "3 values".
        count: how many there are.
        first: the record of the first one, counted from 1.
    """

    column: str
    why: str
    count: int = field(repr=False)
    first: int = field(repr=False)


@final
@dataclass(frozen=True)
class Tally:
    """What was done to the records of a chunk on the way.  Secret, but for its part in a sum.

    Attributes:
        read: records before the filters.
        outside: by column, values that the range or the list excludes, and for which the study has a rule.
        missing: by column, missing values, before anything stands for them.
        rounded: by column, numbers with more decimals than the study says.
        misfits: what a site refuses before it connects; afterwards such a value is a missing one.
    """

    read: int = field(repr=False)
    outside: Mapping[str, int] = field(repr=False)
    missing: Mapping[str, int] = field(repr=False)
    rounded: Mapping[str, int] = field(repr=False)
    misfits: tuple[Misfit, ...] = field(repr=False)


@final
class Chunk:
    """Columns by name, all of the same length.  Secret: it shows in no repr.

    A number, a flag or a date is float64 with NaN for a missing value (a flag is 0 or 1, a date counts days from
    1970-01-01); a category is int64, its position among the study's values, with -1 for a missing value.
    """

    __slots__ = ("_columns", "_tally", "size")

    def __init__(self, columns: Mapping[str, npt.NDArray[Any]], size: int, tally: Tally | None = None) -> None:
        self._columns = dict(columns)
        self._tally = tally
        self.size = size

    @property
    def nbytes(self) -> int:
        """Bytes of its columns."""
        return sum(column.nbytes for column in self._columns.values())

    @property
    def tally(self) -> Tally:
        """What was done to its records; of a chunk that was made without one, its missing values are counted."""
        if self._tally is not None:
            return self._tally
        missing = {name: int(np.count_nonzero(~self.complete([name]))) for name in self._columns}
        return Tally(self.size, {}, missing, {}, ())

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
        selected = {name: column[which] for name, column in self._columns.items()}
        return Chunk(selected, int(np.count_nonzero(which)), self._tally)

    def __repr__(self) -> str:
        return "Chunk(...)"


class Dataset(Protocol):
    """A site's records, some at a time, as often as they are asked for; always the same ones."""

    def chunks(self) -> Iterator[Chunk]:
        """All records once, after the study's filters, in chunks of a bounded size."""
        ...
