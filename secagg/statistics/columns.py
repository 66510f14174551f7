"""The columns of a study: what each one holds, in which range, and what becomes of what does not fit.

A range is the study's, agreed on by everybody before anything is read, so that it says nothing about anybody's data.
Everything that is summed is bounded by it.
"""

from __future__ import annotations

import contextlib
import datetime
import math
from typing import Final, Literal, TypeAlias

import msgspec

from secagg.errors import ParameterError
from secagg.wording import counted

Outside: TypeAlias = Literal["refuse", "clip", "missing"]
"""What becomes of a value outside of the range: the site does not take part, or the nearer end stands for it, or it
counts as missing."""

_EPOCH: Final = datetime.date(1970, 1, 1).toordinal()
_A_DAY: Final = datetime.date(1987, 11, 23)
"""Written and read again, it shows that a format has day, month and year."""
_LARGEST: Final = 2.0**53 - 1
"""A whole number beyond it, read as float64, is outside of every range; 2^53 + 1 would be read as 2^53."""
_MOST_UNITS: Final = 2.0**51
"""Of a number with decimals: up to here, a float64 times 10^decimals rounds to the whole number that was meant."""
_MOST_DECIMALS: Final = 12
_MOST_LEVELS: Final = 10_000


class _Base(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True, tag_field="type"):
    """What all columns have.

    Attributes:
        source: the column's name in the file; empty: its name in the study.
        expression: what a derived column is computed from; see ``secagg.statistics.expressions``.
        label: what reports call it; empty: its name.
    """

    source: str = ""
    expression: str = ""
    label: str = ""

    def __post_init__(self) -> None:
        if self.source and self.expression:
            raise ParameterError("a column has a source or an expression, not both: leave one of them out")


class Number(_Base, frozen=True, forbid_unknown_fields=True, kw_only=True, tag="number"):
    """A measured number, from ``min`` to ``max``.

    Attributes:
        min, max: the range, ends included.
        decimals: digits behind the point, 0 to 12, where the numbers have a fixed number of them: they are then summed
            without any error.  None: they are summed as float64.
        outside: what becomes of a number that is not in the range.
        fill: stands for missing values; None: a record without it is left out of each method that uses the column.
        unit: for reports.
    """

    min: float
    max: float
    decimals: int | None = None
    outside: Outside = "refuse"
    fill: float | None = None
    unit: str = ""

    def __post_init__(self) -> None:
        super().__post_init__()
        _check_range(self.min, self.max)
        if self.decimals is not None:
            if not 0 <= self.decimals <= _MOST_DECIMALS:
                raise ParameterError(f"decimals is {self.decimals}: must be from 0 to {_MOST_DECIMALS}")
            most = _MOST_UNITS if self.decimals else _LARGEST
            if max(abs(self.min), abs(self.max)) * 10**self.decimals > most:
                raise ParameterError(
                    f"a range up to {max(abs(self.min), abs(self.max)):g} with {self.decimals} decimals has more "
                    "digits than a float64 holds: narrow the range, or lower decimals"
                )
        if self.fill is not None and not self.min <= self.fill <= self.max:
            raise ParameterError(f"fill is {self.fill:g}: must be in the range from {self.min:g} to {self.max:g}")


class Whole(_Base, frozen=True, forbid_unknown_fields=True, kw_only=True, tag="whole"):
    """A whole number from ``min`` to ``max``, summed without any error; for the other attributes see ``Number``."""

    min: int
    max: int
    outside: Outside = "refuse"
    fill: int | None = None
    unit: str = ""

    def __post_init__(self) -> None:
        super().__post_init__()
        _check_range(self.min, self.max)
        if self.fill is not None and not self.min <= self.fill <= self.max:
            raise ParameterError(f"fill is {self.fill}: must be in the range from {self.min} to {self.max}")


class Flag(_Base, frozen=True, forbid_unknown_fields=True, kw_only=True, tag="flag"):
    """Yes or no.

    Attributes:
        yes, no: how a file writes them, in any case of letters.
        other: what becomes of anything else.
    """

    yes: tuple[str, ...] = ("1", "true", "yes", "y")
    no: tuple[str, ...] = ("0", "false", "no", "n")
    other: Literal["refuse", "missing"] = "refuse"

    def __post_init__(self) -> None:
        super().__post_init__()
        if both := {text.casefold() for text in self.yes} & {text.casefold() for text in self.no}:
            raise ParameterError(f"{min(both)!r} stands for yes and for no: leave it out of one of them")
        if not self.yes or not self.no:
            raise ParameterError("a flag needs a text for yes and one for no")


