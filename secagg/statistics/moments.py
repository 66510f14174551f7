"""Counts, means and sums of squares of columns, by group where asked, in two rounds.

The first round has counts and sums.  The second has squares about a centre that everybody knows, the mean that the
first one gave, so that no digits cancel; and counts and first moments about it again, so that the moments are right
although a site may have vanished in between (the shifted-data formula of Chan, Golub and LeVeque, "Algorithms for
computing the sample variance", The American Statistician 37, 1983).

Columns with a fixed number of decimals are summed in whole units, without any error; others in float64.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction
from typing import Any, Final, final

import numpy as np
import numpy.typing as npt

from secagg.statistics.asks import Ask, Released, Terms, public
from secagg.statistics.cells import Cells, Real, Whole
from secagg.statistics.chunk import Chunk, Codes, Floats
from secagg.statistics.columns import bounds_of, decimals_of

_HALF: Final = 27
"""Whole numbers below 2^54 are two halves of so many bits, whose products add up in int64."""


@final
@dataclass(frozen=True)
class Moments:
    """Of the values of one column in one group of records.

    Attributes:
        count: of the values.
        mean: None where there are none.
        squares: of the deviations from the mean.
    """

    count: int
    mean: Fraction | None
    squares: Fraction

    @property
    def sum(self) -> float:
        return 0.0 if self.mean is None else float(self.mean * self.count)

    @property
    def variance(self) -> float | None:
        """Of the sample, with count - 1; None below two values."""
        return float(self.squares / (self.count - 1)) if self.count > 1 else None

    @property
    def sd(self) -> float | None:
        return None if self.variance is None else math.sqrt(self.variance)


def next_moments(terms: Terms, columns: Sequence[str], released: Sequence[Released]) -> Ask | None:
    """The first round, the second one about the means of the first, and then nothing."""
    if not released:
        return Ask("sums")
    if len(released) > 1:
        return None
    return Ask("squares", {f"centre_{name}": _centres(terms, released[0], name) for name in columns})


def rounds_of_moments(terms: Terms, columns: Sequence[str], groups: int) -> tuple[Ask, ...]:
    """What the two rounds may ask, the second one about the ends of the ranges."""
    lowest = {f"centre_{name}": [bounds_of(terms.columns[name])[0]] * groups for name in columns}
    return Ask("sums"), Ask("squares", lowest)


def cells_of_moments(terms: Terms, columns: Sequence[str], groups: int, ask: Ask) -> dict[str, Cells]:
    """Arrays of shape (groups,) for each column."""
    found: dict[str, Cells] = {}
    for name in columns:
        found[f"count_{name}"] = Whole((groups,), touched=1)
        low, high = bounds_of(terms.columns[name])
        parts = ("sum",) if ask.stage == "sums" else ("first", "second")
        units = _units(terms, name)
        if units is not None:  # as values are rounded: an end between two units moves with them
            low, high = round(low * units), round(high * units)
        most = max(abs(low), abs(high)) if ask.stage == "sums" else high - low
        for power, part in enumerate(parts, start=1):
            if units is None:
                found[f"{part}_{name}"] = Real((groups,), most**power, touched=1)
            else:
                found[f"{part}_{name}"] = Whole((groups,), max(1, round(most)) ** power, touched=1)
    return found


def sums_of_moments(
    terms: Terms, columns: Sequence[str], groups: int, ask: Ask, chunk: Chunk, codes: Codes | None = None
) -> Mapping[str, npt.NDArray[Any]]:
    """Some records' part of the cells; ``codes`` has their groups, -1 for none."""
    found: dict[str, npt.NDArray[Any]] = {}
    for name in columns:
        by_group = _by_group(chunk.numbers(name), codes, groups)
        found[f"count_{name}"] = np.array([values.size for values in by_group], np.int64)
        units = _units(terms, name)
        if ask.stage == "sums":
            found[f"sum_{name}"] = _array([_sum(values, 0.0, units) for values in by_group], units)
            continue
        low, high = bounds_of(terms.columns[name])
        centres = [min(max(centre, low), high) for centre in ask.parameters[f"centre_{name}"]]
        about = list(zip(by_group, centres, strict=True))
        found[f"first_{name}"] = _array([_sum(values, centre, units) for values, centre in about], units)
        found[f"second_{name}"] = _array([_squares(values, centre, units) for values, centre in about], units)
    return found


