"""Between the arrays of an update and one row of float64, which is what clipping, rotation and noise are applied to."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from secagg.encoding.arrays import RealArray
from secagg.encoding.blocks import not_finite
from secagg.encoding.sums import as_template
from secagg.encoding.template import Template


def gather(template: Template, arrays: list[RealArray], values: npt.NDArray[np.float64]) -> float:
    """Copy an update's arrays, one behind the other, into the beginning of ``values``.

    Returns the largest absolute value.  Raises InputError, which names the array, for a NaN or an infinity.
    """
    from secagg.arithmetic.kernels import private_rounding

    start, largest = 0, 0.0
    for leaf, array in zip(template.leaves, arrays, strict=True):
        part = values[start : start + leaf.size]
        with np.errstate(over="ignore", invalid="ignore"):  # long double beyond float64: infinite, and refused
            part[:] = array
        size, finite = private_rounding.largest_of(part)
        if not finite:
            raise not_finite(leaf, part)
        largest = max(largest, float(size))
        start += leaf.size
    return largest


def divided(template: Template, values: npt.NDArray[np.float64], share: float, dtype: str) -> Any:
    """The values of a sum over ``share``, nested and shaped as the template.  ``values`` is divided in place.

    ``dtype`` is "float64", or "template" for the template's own types.
    """
    means: list[object] = []
    start = 0
    for leaf in template.leaves:
        part = values[start : start + leaf.size]
        np.divide(part, share, out=part)
        mean = part.reshape(leaf.shape).copy()
        means.append(mean if dtype == "float64" else as_template(mean, leaf))
        start += leaf.size
    return template.restore(means)
