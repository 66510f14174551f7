"""A client's own input: checked before anybody is connected, and known again by its digests."""

from __future__ import annotations

import hashlib
import operator
from collections.abc import Mapping
from typing import Any, Final, final

import numpy as np
import numpy.typing as npt

from secagg.encoding.arrays import RealArray, to_array
from secagg.errors import InputError
from secagg.wording import counted

_BLOCK: Final = 2**16
"""Values that are looked at at a time: their copy in float64 takes half a megabyte."""


@final
class OwnInput:
    """Arrays and a weight that can be summed.

    Attributes:
        arrays: by name, names ascending; of real dtypes, every value finite.
        weight: 0 or larger; None where the client asks for a round without weights, or for the weight 1.
        values_digest: 32 bytes over names, shapes and values.  Neither weight nor layout nor dtypes enter: a server
            that names another clip or another largest weight has the same values before it.
    """

    def __init__(self, arrays: Mapping[str, Any], weight: int | None = None) -> None:
        """Raises InputError, which names the array that is not real or not finite, or the weight."""
        if not arrays:
            raise InputError("the input holds no arrays: there is nothing to sum")
        self.weight = _checked_weight(weight)
        self.arrays: dict[str, RealArray] = {name: to_array(arrays[name], name) for name in sorted(arrays)}
        hashed = hashlib.sha256(b"secagg input values 1\n")
        for name, array in self.arrays.items():
            _hash_array(hashed, name, array)
        self.values_digest = hashed.digest()

    def digest(self, layout: bytes) -> bytes:
        """32 bytes over the values, the weight and the bytes of a round's layout."""
        weight = "none" if self.weight is None else str(self.weight)
        hashed = hashlib.sha256(b"secagg input 1\n" + self.values_digest + weight.encode() + b"\n" + layout)
        return hashed.digest()

    def __repr__(self) -> str:
        return f"OwnInput({counted(len(self.arrays), 'array')})"


def _checked_weight(weight: int | None) -> int | None:
    if weight is None:
        return None
    try:
        value = -1 if isinstance(weight, (bool, np.bool)) else operator.index(weight)
    except TypeError:
        value = -1
    if value < 0:
        raise InputError("the weight must be a whole number from 0 up, such as the number of training examples")
    return value


def _hash_array(hashed: Any, name: str, array: RealArray) -> None:
    label = name.encode("utf-8", "surrogatepass")
    hashed.update(f"{len(label)} ".encode() + label + f" {array.shape}\n".encode())
    for block in _blocks(array):
        if not np.isfinite(block).all():
            raise InputError(
                f"{name} holds a NaN or an infinity, which cannot be summed: the training may have diverged; correct "
                "the file, or do not take part in this round"
            )
        hashed.update((block + 0.0).astype("<f8"))  # adding zero: -0.0 is the same value as 0.0


def _blocks(array: RealArray) -> Any:
    """The values in C order as float64, some at a time.  What float64 cannot hold becomes an infinity."""
    flat: npt.NDArray[Any] = array.reshape(-1)
    with np.errstate(over="ignore"):
        for start in range(0, flat.size, _BLOCK):
            yield flat[start : start + _BLOCK].astype(np.float64)
