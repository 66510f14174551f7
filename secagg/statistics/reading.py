"""From what a file has to what a study says: one column of a table, typed, with a mark on what cannot be read.

Vectorised: Arrow and pandas do what is done by value.
"""

from __future__ import annotations

import datetime
import re
from dataclasses import dataclass
from typing import Any, Final, final

import numpy as np
import numpy.typing as npt
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.types as pt

from secagg.errors import ParameterError
from secagg.statistics.chunk import Flags
from secagg.statistics.columns import Category, Column, Date, Flag, days_of

_FEW_UNITS: Final = 2.0**53


@final
@dataclass(frozen=True)
class TextForm:
    """How texts of a file are read.  Raises ParameterError.

    Attributes:
        decimal: the decimal point.
        thousands: between groups of three digits; empty: nothing is.
        missing: the texts of missing values; a category that lists one of them has it as a value.
    """

    decimal: str
    thousands: str
    missing: tuple[str, ...]

    def __post_init__(self) -> None:
        if self.decimal not in (".", ","):
            raise ParameterError(f"decimal {self.decimal!r}: must be '.' or ','")
        if self.thousands and (len(self.thousands) != 1 or self.thousands.isalnum() or self.thousands in "+-"):
            raise ParameterError(f"thousands {self.thousands!r}: must be one character, such as '.' or a space")
        if self.thousands == self.decimal:
            raise ParameterError(f"thousands and decimal are both {self.decimal!r}: they must differ")


@final
@dataclass(frozen=True)
class Read:
    """A column.  Secret.

    Attributes:
        data: as a chunk has it; missing where it is marked.
        unreadable: what is neither missing nor of the column's type, nor on its list.
    """

    data: npt.NDArray[Any]
    unreadable: Flags

    def __repr__(self) -> str:
        return "Read(...)"


def read(column: Column, array: Any, form: TextForm) -> Read:
    """One column of a table.  Never raises for what is in it."""
    if isinstance(array, pa.ChunkedArray):
        array = array.combine_chunks()
    if pt.is_dictionary(array.type):
        array = array.dictionary_decode()
    match column:
        case Category():
            return _category(column, array, form)
        case Flag():
            return _flag(column, array, form)
        case Date():
            return _date(column, array, form)
    return _number(array, form)


def _number(array: Any, form: TextForm) -> Read:
    kind = array.type
    if pt.is_integer(kind) or pt.is_floating(kind) or pt.is_decimal(kind):
        return _read(pc.cast(array, pa.float64(), safe=False), array)
    if pt.is_boolean(kind):
        return _read(pc.cast(pc.cast(array, pa.int8()), pa.float64()), array)
    text = _text(array, form, ())
    if not form.thousands:
        plain = text if form.decimal == "." else pc.replace_substring(pc.replace_substring(text, ".", "?"), ",", ".")
        try:
            numbers = pc.cast(plain, pa.float64())
        except pa.ArrowInvalid:
            numbers = None
        if numbers is not None and pc.all(pc.is_finite(numbers)).as_py() is not False:
            return _read(numbers, text)
    return _carefully(text, form)


def _carefully(text: Any, form: TextForm) -> Read:
    """Numbers among other texts."""
    point, mark = re.escape(form.decimal), re.escape(form.thousands)
    digits = rf"(?:\d+|\d{{1,3}}(?:{mark}\d{{3}})+)" if mark else r"\d+"
    pattern = rf"^[+-]?(?:{digits}(?:{point}\d*)?|{point}\d+)(?:[eE][+-]?\d+)?$"
    known = pc.if_else(pc.match_substring_regex(text, pattern), text, pa.scalar(None, pa.string()))
    if form.thousands:
        known = pc.replace_substring(known, form.thousands, "")
    return _read(pc.cast(pc.replace_substring(known, form.decimal, "."), pa.float64()), text)


def _category(column: Category, array: Any, form: TextForm) -> Read:
    accepted = {**{value: value for value in column.values}, **column.codes}
    text = _text(array, form, tuple(accepted))
    found = pc.fill_null(pc.index_in(text, pa.array(list(accepted), pa.string())), -1).to_numpy(zero_copy_only=False)
    positions = np.array([*(column.values.index(value) for value in accepted.values()), -1], np.int64)
    codes = positions[found]
    return Read(codes, (codes < 0) & _given(text))


