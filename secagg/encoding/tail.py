"""The end of an encoded vector: the client's weight, whether it contributes, and how many of its values were clipped.

Each is a number of its own in the sum, so that all of them come out exact and nobody's own is seen.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final, final

import numpy as np
import numpy.typing as npt

from secagg.errors import InputError


@final
@dataclass(frozen=True, slots=True)
class Counts:
    """What the tails of the vectors in a sum add up to.

    Attributes:
        weight: the total weight; the number of clients where there are no weights.
        contributors: the clients with a weight above 0; all of them where there are no weights.
        clipped: the values that were clipped, over all clients; a weight that was clamped counts as one.
    """

    weight: int
    contributors: int
    clipped: int


@final
class Tail:
    """Where the numbers behind the values stand, and how they are written and read.

    A number takes digits to the base 2^bits - 1, the lowest first, as many as its largest value needs.  An encoded
    value has as many levels as a digit, so that no digit asks for a larger modulus than the values do.  In order: the
    weight and the contributor (0 or 1), both only where there are weights; the clipped values.
    """

    __slots__ = ("_base", "_clipped_digits", "_max_clipped", "_max_weight", "_weight_digits", "length")

    def __init__(self, size: int, bits: int, max_weight: int | None) -> None:
        """The tail behind ``size`` values; ``max_weight`` is None where there are no weights."""
        self._base, self._max_weight = (1 << bits) - 1, max_weight
        self._max_clipped = size + (max_weight is not None)
        self._weight_digits = 0 if max_weight is None else self._digits(max_weight)
        self._clipped_digits = self._digits(self._max_clipped)
        self.length: Final = self._weight_digits + (max_weight is not None) + self._clipped_digits

    def write(self, out: npt.NDArray[np.unsignedinteger], weight: int, clipped: int) -> None:
        """One client's numbers into ``out``, which has ``length`` elements."""
        elements = self._split(clipped, self._clipped_digits)
        if self._max_weight is not None:
            elements = [*self._split(weight, self._weight_digits), int(weight > 0), *elements]
        out[:] = elements

    def read(self, vector: npt.NDArray[Any], count: int) -> Counts:
        """The numbers in a sum of ``count`` tails.  Raises InputError when no such tails have that sum."""
        elements = [int(element) for element in vector]
        clipped_at = self.length - self._clipped_digits
        clipped = self._number(elements[clipped_at:], self._max_clipped, count, "the number of clipped values")
        if self._max_weight is None:
            return Counts(count, count, clipped)
        weight = self._number(elements[: self._weight_digits], self._max_weight, count, "the weight")
        contributors = elements[self._weight_digits]
        if contributors > count:
            raise impossible("the number of contributors", contributors, count, count)
        if not contributors <= weight <= contributors * self._max_weight:
            raise InputError(
                f"the total weight is {weight} in the sum, and {contributors} clients with a weight from 1 to "
                f"{self._max_weight} cannot have that: a client sent what no encoder makes, or the count or the layout "
                "is another than the clients'"
            )
        return Counts(weight, contributors, clipped)

    def _number(self, digits: list[int], most: int, count: int, what: str) -> int:
        largest = min(most, self._base - 1)
        if max(digits) > count * largest:
            raise impossible(f"a digit of {what}", max(digits), count * largest, count)
        number = 0
        for digit in reversed(digits):
            number = number * self._base + digit
        if number > count * most:
            raise impossible(what, number, count * most, count)
        return number

    def _split(self, number: int, digits: int) -> list[int]:
        elements = []
        for _ in range(digits):
            number, digit = divmod(number, self._base)
            elements.append(digit)
        return elements

    def _digits(self, most: int) -> int:
        digits, reach = 1, self._base
        while most >= reach:
            digits, reach = digits + 1, reach * self._base
        return digits


def impossible(what: str, met: int, allowed: int, count: int) -> InputError:
    """The error for a number that ``count`` vectors of the layout cannot add up to."""
    return InputError(
        f"{what} is {met} in the sum, and {count} clients can reach {allowed}: the count or the layout is another than "
        "the clients', the modulus is too small for them (check_capacity), or a client sent what no encoder makes"
    )
