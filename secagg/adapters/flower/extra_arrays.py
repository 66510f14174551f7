"""What is summed beside the arrays of a model: metrics, and the weights of classes."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, TypeAlias, final

import numpy.typing as npt

from secagg.encoding.exact import Exact

Values: TypeAlias = dict[str, npt.NDArray[Any]]
"""One client's values of extra arrays, by name."""


@final
@dataclass(frozen=True, slots=True)
class ExtraArray:
    """An array of the vector that no model has; the clients' weights do not multiply it.

    Attributes:
        name: in the layout.
        shape: () for a number.
        clip: of one that is rounded.
        exact: of one that is summed without any error.
    """

    name: str
    shape: tuple[int, ...] = ()
    clip: float | None = None
    exact: Exact | None = None

    @property
    def reach(self) -> float:
        """The largest value that counts."""
        return (self.clip or 0.0) if self.exact is None else float(self.exact.high)


@final
@dataclass(frozen=True, slots=True)
class Opened:
    """What a sum says of arrays that no weight multiplies.

    Attributes:
        count: how many clients are in the sum.
        least: how many must contribute to whatever is given out.
        means: of all arrays, by name.
        totals: the sums of those without rounding, in units of 10^-decimals, by name.
        bound_of: the most by which an array's mean over the clients can be off.
    """

    count: int
    least: int
    means: Mapping[str, Any]
    totals: Mapping[str, npt.NDArray[Any]]
    bound_of: Callable[[str], float]


def array_of_metric(name: str) -> str:
    """The name under which a metric is summed as one more array, without any axis."""
    return f"metric {name}"
