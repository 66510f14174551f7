"""Flower's arrays as numbers, and back: NumPy's own types, and bfloat16, which Flower stores and NumPy cannot add."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from io import BytesIO
from tokenize import TokenError
from typing import Any, Final
from zipfile import BadZipFile

import numpy as np
import numpy.typing as npt
from flwr.app import Array, ArrayRecord, Message, RecordDict

from secagg.encoding.bfloat16 import narrowed, widened
from secagg.errors import InputError

_BFLOAT16: Final = "bfloat16"
_HALVES: Final = frozenset({np.dtype("V2"), np.dtype(np.uint16), np.dtype(np.int16)})
"""What an array of bfloat16 is read as: the type of its bytes."""
_UNREADABLE: Final = (
    *(TypeError, ValueError, EOFError, OSError, BadZipFile),
    *(MemoryError, OverflowError, RecursionError, TokenError),
)
"""What reading an array raises for bytes that are none."""


def is_bfloat16(array: Array) -> bool:
    """Whether an array is of this type, by its own word: ``Array(x)`` of ``ml_dtypes`` says so."""
    return array.dtype == _BFLOAT16


def is_float(dtype: str) -> bool:
    """Whether an array of this type is of floats."""
    try:
        return dtype == _BFLOAT16 or np.dtype(dtype).kind == "f"
    except TypeError:  # no type of NumPy's: the codec refuses it by name
        return False


def numbers(name: str, array: Array, *, bfloat16: bool = False) -> npt.NDArray[Any]:
    """The values; those of bfloat16 as float32, which holds them.

    ``bfloat16`` says that two bytes without a type are such values, as in the answer of an app that was sent some.
    Raises InputError for what does not read as an array.
    """
    values = stored_values(name, array)
    untyped = bfloat16 and values.dtype == np.dtype("V2")
    if untyped or (is_bfloat16(array) and values.dtype in _HALVES):
        return widened(values)
    return values


def stored_values(name: str, array: Array) -> npt.NDArray[Any]:
    """The values as they are stored: bfloat16 has no type then.  Raises InputError as ``numbers`` does."""
    try:
        values = array.numpy()
    except _UNREADABLE as wrong:
        raise InputError(f"{name} does not read as a NumPy array: {wrong}") from None
    if not isinstance(values, np.ndarray):  # numpy.load opens archives too
        raise InputError(f"{name} does not read as a NumPy array")
    return values


def as_bfloat16(values: npt.NDArray[Any]) -> Array:
    """An array of the bfloat16s that are nearest to these floats."""
    halves = narrowed(values).view("V2")
    stored = BytesIO()
    np.save(stored, halves, allow_pickle=False)
    return Array(_BFLOAT16, tuple(halves.shape), "numpy.ndarray", stored.getvalue())


def whole_numbers(model: Mapping[str, Array]) -> dict[str, str]:
    """The types of the arrays that hold whole numbers or bools, by name."""
    kinds: dict[str, str] = {}
    for name, array in model.items():
        try:
            kind = np.dtype(array.dtype).kind
        except TypeError:  # no type of NumPy's: the codec refuses it by name
            continue
        if kind in "biu":
            kinds[name] = array.dtype
    return kinds


def with_floats(arrays: ArrayRecord) -> ArrayRecord:
    """The model for a strategy, which counts with what it gets: bfloat16 as float32, and all else as it is."""
    if not any(map(is_bfloat16, arrays.values())):
        return arrays
    return ArrayRecord(
        {name: Array(numbers(name, array)) if is_bfloat16(array) else array for name, array in arrays.items()}
    )


def sent_as_stored(messages: Iterable[Message], wide: ArrayRecord, stored: ArrayRecord) -> list[Message]:
    """A strategy's messages, with the stored arrays in the place of those that ``with_floats`` made of them."""
    messages = list(messages)
    if wide is stored:
        return messages
    originals = {id(array): stored[name] for name, array in wide.items() if array is not stored[name]}
    contents: dict[int, RecordDict] = {}
    for message in messages:
        given = message.content
        if id(given) not in contents:
            records = {
                name: ArrayRecord({key: originals.get(id(array), array) for key, array in record.items()})
                for name, record in given.array_records.items()
            }
            contents[id(given)] = RecordDict({**given, **records})
    for message in messages:
        message.content = contents[id(message.content)]
    return messages
