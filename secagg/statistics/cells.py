"""What a question sums: arrays of whole numbers, of real numbers, or of yes and no, and how each becomes integers.

The integers of one array may be too large for an element of the round's vector, so they travel in *limbs* of 40 bits:
v = l_0 + 2^40 l_1 + 2^80 l_2 ..., all but the last from 0 up.  Limbs are summed apart and joined in the sum.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from fractions import Fraction
from typing import Any, Final, TypeAlias, final

import numpy as np
import numpy.typing as npt

from secagg.errors import InputError, ParameterError

RECORDS: Final = "records"
"""The array of every method's complete records."""
INCOMPLETE: Final = "incomplete"
"""The array of the records that lack a value which the method needs."""
RECORD_COUNTS: Final = "records"
"""The group of the two."""
LIMB_BITS: Final = 40
"""A sum over 2^23 sites stays below 2^63."""
_REAL_BITS: Final = 60
"""Steps in the largest contribution of a record: finer than a float64 of that size, so that rounding to whole steps
costs less than float64's own."""
_BOUND_BITS: Final = 10
_WIDER: Final = 1 + 2.0**-20
"""No number that a bound is likely to be by design is a multiple of a power of two times this."""

Integers: TypeAlias = npt.NDArray[Any]
"""Of dtype object where they may be beyond int64: Python's integers."""


@final
@dataclass(frozen=True)
class Whole:
    """Whole numbers, summed without any error.

    Attributes:
        shape: of the array.
        per_record: the largest absolute value that one record can add to a cell.
        touched: the most cells that one record adds to; None: all of them.  Noise is sized by it.
        group: of a method's arrays with the same one, a record adds to one alone; empty: of no group.
        single: whether it has no limbs, however large it is: noise hides a number, and not how its limbs carried.
    """

    shape: tuple[int, ...]
    per_record: int = 1
    touched: int | None = None
    group: str = ""
    single: bool = False


@final
@dataclass(frozen=True)
class Real:
    """Real numbers: each site's sum is rounded to a step of at most per_record 2^-60.

    Attributes:
        shape: of the array.
        per_record: the largest absolute value that one record can add to a cell, above 0.
        touched: as in ``Whole``.
    """

    shape: tuple[int, ...]
    per_record: float
    touched: int | None = None

    @property
    def step(self) -> float:
        """A power of two."""
        return math.ldexp(1.0, self._parts()[1] - _REAL_BITS)

    @property
    def units(self) -> int:
        """The steps in ``per_record``, rounded up to a thousandth."""
        return math.ceil(math.ldexp(self._parts()[0], _BOUND_BITS)) << (_REAL_BITS - _BOUND_BITS)

    def _parts(self) -> tuple[float, int]:
        """Mantissa and exponent of a bound a little above ``per_record``.

        Sites and the server work ``per_record`` out by themselves, on machines that may differ in its last digits, and
        must find the same step and the same layout, also where it is a round number.
        """
        if not (math.isfinite(self.per_record) and self.per_record > 0):
            raise ParameterError(f"per_record is {self.per_record!r}: must be a finite number above 0")
        return math.frexp(self.per_record * _WIDER)


@final
@dataclass(frozen=True)
class Presence:
    """Yes or no: the sum says whether any site has a yes, and not how many have."""

    shape: tuple[int, ...]


Cells: TypeAlias = Whole | Real | Presence


def most_units(cells: Whole | Real, max_records: int) -> int:
    """The largest absolute value of a site's integer."""
    return (cells.per_record if isinstance(cells, Whole) else cells.units) * max_records + 1


def limbs_of(cells: Cells, max_records: int) -> int:
    """How many elements each cell takes."""
    if isinstance(cells, Presence) or (isinstance(cells, Whole) and cells.single):
        return 1
    return max(1, -(-most_units(cells, max_records).bit_length() // LIMB_BITS))


def largest_limb(cells: Whole | Real, max_records: int, limb: int) -> int:
    """The largest absolute value of a site's limb."""
    last = limbs_of(cells, max_records) - 1
    return 2**LIMB_BITS - 1 if limb < last else (most_units(cells, max_records) >> (LIMB_BITS * last)) + 1


def to_limbs(name: str, cells: Cells, values: npt.NDArray[Any], max_records: int) -> dict[str, npt.NDArray[Any]]:
    """A site's array as the arrays of the layout, by their names.

    Raises InputError for an array of another shape.  A value that its records cannot add up to is cut off at the
    largest that they can: the method that made it is at fault, and its site would give itself away by leaving.
    """
    if values.shape != cells.shape:
        raise InputError(f"{name} has the shape {values.shape}, and the question asks for {cells.shape}")
    if isinstance(cells, Presence):
        return {name: np.asarray(values, np.bool_)}
    most = most_units(cells, max_records)
    units = [min(most, max(-most, _units(cells, value))) for value in values.reshape(-1).tolist()]
    count = limbs_of(cells, max_records)
    found: dict[str, npt.NDArray[Any]] = {}
    for limb in range(count):
        low = [unit >> (LIMB_BITS * limb) for unit in units]
        if limb < count - 1:
            low = [part & (2**LIMB_BITS - 1) for part in low]
        found[limb_name(name, limb)] = np.array(low, np.int64).reshape(cells.shape)
    return found


def from_limbs(name: str, cells: Cells, sums: Mapping[str, npt.NDArray[Any]], max_records: int) -> npt.NDArray[Any]:
    """The sum of an array: Python integers (dtype object), float64, or bool."""
    if isinstance(cells, Presence):
        return np.asarray(sums[name], np.bool_)
    total: Integers = np.zeros(cells.shape, object)
    for limb in range(limbs_of(cells, max_records)):
        total = total + (sums[limb_name(name, limb)].astype(object) << (LIMB_BITS * limb))
    total = np.asarray(total, object).reshape(cells.shape)
    if isinstance(cells, Whole):
        return total
    step = Fraction(cells.step)
    flat = [float(unit * step) for unit in total.reshape(-1).tolist()]
    return np.array(flat, np.float64).reshape(cells.shape)


def limb_name(name: str, limb: int) -> str:
    """What the layout calls a limb."""
    return name if limb == 0 else f"{name}~{limb}"


def _units(cells: Whole | Real, value: Any) -> int:
    if isinstance(cells, Whole):
        return int(value)
    if not math.isfinite(value):
        return 0
    units: int = round(value / cells.step)  # exact but for the rounding: the step is a power of two
    return units
