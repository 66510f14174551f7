"""Count, sum, mean, variance and standard deviation of each of some columns.

The first round has the counts and the sums.  The second has squares about a centre that everybody knows, the mean that
the first one gave, so that no digits cancel, and the first moment about it, so that the variance is right although a
site may have vanished in between.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from fractions import Fraction
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from secagg.statistics.asks import Ask, Released, Terms
from secagg.statistics.cells import Cells, Real, Whole
from secagg.statistics.chunk import Chunk, Floats
from secagg.statistics.columns import bounds_of, decimals_of
from secagg.statistics.method import Method
from secagg.statistics.results import MethodResult, Table

_ROWS: Final = 512
"""Rows at a time: so many numbers below 2^53 add up to less than 2^63."""


class Describe(Method, frozen=True, forbid_unknown_fields=True, kw_only=True, tag="describe"):
    """Counts, sums, means, variances and standard deviations.

    Attributes:
        of: the columns, each with its own missing values.
    """

    of: tuple[str, ...]

    @property
    def columns(self) -> tuple[str, ...]:
        return self.of

    @property
    def needs(self) -> tuple[str, ...]:
        return ()

    def check(self, terms: Terms) -> None:
        for name in self.of:
            bounds_of(terms.columns[name])

    def next_ask(self, terms: Terms, released: Sequence[Released]) -> Ask | None:
        if not released:
            return Ask("sums")
        if len(released) > 1:
            return None
        centres = [self._mean(terms, released[0], name) for name in self.of]
        return Ask(
            "squares", {"centre": [_centre(terms, name, mean) for name, mean in zip(self.of, centres, strict=True)]}
        )

    def cells(self, terms: Terms, ask: Ask) -> dict[str, Cells]:
        found: dict[str, Cells] = {}
        for name in self.of:
            found[f"count_{name}"] = Whole(())
            low, high = bounds_of(terms.columns[name])
            units = _units(terms, name)
            if ask.stage == "sums":
                most = max(abs(low), abs(high))
                found[f"sum_{name}"] = Real((), most or 1.0) if units is None else Whole((), math.ceil(most * units))
            else:
                width = high - low
                found[f"first_{name}"] = Real((), width) if units is None else Whole((), math.ceil(width * units))
                found[f"second_{name}"] = (
                    Real((), width**2) if units is None else Whole((), math.ceil(width * units) ** 2)
                )
        return found

    def sums(self, terms: Terms, ask: Ask, chunk: Chunk) -> Mapping[str, npt.NDArray[Any]]:
        centres = ask.parameters.get("centre", [0.0] * len(self.of))
        found: dict[str, npt.NDArray[Any]] = {}
        for name, centre in zip(self.of, centres, strict=True):
            values = chunk.numbers(name)
            values = values[~np.isnan(values)]
            found[f"count_{name}"] = np.array(values.size)
            units = _units(terms, name)
            if ask.stage == "sums":
                found[f"sum_{name}"] = np.array(_sum(values, units))
            else:
                low, high = bounds_of(terms.columns[name])
                about = values - min(max(centre, low), high)
                found[f"first_{name}"] = np.array(_sum(about, units))
                found[f"second_{name}"] = np.array(_sum_of_squares(about, units))
        return found

    def result(self, terms: Terms, released: Sequence[Released]) -> MethodResult:
        last = released[-1]
        values: dict[str, Any] = {}
        for name, centre in zip(self.of, last.ask.parameters["centre"], strict=True):
            values[name] = self._moments(terms, last, name, centre)
        columns = ("count", "sum", "mean", "variance", "sd")
        rows = tuple((name, *(one[column] for column in columns)) for name, one in values.items())
        return MethodResult(values=values, tables=(Table(self.label or "Description", ("column", *columns), rows),))

    def in_words(self, terms: Terms) -> str:
        return f"Counts, sums, means and variances of {', '.join(self.of)}."

    def _mean(self, terms: Terms, released: Released, name: str) -> float:
        count = int(released.sums[f"count_{name}"])
        return 0.0 if count == 0 else float(_value(terms, released, "sum", name) / count)

    def _moments(self, terms: Terms, released: Released, name: str, centre: float) -> dict[str, Any]:
        count = int(released.sums[f"count_{name}"])
        if count < terms.release.min_cell:
            return dict.fromkeys(("count", "sum", "mean", "variance", "sd"))
        units = _units(terms, name) or 1
        about = Fraction(round(centre * units), units) if _units(terms, name) else Fraction(centre)
        first = _value(terms, released, "first", name)
        second = _value(terms, released, "second", name, power=2)
        mean = about + first / count
        variance = float((second - first * first / count) / (count - 1)) if count > 1 else None
        return {
            "count": count,
            "sum": float(about * count + first),
            "mean": float(mean),
            "variance": variance,
            "sd": None if variance is None else math.sqrt(max(0.0, variance)),
        }


def _units(terms: Terms, name: str) -> int | None:
    decimals = decimals_of(terms.columns[name])
    return None if decimals is None else 10**decimals


def _value(terms: Terms, released: Released, part: str, name: str, power: int = 1) -> Fraction:
    units = _units(terms, name) or 1
    return Fraction(released.sums[f"{part}_{name}"].item()) / int(units**power)


def _centre(terms: Terms, name: str, mean: float) -> float:
    """The mean, to twelve digits so that all sites have the very same; a multiple of the unit where there is one."""
    units = _units(terms, name)
    return round(mean * units) / units if units is not None else float(f"{mean:.12g}")


def _whole(values: Floats, units: int) -> npt.NDArray[np.int64]:
    return np.rint(values * units).astype(np.int64)


def _sum(values: Floats, units: int | None) -> int | float:
    return math.fsum(values) if units is None else sum(int(part.sum()) for part in _parts(_whole(values, units)))


def _sum_of_squares(values: Floats, units: int | None) -> int | float:
    if units is None:
        return math.fsum(values * values)
    whole = _whole(values, units)
    if whole.size and int(np.abs(whole).max()) ** 2 * _ROWS < 2**63:
        return sum(int((part * part).sum()) for part in _parts(whole))
    squares: int = sum(value * value for value in whole.tolist())
    return squares


def _parts(whole: npt.NDArray[np.int64]) -> list[npt.NDArray[np.int64]]:
    return [whole[start : start + _ROWS] for start in range(0, whole.size, _ROWS)]
