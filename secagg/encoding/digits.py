"""Numbers that are too large for one element of the vector, as digits in several."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final, final

import numpy as np
import numpy.typing as npt

from secagg.errors import InputError
from secagg.wording import counted


@final
class Digits:
    """Numbers from 0 to ``most``, the lowest digit first; digits are summed apart, and joined in the sum.

    The base is 2^bits - 1, which is how many levels an encoded value has, so that no digit asks for a larger modulus
    than the values do.
    """

    __slots__ = ("_base", "_most", "count")

    def __init__(self, base: int, most: int) -> None:
        self._base, self._most = base, most
        digits, reach = 1, base
        while most >= reach:
            digits, reach = digits + 1, reach * base
        self.count: Final = digits

    def split(self, numbers: npt.NDArray[np.uint64], planes: npt.NDArray[np.unsignedinteger]) -> None:
        """Numbers, shape (m,), into ``planes``, shape (count, m).  ``numbers`` is used up."""
        base = np.uint64(self._base)
        for plane in planes[:-1]:
            plane[...] = numbers % base
            numbers //= base
        planes[-1][...] = numbers

    def joined(self, planes: npt.NDArray[Any], count: int, name_of: Callable[[int], str]) -> npt.NDArray[Any]:
        """The numbers in a sum of ``count`` vectors: a view of a single plane, int64, or Python ints where they must.

        Raises InputError when no ``count`` vectors can have that sum; ``name_of`` names the number at an index.
        """
        highest = self._most // self._base ** (self.count - 1)
        for position, plane in enumerate(planes):
            digit_max = highest if position == self.count - 1 else self._base - 1
            _check_largest(plane, count, digit_max, name_of, "" if self.count == 1 else "a digit of ")
        if self.count == 1:
            single: npt.NDArray[Any] = planes[0]
            return single
        fits = 2 * count * self._most < 2**63  # digits within their bounds make no more than that
        numbers = np.zeros(planes.shape[1], np.int64 if fits else object)
        for plane in planes[::-1]:
            numbers *= self._base
            numbers += plane.astype(numbers.dtype)
        _check_largest(numbers, count, self._most, name_of)
        return numbers


def _check_largest(
    numbers: npt.NDArray[Any], count: int, most: int, name_of: Callable[[int], str], part: str = ""
) -> None:
    largest = int(numbers.max()) if numbers.size else 0
    if largest > count * most:
        raise impossible(part + name_of(int(numbers.argmax())), largest, count * most, count)


def impossible(what: str, met: int, allowed: int, count: int) -> InputError:
    """The error for a number that ``count`` vectors of the layout cannot add up to."""
    return InputError(
        f"{what} is {met} in the sum, and {counted(count, 'client')} can reach {allowed}: the count or the layout is "
        "another than the clients', the modulus is too small for them (check_capacity), or a client "
        "sent what no encoder makes"
    )
