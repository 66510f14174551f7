"""Public grids: edges of bins over a column's range, and which bin a value is in.

Bins are [edge, next edge), but for the last one, which has its upper end as well; as in ``numpy.histogram``.  A column
of whole numbers or of a fixed number of decimals has edges at multiples of its unit, so that a bin one unit wide holds
a single value.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from typing import Final

import numpy as np

from secagg.errors import ParameterError
from secagg.statistics.chunk import Codes, Floats
from secagg.statistics.columns import Column, Date, bounds_of, day_of, decimals_of

MOST_BINS: Final = 2**16


def check_bins(bins: int) -> None:
    """Raises ParameterError for a number of bins that is too small or too large."""
    if not 2 <= bins <= MOST_BINS:
        raise ParameterError(f"bins is {bins}: must be from 2 to {MOST_BINS}")


def equal_bins(column: Column, bins: int) -> list[float]:
    """The edges of about so many bins over the column's range; fewer where they would be narrower than its unit."""
    low, high = bounds_of(column)
    unit = unit_of(column)
    return divided(low, high if unit is None else high + unit, bins, unit)


def divided(low: float, high: float, bins: int, unit: float | None) -> list[float]:
    """The edges of up to ``bins`` bins from ``low`` to ``high``; with a unit, both are multiples of it."""
    if unit is None:
        edges = np.linspace(low, high, bins + 1).tolist()
    else:
        per_unit = round(1 / unit)
        first, last = round(low * per_unit), round(high * per_unit)
        step = max(1, math.ceil((last - first) / bins))
        edges = [whole / per_unit for whole in [*range(first, last, step), last]]
    return sorted({float(edge) for edge in edges})


def unit_of(column: Column) -> float | None:
    """What its values are multiples of; None where they are any numbers."""
    decimals = decimals_of(column)
    return None if decimals is None else float(f"1e-{decimals}")


def check_edges(edges: Sequence[float]) -> None:
    """Raises ParameterError unless there are two or more that ascend."""
    if len(edges) - 1 > MOST_BINS:
        raise ParameterError(f"the grid has {len(edges) - 1} bins: at most {MOST_BINS} are allowed")
    if len(edges) < 2 or any(low >= high for low, high in itertools.pairwise(edges)):
        raise ParameterError(f"edges is {list(edges)}: give two or more numbers, each above the one before it")
    if not all(math.isfinite(edge) for edge in edges):
        raise ParameterError("edges holds a number that is not finite: leave it out, what is beyond is counted anyway")


def bin_of(values: Floats, edges: Sequence[float]) -> Codes:
    """The bin of each value, from 0 up: -1 below the first edge, ``len(edges) - 1`` above the last."""
    found = np.searchsorted(np.asarray(edges, np.float64), values, side="right") - 1
    found[values == edges[-1]] = len(edges) - 2
    return np.asarray(found, np.int64)


def said(column: Column, value: float) -> str:
    """A value of the column for people: a day for a date."""
    if isinstance(column, Date):
        return day_of(math.floor(value)).isoformat()
    return f"{value:.10g}"
