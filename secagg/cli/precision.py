"""How much of the values an encoding keeps: the error beside the values' size, and what to change where it is large."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from decimal import ROUND_CEILING, Decimal
from typing import Any, Final, final

import numpy as np
import numpy.typing as npt

from secagg.cli.layout_options import LayoutOptions
from secagg.encoding import Encoder, Exact
from secagg.encoding.arrays import is_extension
from secagg.encoding.limits import MOST_BITS
from secagg.wording import counted, was

_TOLERABLE: Final = 0.01
"""Of an array's largest value: an error above it is told."""
_EPS_OF_EXTENSIONS: Final = 2.0**-8
"""Of bfloat16.  Narrower types have less room, where a decimal number is seldom what is meant."""
_NOISE: Final = 1e-6
"""In units of the last decimal: what a float is off from the decimal number that was meant."""


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class ArrayPrecision:
    """One array of an update.

    Attributes:
        name: as in the layout.
        largest: the largest absolute value that anybody has in it; None where nobody said.
        step: how far apart two encoded values of one client are, in the values' unit.
        error_bound: the most by which the mean can be off, in the values' unit.
        clipped: how many values were clipped.
        exact: the range of an exact array, else None.
        clip: the array's clip; None for an exact array, or where it is not known.
    """

    name: str
    largest: float | None
    step: float
    error_bound: float
    clipped: int
    exact: Exact | None
    clip: float | None

    def as_json(self) -> dict[str, Any]:
        """What ``--json`` prints of it."""
        return {
            "largest": self.largest,
            "step": self.step,
            "error_bound": self.error_bound,
            "clipped": self.clipped,
            "exact": self.exact is not None,
        }


def precision_of(
    encoder: Encoder,
    layout: LayoutOptions,
    *,
    largest: Mapping[str, float],
    clipped: Mapping[str, int],
    count: int,
    weight: int | None = None,
) -> list[ArrayPrecision]:
    """Each array that has elements, in the layout's order.

    Args:
        encoder: what encodes.
        layout: the options that it was made of.
        largest, clipped: by array; one that is missing has none.
        count, weight: of the sum, as ``Encoder.error_bound`` takes them.
    """
    found = []
    names = [leaf.name for leaf in encoder.template.leaves]
    ranges, clips = layout.exact_of(names), layout.clips_of(names)
    alone = encoder.error_bounds(1, encoder.max_weight)  # of one client that has the largest weight
    bounds = encoder.error_bounds(count, weight)
    for leaf in encoder.template.leaves:
        if leaf.size == 0:
            continue
        exact = ranges.get(leaf.name)
        found.append(
            ArrayPrecision(
                name=leaf.name,
                largest=largest.get(leaf.name),
                step=alone[leaf.name] if exact is None else 1 / exact.units,
                error_bound=bounds[leaf.name],
                clipped=clipped.get(leaf.name, 0),
                exact=exact,
                clip=None if exact is not None else clips.get(leaf.name, encoder.clip),
            )
        )
    return found


def warnings_of(arrays: Sequence[ArrayPrecision]) -> list[str]:
    """A sentence for each array that loses more than it should, with the option to change."""
    found = []
    for array in arrays:
        if array.clipped:
            found.append(_clipped(array))
        if array.exact is not None or not array.largest:
            continue
        tolerable = array.largest * _TOLERABLE
        if array.step > tolerable:
            found.append(
                f"{array.name}: its largest value is {array.largest:.3g}, and values are rounded to steps of "
                f"{array.step:.3g}, more than a hundredth of it. {_finer(array)}"
            )
        elif array.error_bound > tolerable:
            found.append(
                f"{array.name}: its largest value is {array.largest:.3g}, and the mean can be off by up to "
                f"{array.error_bound:.3g}, more than a hundredth of it: the weights are far below --max-weight. Lower "
                f"--max-weight, or raise --array-bits '{array.name}=BITS'."
            )
    return found


def _clipped(array: ArrayPrecision) -> str:
    values = f"{counted(array.clipped, 'value')} {was(array.clipped)}"
    size = "" if array.largest is None else f", whose largest value is {array.largest:.10g},"
    if array.exact is not None:
        return (
            f"{array.name}{size} has the range {array.exact.low} to {array.exact.high}: {values} outside of it and "
            f"clipped, so that the sum is not that of the values. Widen the range: --exact '{array.name}=LOW..HIGH'."
        )
    beyond = "the clip" if array.clip is None else f"the clip {array.clip:g}"
    wanted = "VALUE" if array.largest is None else f"{rounded_up(array.largest):g}"
    return (
        f"{array.name}{size} was clipped: {values} beyond {beyond} and cut down to it, so that the sum is not that of "
        f"the values. To keep them, raise --clip '{array.name}={wanted}'."
    )


def _finer(array: ArrayPrecision) -> str:
    """What makes the step smaller: a clip near to the values if that is enough, more bits otherwise."""
    if array.largest is not None and array.clip is not None and array.clip > array.largest:
        clip = rounded_up(array.largest)
        if array.step * clip / array.clip <= array.largest * _TOLERABLE:
            return f"Lower --clip '{array.name}={clip:g}'."
    return f"Raise --bits, or --array-bits '{array.name}=BITS'; {MOST_BITS} is the most."


def rounded_up(value: float) -> float:
    """The next number of two digits: 0.0371 gives 0.038."""
    if value <= 0 or not math.isfinite(value):
        return value
    exactly = Decimal(repr(value))
    return float(exactly.quantize(Decimal((0, (1,), exactly.adjusted() - 1)), rounding=ROUND_CEILING))


def lost_decimals(values: npt.NDArray[Any], exact: Exact) -> float:
    """The most that rounding to the exact array's decimals takes off a value; 0.0 where it keeps them all.

    What a float is off from the decimal number that it stands for is no loss: 0.1 + 0.2 has one decimal.
    """
    if values.dtype.kind in "biu" or values.size == 0:
        return 0.0
    units = np.clip(values.astype(np.float64), exact.low, exact.high) * exact.units
    off = np.abs(units - np.rint(units))
    narrow = float(np.finfo(values.dtype).eps) if not is_extension(values.dtype) else _EPS_OF_EXTENSIONS
    noise = np.maximum(_NOISE, np.abs(units) * narrow)
    return float(np.where(off > noise, off, 0.0).max()) / exact.units


def decimals_warning(name: str, lost: float, exact: Exact) -> str:
    """What to say of an array that holds more decimals than its exact layout."""
    return (
        f"{name}: it holds values between two multiples of {1 / exact.units:g}, which are rounded by up to {lost:.3g} "
        f"before they are summed. Raise the decimals: --exact '{name}={exact.low}..{exact.high}:DECIMALS'."
    )