class Category(_Base, frozen=True, forbid_unknown_fields=True, kw_only=True, tag="category"):
    """One of a list of values that everybody knows; a site need not have all of them.

    Attributes:
        values: in the order of reports; the first one is the reference of regressions.
        codes: how a file writes a value, where it does not write the value itself: ``{"1" = "female"}``.
        other: what becomes of a value that is not listed: "refuse", "missing", or one of ``values``.
        missing: the one of ``values`` that stands for missing ones; empty: such a record is left out.
    """

    values: tuple[str, ...]
    codes: dict[str, str] = {}
    other: str = "refuse"
    missing: str = ""

    def __post_init__(self) -> None:
        super().__post_init__()
        if not 1 <= len(self.values) <= _MOST_LEVELS:
            raise ParameterError(f"values lists {counted(len(self.values), 'value')}: give 1 to {_MOST_LEVELS}")
        if len(set(self.values)) < len(self.values):
            twice = next(value for value in self.values if self.values.count(value) > 1)
            raise ParameterError(f"values lists {twice!r} twice")
        for code, value in self.codes.items():
            if value not in self.values:
                raise ParameterError(f"codes: {code!r} stands for {value!r}, which values does not list")
        for name, given, words in (
            ("other", self.other, ("refuse", "missing")),
            ("missing", self.missing, ("",)),
        ):
            if given not in (*words, *self.values):
                raise ParameterError(f"{name} is {given!r}, which values does not list")


class Date(_Base, frozen=True, forbid_unknown_fields=True, kw_only=True, tag="date"):
    """A day; methods have it as days since 1970-01-01.

    Attributes:
        min, max: the first and the last day.
        format: of ``strptime``, where the file does not write 2024-12-31.
        outside: what becomes of a day that is not in the range.
    """

    min: datetime.date
    max: datetime.date
    format: str = "%Y-%m-%d"
    outside: Outside = "refuse"

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.min >= self.max:
            raise ParameterError(f"a range from {self.min} to {self.max}: max must be after min")
        read: datetime.date | None = None
        with contextlib.suppress(ValueError):
            read = datetime.datetime.strptime(_A_DAY.strftime(self.format), self.format).date()
        if read != _A_DAY:
            raise ParameterError(f"format {self.format!r} does not say which day it is: use %d, %m and %Y, for example")


Column: TypeAlias = Number | Whole | Flag | Category | Date


def days_of(day: datetime.date) -> float:
    """A day as methods have it: counted from 1970-01-01."""
    return float(day.toordinal() - _EPOCH)


def day_of(days: int) -> datetime.date:
    """The day of which ``days_of`` is this."""
    return datetime.date.fromordinal(_EPOCH + days)


def bounds_of(column: Column) -> tuple[float, float]:
    """The range of what ``Chunk.numbers`` has of a column.  Raises ParameterError for a category, which has none."""
    match column:
        case Number() | Whole():
            return float(column.min), float(column.max)
        case Flag():
            return 0.0, 1.0
        case Date():
            return days_of(column.min), days_of(column.max)
    raise ParameterError("a category has no range: use a number, or a flag")


def axis_of(name: str, column: Column) -> str:
    """What an axis of a figure says of a column: its label, and its unit where it has one."""
    unit = getattr(column, "unit", "")
    return f"{column.label or name} ({unit})" if unit else column.label or name


def decimals_of(column: Column) -> int | None:
    """The digits behind the point in which its numbers are exact; None where they are not."""
    return column.decimals if isinstance(column, Number) else 0


def levels_of(column: Column) -> tuple[str, ...]:
    """What ``Chunk.codes`` counts from 0 up.  Raises ParameterError for a column that is neither category nor flag."""
    match column:
        case Category():
            return column.values
        case Flag():
            return ("no", "yes")
    raise ParameterError("a number or a date has no levels: use a category, or a flag")


def _check_range(low: float, high: float) -> None:
    if not (math.isfinite(low) and math.isfinite(high)) or low >= high:
        raise ParameterError(f"a range from {low:g} to {high:g}: both must be finite, and max above min")
    if max(abs(low), abs(high)) > _LARGEST:
        raise ParameterError(f"a range from {low:g} to {high:g}: from 2^53 on, a float64 does not tell numbers apart")