def moments_of(terms: Terms, released: Sequence[Released], name: str) -> list[Moments]:
    """A column's moments by group, from the last round."""
    last = released[-1]
    units = _units(terms, name)
    found = []
    for group, centre in enumerate(last.ask.parameters[f"centre_{name}"]):
        count = int(last.sums[f"count_{name}"][group])
        first = _value(last, f"first_{name}", group, units)
        second = _value(last, f"second_{name}", group, None if units is None else units**2)
        if count <= 0:
            found.append(Moments(0, None, Fraction(0)))
            continue
        about = Fraction(centre) if units is None else Fraction(round(centre * units), units)
        found.append(Moments(count, about + first / count, max(Fraction(0), second - first * first / count)))
    return found


def _units(terms: Terms, name: str) -> int | None:
    decimals = decimals_of(terms.columns[name])
    return None if decimals is None else 10**decimals


def _value(released: Released, part: str, group: int, units: int | None) -> Fraction:
    return Fraction(released.sums[part].tolist()[group]) / (units or 1)


def _centres(terms: Terms, released: Released, name: str) -> list[float]:
    """The means, to twelve digits so that all sites have the very same; multiples of the unit where there is one."""
    units = _units(terms, name)
    low, high = bounds_of(terms.columns[name])
    found = []
    for group, count in enumerate(released.sums[f"count_{name}"].tolist()):
        mean = float(_value(released, f"sum_{name}", group, units) / count) if count > 0 else low
        mean = min(max(mean, low), high)
        found.append(mean if units is None else round(mean * units) / units)
    return public(found) if units is None else found


def _by_group(values: Floats, codes: Codes | None, groups: int) -> list[Floats]:
    """The values that are there, by group."""
    there = ~np.isnan(values)
    if codes is None:
        return [values[there]]
    there &= codes >= 0
    values, codes = values[there], codes[there]
    order = np.argsort(codes, kind="stable")
    cuts = np.searchsorted(codes[order], np.arange(1, groups))
    return [np.asarray(part, np.float64) for part in np.split(values[order], cuts)]


def _array(sums: list[Any], units: int | None) -> npt.NDArray[Any]:
    """Python's integers, which do not overflow, or float64."""
    return np.array(sums, np.float64 if units is None else object)


def _sum(values: Floats, centre: float, units: int | None) -> int | float:
    return math.fsum(values - centre) if units is None else _exact_sum(_whole(values, centre, units))


def _squares(values: Floats, centre: float, units: int | None) -> int | float:
    if units is None:
        about = values - centre
        return math.fsum(about * about)
    whole = np.abs(_whole(values, centre, units))
    high, low = whole >> _HALF, whole & (2**_HALF - 1)
    return (_exact_sum(high * high) << 2 * _HALF) + (_exact_sum(high * low) << (_HALF + 1)) + _exact_sum(low * low)


def _whole(values: Floats, centre: float, units: int) -> npt.NDArray[np.int64]:
    return np.asarray(np.rint(values * units).astype(np.int64) - round(centre * units), np.int64)


def _exact_sum(whole: npt.NDArray[np.int64]) -> int:
    """Of numbers that may add up to more than int64 holds."""
    most = max(1, int(np.abs(whole).max(initial=0)))
    rows = (2**63 - 1) // most
    return sum(int(whole[start : start + rows].sum()) for start in range(0, whole.size, rows))