def _flag(column: Flag, array: Any, form: TextForm) -> Read:
    if pt.is_boolean(array.type):
        return _read(pc.cast(pc.cast(array, pa.int8()), pa.float64()), array)
    yes, no = (pc.utf8_lower(pa.array(list(texts), pa.string())) for texts in (column.yes, column.no))
    text = pc.utf8_lower(_text(array, form, (*column.yes, *column.no)))
    data = np.full(len(text), np.nan)
    for answer, texts in ((0.0, no), (1.0, yes)):
        data[pc.is_in(text, texts).to_numpy(zero_copy_only=False)] = answer
    return Read(data, np.isnan(data) & _given(text))


def _date(column: Date, array: Any, form: TextForm) -> Read:
    if pt.is_timestamp(array.type) and array.type.tz is not None:
        array = pc.local_timestamp(array)
    if pt.is_date(array.type) or pt.is_timestamp(array.type):
        days = array.to_numpy(zero_copy_only=False).astype("datetime64[D]")
        return Read(_days(days), np.zeros(len(array), np.bool_))
    text = _text(array, form, ())
    series = pd.Series(text.to_pandas(), dtype=object)
    dates = pd.to_datetime(series, format=column.format, errors="coerce")
    data = _days(dates.to_numpy().astype("datetime64[D]"))
    left = np.isnan(data) & _given(text)
    if left.any():  # days beyond what pandas holds, and what is none
        distinct, places = np.unique(series.to_numpy()[left].astype(str), return_inverse=True)
        data[left] = np.array([_day(one, column.format) for one in distinct.tolist()])[places]
    return Read(data, np.isnan(data) & _given(text))


def _day(text: str, form: str) -> float:
    try:
        return days_of(datetime.datetime.strptime(text, form))
    except ValueError:
        return np.nan


def _days(dates: npt.NDArray[Any]) -> npt.NDArray[np.float64]:
    return np.where(np.isnat(dates), np.nan, dates.astype(np.int64).astype(np.float64))


def _text(array: Any, form: TextForm, listed: tuple[str, ...]) -> Any:
    """Texts without blanks at their ends; null where a value is missing.  A number that is whole has no point."""
    if pt.is_floating(array.type):
        numbers = array.to_numpy(zero_copy_only=False).astype(np.float64)
        whole = np.abs(numbers) < _FEW_UNITS
        whole[whole] = numbers[whole] == np.floor(numbers[whole])
        units = pc.cast(pa.array(np.where(whole, numbers, 0.0).astype(np.int64)), pa.string())
        others = pc.cast(pa.array(numbers, from_pandas=True), pa.string())
        array = pc.if_else(pa.array(whole), units, others)
    elif pt.is_temporal(array.type):
        array = _unknown(array)
    elif not pt.is_string(array.type):
        try:
            array = pc.cast(array, pa.string())
        except (pa.ArrowInvalid, pa.ArrowNotImplementedError):
            array = _unknown(array)
    text = pc.utf8_trim_whitespace(array)
    gone = pa.array([marker for marker in form.missing if marker not in listed], pa.string())
    return pc.if_else(pc.is_in(text, gone), pa.scalar(None, pa.string()), text)


def _unknown(array: Any) -> Any:
    """A text that no column takes, for values of a type that none takes."""
    return pc.if_else(array.is_valid(), pa.scalar("\0", pa.string()), pa.scalar(None, pa.string()))


def _given(array: Any) -> Flags:
    return np.asarray(array.is_valid().to_numpy(zero_copy_only=False), np.bool_)


def _read(numbers: Any, array: Any) -> Read:
    """Numbers that Arrow made of an array: what was given and became none cannot be read."""
    data = np.array(numbers.to_numpy(zero_copy_only=False), np.float64)
    floating = pt.is_floating(array.type)
    return Read(data, np.isnan(data) & _given(array) & (not floating))
