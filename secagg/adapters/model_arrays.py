"""One array of a model, as the difference that is summed and as what a mean makes of it, whatever the host."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from secagg.errors import InputError

REAL: Final = "biuf"
"""The kinds of arrays that can be summed."""
_WHOLE_CLIP: Final = 2.0**24
WHOLE_BITS: Final = 32
"""Bits of an array of whole numbers, and of a metric, unless the server says otherwise."""
_LARGEST: Final = float(np.finfo(np.float64).max)


def check_announced(
    model: Mapping[str, npt.NDArray[Any]], name: str, shape: tuple[int, ...], *, difference: bool
) -> None:
    """Raises InputError unless the model has this array in the announced shape, of values that can be summed.

    With ``difference`` the change of the array is summed, which is none where the model's own value is not finite.
    """
    if name not in model or model[name].shape != shape:
        raise InputError(f"{name} was announced with shape {shape}, and the model has another")
    if model[name].dtype.kind not in REAL:
        raise InputError(f"{name} is of type {model[name].dtype}: only real numbers can be summed")
    if difference and not np.isfinite(model[name]).all():
        raise InputError(f"{name} holds a NaN or an infinity in the model: no change of it can be summed")


def change_of(value: npt.NDArray[Any], base: npt.NDArray[Any]) -> npt.NDArray[Any]:
    """What became of an array, less what it was; both have the same shape and a kind of ``REAL``."""
    with np.errstate(over="ignore", invalid="ignore"):
        # In float64, where the difference of two float32 or of two counters is exact.
        change = np.asarray(np.subtract(value, base, dtype=np.float64))
    if np.isfinite(change).all() or not np.isfinite(value).all():
        return change  # what was not finite before is refused by the encoder
    # Two finite numbers whose difference overflows: it is clipped as any other large number is.
    return np.asarray(np.clip(change, -_LARGEST, _LARGEST))


def restored(mean: npt.NDArray[np.float64], base: npt.NDArray[Any], *, difference: bool) -> npt.NDArray[Any]:
    """The array that a mean makes of the model's, of which the change or the array itself was summed.

    Floats keep the model's own type; all else becomes float64, as an average of whole numbers is in every host.
    """
    if difference:
        mean = mean + base.astype(np.float64)
    if base.dtype.kind != "f":
        return np.asarray(mean, np.float64)
    limit = float(min(np.finfo(base.dtype).max, np.finfo(np.float64).max))
    return np.asarray(np.clip(mean, -limit, limit), base.dtype)


def clip_of_whole_numbers(dtype: npt.DTypeLike, clip: float, *, difference: bool) -> float:
    """The clip of an array of whole numbers for which nobody chose one: the range of weights would cut off a counter.

    It is 2^24, or ``clip`` when that is larger, and no more than the type holds.  With WHOLE_BITS a step of the
    encoding is then 1/128 or less: rounding adds less than 1 to the value of a client with a weight above
    max_weight / 128.
    """
    kind = np.dtype(dtype)
    low, high = (0, 1) if kind.kind == "b" else (int(np.iinfo(kind).min), int(np.iinfo(kind).max))
    span = float(high - low if difference else max(high, -low))
    return min(span, max(clip, _WHOLE_CLIP))
