"""A site's own records as a dataset: read in chunks, typed, filtered, and marked where they do not fit the study.

An iteration over the chunks never raises for a value: what does not fit is in the chunks' tallies, and ``Site.check``
refuses it before the site connects.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, final

import numpy as np
import numpy.typing as npt

from secagg.errors import InputError
from secagg.statistics.chunk import Chunk, Flags, Misfit, Tally
from secagg.statistics.columns import Category, Column, Date, Flag, Number, Whole, bounds_of
from secagg.statistics.expressions import derived_columns, derived_data, parsed, value_of, where_column
from secagg.statistics.reading import Read, TextForm, read
from secagg.statistics.sources import Part, Source
from secagg.statistics.study import Study

if TYPE_CHECKING:
    from secagg.statistics.evaluator import Value

_ROUNDED: Final = 1e-6
"""Of the last decimal: what a float32 may be off is no further decimal."""


@final
@dataclass(frozen=True)
class _Settled:
    """A column after its rules, shape (records,) each.  Secret.

    Attributes:
        data: as a chunk has it.  A value beyond a range that refuses it is there as it is: a filter may take it out.
        missing: nothing was given.
        outside: the range or the list excludes it, and there is a rule for it.
        rounded: it had more decimals.
        unreadable: it is not of the column's type, or not on its list, and that is refused.
        beyond: it is beyond the range, and that is refused.
    """

    data: npt.NDArray[Any]
    missing: Flags
    outside: Flags
    rounded: Flags
    unreadable: Flags
    beyond: Flags

    def __repr__(self) -> str:
        return "_Settled(...)"


@final
class StudyData:
    """Made by ``open_data``.  Secret: no record shows in its repr."""

    def __init__(self, study: Study, source: Source, text: TextForm, *, memory: int, rows: int) -> None:
        self._columns = study.columns
        self._source, self._text = source, text
        self._memory, self._rows = memory, rows
        self._filters = [parsed(one) for one in study.filters]
        self._wheres = {method.where: parsed(method.where) for method in study.methods.values() if method.where}
        self._used = study.used
        derived = derived_columns(study.columns)
        needed = set(self._used).union(*(one.names for one in (*self._filters, *self._wheres.values())))
        for name in reversed(derived):
            needed |= derived[name].names if name in needed else set()
        self._derived = {name: one for name, one in derived.items() if name in needed}
        self._needed = sorted(needed - derived.keys())
        self._sources = self._found_in(source)
        self._kept: list[Chunk] | None = None

    def chunks(self) -> Iterator[Chunk]:
        """All records that pass the filters.  Raises InputError for a file that has changed or cannot be read."""
        if self._kept is not None:
            yield from self._kept
            return
        kept: list[Chunk] = []
        size = 0
        for chunk in self._read():
            size += chunk.nbytes
            if size <= self._memory:
                kept.append(chunk)
            else:
                kept.clear()
            yield chunk
        if size <= self._memory:
            self._kept = kept

    def __repr__(self) -> str:
        return f"StudyData({self._source.name!r})"

    def _found_in(self, source: Source) -> dict[str, str]:
        """The file's name of each column that is read."""
        found = {name: self._columns[name].source or name for name in self._needed}
        for name, own in found.items():
            count = source.columns.count(own)
            if count != 1:
                has = ", ".join(source.columns[:20]) or "none"
                how = "no" if count == 0 else "more than one"
                raise InputError(
                    f"{source.name}: there is {how} column {own!r}, the source of columns.{name}; there are {has}; "
                    "name another source in the study, or the right separator"
                )
        return found

    def _read(self) -> Iterator[Chunk]:
        first = 1
        wanted = sorted(set(self._sources.values()))
        for part in self._source.parts(wanted, self._rows):
            yield self._chunk(part, first)
            first += len(part.table)

    def _chunk(self, part: Part, first: int) -> Chunk:
        size = len(part.table)
        settled: dict[str, _Settled] = {}
        values: dict[str, Value] = {}
        expressions = self._derived or self._filters or self._wheres
        for name, own in self._sources.items():
            settled[name] = _settled(self._columns[name], read(self._columns[name], part.table[own], self._text))
            if expressions:
                values[name] = value_of(self._columns[name], name, settled[name].data)
        for name, expression in self._derived.items():
            data = derived_data(self._columns[name], expression.value(values), size)
            settled[name] = _settled(self._columns[name], Read(data, np.zeros(size, np.bool_)))
            values[name] = value_of(self._columns[name], name, settled[name].data)
        keep: Flags = np.ones(size, np.bool_)
        for condition in self._filters:
            keep &= condition.value(values).data == 1.0
        columns = {name: _without(settled[name])[keep] for name in self._used}
        for text, condition in self._wheres.items():
            columns[where_column(text)] = np.broadcast_to(condition.value(values).data, (size,))[keep]
        return Chunk(columns, int(np.count_nonzero(keep)), self._tally(part, settled, keep, first))

    def _tally(self, part: Part, settled: Mapping[str, _Settled], keep: Flags, first: int) -> Tally:
        misfits: list[Misfit] = []
        if part.skipped:
            misfits.append(
                Misfit("", "with another number of values than the header", part.skipped, part.first_skipped)
            )
        for name, one in settled.items():
            column = self._columns[name]
            beyond = one.beyond & keep if name in self._used else np.zeros(keep.size, np.bool_)
            for marked, why in ((one.unreadable, _unreadable_words(column)), (beyond, _beyond_words(column))):
                if marked.any():
                    misfits.append(Misfit(name, why, int(np.count_nonzero(marked)), first + int(np.argmax(marked))))
        used = {name: settled[name] for name in self._used}
        return Tally(
            read=keep.size,
            outside={name: int(np.count_nonzero(one.outside & keep)) for name, one in used.items()},
            missing={name: int(np.count_nonzero(one.missing & keep)) for name, one in used.items()},
            rounded={name: int(np.count_nonzero(one.rounded & keep)) for name, one in used.items()},
            misfits=tuple(misfits),
        )


