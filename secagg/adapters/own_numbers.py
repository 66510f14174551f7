"""A client's own numbers, as the whole numbers and bounds that are summed, whatever the host."""

from __future__ import annotations

from collections.abc import Mapping
from math import isfinite
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from secagg.encoding.limits import LARGEST_CLIP
from secagg.errors import InputError

LARGEST_NUMBER: Final = 2**63
"""Above every weight, and within float64, whatever an app reports."""


def number_in(numbers: Mapping[str, object], name: str, where: str) -> int | float:
    """One of the numbers that an app has reported, as ``bounded`` gives it.

    ``where`` is what people call the place that they are from, such as "the app's reply".  Raises InputError for a name
    that is missing, and for what is not one finite number; the message may tell of the client's data.
    """
    value = numbers.get(name)
    if value is None:
        raise InputError(f"{where} lacks the number {name!r}; it has {', '.join(map(repr, numbers)) or 'none'}")
    if not isinstance(value, int | float):
        raise InputError(f"{where} has {value!r} for {name!r}; it must be one number")
    if isinstance(value, float) and not isfinite(value):
        raise InputError(f"{where} has {value!r} for {name!r}; what is summed must be finite")
    return bounded(value)


def weight_in_steps(value: float, scale: int = 1) -> int:
    """A finite weight that float64 holds, as ``weights_in_steps`` rounds it.  The encoder clamps a large one."""
    return int(weights_in_steps(value, scale))


def weights_in_steps(values: npt.ArrayLike, scale: int = 1) -> npt.NDArray[np.float64]:
    """Finite weights, of any shape, in whole steps of 1 / scale: rounded, and 0 where they are below.

    One above 0 counts as a step at least: with steps so coarse that all weights but one rounded to 0, a server would
    have that client's update for the sum.
    """
    weights = np.clip(np.asarray(values, np.float64), 0, LARGEST_NUMBER)
    steps: npt.NDArray[Any] = np.maximum(np.rint(weights * scale), weights > 0)
    return steps


def bounded(value: float) -> int | float:
    """The same number, or the nearest that an array holds and no clip of a metric exceeds.

    A whole number beyond 64 bits becomes a float: arrays hold no larger ones.
    """
    if abs(value) > LARGEST_NUMBER:
        return float(max(-LARGEST_CLIP, min(value, LARGEST_CLIP)))
    return value
