"""The end of an encoded vector: the client's weight, whether it contributes, and how many of its values were clipped.

Each is a number of its own in the sum, so that all of them come out exact and nobody's own is seen.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final, final

import numpy as np
import numpy.typing as npt

from secagg.encoding.digits import Digits, impossible
from secagg.errors import InputError
from secagg.wording import counted


@final
@dataclass(frozen=True, slots=True)
class Counts:
    """What the tails of the vectors in a sum add up to.

    Attributes:
        weight: the total weight; the number of clients where there are no weights.
        contributors: the clients with a weight above 0; all of them where there are no weights.
        clipped: the values that were clipped, over all clients; a weight that was reduced to
            ``max_weight`` adds one.
    """

    weight: int
    contributors: int
    clipped: int

    def without_weights(self, count: int) -> Counts:
        """As they are for arrays that the weights do not multiply: each of ``count`` clients contributes alike."""
        return Counts(count, count, self.clipped)


@final
class Tail:
    """Where the numbers behind the values stand, and how they are written and read.

    A number takes digits to the base 2^bits - 1, the lowest first, as many as its largest value needs.  An encoded
    value has as many levels as a digit, so that no digit asks for a larger modulus than the values do.  In order: the
    weight and the contributor (0 or 1), both only where there are weights; the clipped values.
    """

    __slots__ = ("_clipped", "_max_weight", "_weight", "length")

    def __init__(self, size: int, base: int, max_weight: int | None) -> None:
        """The tail behind ``size`` values; ``max_weight`` is None where there are no weights."""
        self._max_weight = max_weight
        self._weight = None if max_weight is None else Digits(base, max_weight)
        self._clipped = Digits(base, size + (max_weight is not None))
        self.length: Final = self._clipped.count + (0 if self._weight is None else self._weight.count + 1)

    def write(self, out: npt.NDArray[np.unsignedinteger], weight: int, clipped: int) -> None:
        """One client's numbers into ``out``, which has ``length`` elements."""
        planes = out.reshape(self.length, 1)
        if self._weight is not None:
            self._weight.split(np.array([weight], np.uint64), planes[: self._weight.count])
            out[self._weight.count] = weight > 0
        self._clipped.split(np.array([clipped], np.uint64), planes[-self._clipped.count :])

    def read(self, vector: npt.NDArray[Any], count: int) -> Counts:
        """The numbers in a sum of ``count`` tails.  Raises InputError when no such tails have that sum."""
        planes = vector.reshape(self.length, 1)
        clipped = self._clipped.joined(
            planes[-self._clipped.count :], count, lambda at: "the number of clipped values"
        ).item()
        if self._weight is None or self._max_weight is None:
            return Counts(count, count, clipped)
        weight = self._weight.joined(planes[: self._weight.count], count, lambda at: "the weight").item()
        contributors = int(vector[self._weight.count])
        if contributors > count:
            raise impossible("the number of contributors", contributors, count, count)
        if not contributors <= weight <= contributors * self._max_weight:
            raise InputError(
                f"the total weight is {weight} in the sum, and {counted(contributors, 'client')} with a weight from 1 "
                f"to {self._max_weight} cannot have that: a client sent what no encoder makes, or the count or the "
                "layout is another than the clients'"
            )
        return Counts(weight, contributors, clipped)
