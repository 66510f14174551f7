"""Whole numbers, and decimals at a stated scale, that are summed without any error."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final, final

import numpy as np
import numpy.typing as npt

from secagg.encoding.arrays import RealArray
from secagg.encoding.blocks import not_finite
from secagg.encoding.digits import Digits
from secagg.encoding.limits import integer
from secagg.encoding.rounding import BLOCK
from secagg.encoding.template import Leaf
from secagg.errors import InputError, ParameterError

_LARGEST_UNITS: Final = 2**53
"""Up to here every whole number is a float64."""
_MOST_DECIMALS: Final = 15
"""A float64 holds any decimal number of 15 digits, and not any of 16."""


@final
@dataclass(frozen=True)
class Exact:
    """An array whose values are multiples of 10^-decimals, and which is summed exactly.

    Attributes:
        low, high: whole numbers; what is below or above is clipped, and counted as such.
        decimals: digits behind the point, 0 to 15.  A value between two multiples goes to the nearer one.
    """

    low: int
    high: int
    decimals: int = 0

    def __post_init__(self) -> None:
        """Raises ParameterError for bounds that are no whole numbers, or too large to be exact."""
        integer("decimals", self.decimals, 0, _MOST_DECIMALS)
        most = _LARGEST_UNITS // 10**self.decimals
        integer("low", self.low, -most, most)
        integer("high", self.high, -most, most)
        if self.low >= self.high:
            raise ParameterError(f"an exact array from {self.low} to {self.high}: high must be above low")

    def described(self) -> list[object]:
        """What the layout's digest has of it."""
        return ["exact", self.low, self.high, self.decimals]

    @property
    def units(self) -> int:
        """How many multiples of 10^-decimals there are in one."""
        return int(10**self.decimals)


@final
class ExactPart:
    """One exact array in the vector: (value - low) * weight in units of 10^-decimals, in digits."""

    def __init__(self, leaf: Leaf, exact: Exact, base: int, max_weight: int | None) -> None:
        """Raises ParameterError when range and weight together do not fit 63 bits."""
        self._leaf, self._exact = leaf, exact
        self.max_weight: Final = max_weight
        self._low = exact.low * exact.units
        self._range = exact.high * exact.units - self._low
        most = self._range * (max_weight or 1)
        if most >= 2**63:
            raise ParameterError(
                f"{leaf.name}: {self._range + 1} exact values times a weight of up to {max_weight} need "
                f"{most.bit_length()} bits, and 63 is the most; narrow the range, or lower decimals or max_weight"
            )
        self._digits = Digits(base, most)
        self.length: Final = leaf.size * self._digits.count

    def encode(
        self, array: RealArray, weight: int, out: npt.NDArray[np.unsignedinteger], clipped: dict[str, int]
    ) -> None:
        """Write the array's digits, plane by plane, and count what is out of range.  Raises InputError."""
        planes = out.reshape(self._digits.count, self._leaf.size)
        for start in range(0, self._leaf.size, BLOCK):
            units, beyond = self._units_of(array[start : start + BLOCK], array)
            if beyond:
                clipped[self._leaf.name] = clipped.get(self._leaf.name, 0) + beyond
            numbers = units.astype(np.uint64)
            numbers *= np.uint64(weight)
            self._digits.split(numbers, planes[:, start : start + BLOCK])

    def decode(
        self, vector: npt.NDArray[Any], weight: int, count: int
    ) -> tuple[npt.NDArray[np.float64], npt.NDArray[Any]]:
        """The mean, and the exact sum of value * weight in units.  Raises InputError for an impossible sum."""
        planes = vector.reshape(self._digits.count, self._leaf.size)
        numbers = self._digits.joined(planes, count, lambda at: f"an element of {self._leaf.name}")
        if numbers.size and int(numbers.max()) > self._range * weight:
            raise InputError(
                f"an element of {self._leaf.name} is {int(numbers.max())} units above its least in the sum, and a "
                f"total weight of {weight} can reach {self._range * weight}: a client sent what no encoder makes"
            )
        if numbers.dtype != object:
            wide = max(self._range, abs(self._low)) * weight >= 2**62
            numbers = numbers.astype(object if wide else np.int64)
        totals = numbers + weight * self._low
        mean = np.asarray(np.true_divide(totals, weight * self._exact.units), np.float64)
        return mean.reshape(self._leaf.shape), totals.reshape(self._leaf.shape)

    def error_bound(self) -> float:
        """Of the mean: the roundings of float64."""
        return float(max(abs(self._exact.low), abs(self._exact.high))) * 2.0**-51

    def _units_of(self, values: RealArray, array: RealArray) -> tuple[npt.NDArray[np.int64], int]:
        """Units above ``low``, and how many values were out of range."""
        low, high, units = self._exact.low, self._exact.high, self._exact.units
        if values.dtype.kind not in "biu":  # float extension types among them
            with np.errstate(over="ignore", invalid="ignore"):
                given = values.astype(np.float64)
            if not np.isfinite(given).all():
                raise not_finite(self._leaf, array)
            beyond = int(np.count_nonzero((given < low) | (given > high)))
            scaled = np.rint(np.clip(given, low, high) * units).astype(np.int64)
        else:
            if values.dtype == np.uint64:  # no bound is above 2^53
                values = np.minimum(values, np.uint64(2**62))
            whole = values.astype(np.int64)
            beyond = int(np.count_nonzero((whole < low) | (whole > high)))
            scaled = np.clip(whole, low, high) * units
        return scaled - self._low, beyond