def _settled(column: Column, found: Read) -> _Settled:
    """A column after the study's rules for what does not fit."""
    if isinstance(column, Category):
        return _settled_category(column, found)
    data, unreadable = found.data, found.unreadable
    nothing: Flags = np.zeros(data.size, np.bool_)
    missing = np.isnan(data) & ~unreadable
    if isinstance(column, Flag):
        ruled = column.other == "missing"
        return _Settled(
            data, missing, unreadable if ruled else nothing, nothing, nothing if ruled else unreadable, nothing
        )
    rounded = nothing
    if isinstance(column, Whole):
        fractional = np.isfinite(data) & (data != np.rint(data))
        data, unreadable = np.where(fractional, np.nan, data), unreadable | fractional
    elif isinstance(column, Number) and column.decimals is not None:
        data, rounded = _to_decimals(data, 10.0**column.decimals)
    low, high = bounds_of(column)
    beyond = (data < low) | (data > high)
    outside, refused = nothing, nothing
    if column.outside == "refuse":
        refused = beyond
    elif column.outside == "clip":
        data, outside = np.clip(data, low, high), beyond
    else:
        data, outside, unreadable = np.where(beyond, np.nan, data), beyond | unreadable, nothing
    if isinstance(column, Number | Whole) and column.fill is not None:
        data = np.where(np.isnan(data), float(column.fill), data)
    return _Settled(data, missing, outside, rounded, unreadable, refused)


def _settled_category(column: Category, found: Read) -> _Settled:
    codes, unlisted = found.data, found.unreadable
    nothing: Flags = np.zeros(codes.size, np.bool_)
    missing = (codes < 0) & ~unlisted
    refused = column.other == "refuse"
    if column.other in column.values:
        codes = np.where(unlisted, column.values.index(column.other), codes)
    if column.missing:
        codes = np.where(codes < 0, column.values.index(column.missing), codes)
    return _Settled(
        codes, missing, nothing if refused else unlisted, nothing, unlisted if refused else nothing, nothing
    )


def _to_decimals(data: npt.NDArray[np.float64], units: float) -> tuple[npt.NDArray[np.float64], Flags]:
    """The nearest numbers with so many decimals, and which ones had more."""
    with np.errstate(all="ignore"):
        whole = np.rint(data * units)
        rounded = np.abs(data * units - whole) > _ROUNDED
        return np.where(np.isfinite(whole), whole / units, data), rounded & np.isfinite(whole)


def _without(one: _Settled) -> npt.NDArray[Any]:
    """The data, with values that are refused as missing ones: a chunk holds nothing beyond its ranges."""
    return np.where(one.beyond, np.nan, one.data) if one.beyond.any() else one.data


def _unreadable_words(column: Column) -> str:
    match column:
        case Category():
            return "that the study does not list"
        case Flag():
            return "other than the texts for yes and no"
        case Whole():
            return "that cannot be read as a whole number"
        case Number():
            return "that cannot be read as a number"
        case Date():
            return f"that cannot be read as a date of the format {column.format}"


def _beyond_words(column: Column) -> str:
    match column:
        case Number():
            return f"outside of the range from {column.min:.15g} to {column.max:.15g}"
        case Whole() | Date():
            return f"outside of the range from {column.min} to {column.max}"
    return "outside of the list"
