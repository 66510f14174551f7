"""What a private sum decodes to."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final, final

LIKELY_SHARE: Final = 1e-3
"""When more of the coordinates than these seem to have wrapped around, ``PrivateMean.wrapped`` says so."""


@final
@dataclass(frozen=True, slots=True, eq=False)
class PrivateMean:
    """A decoded sum with noise.

    Attributes:
        mean: the estimated weighted mean of the clipped updates, nested, named and shaped as the template.
        weight: what the sum was divided by, in units of the weights: the estimated sum of the clients' weights, but at
            least ``weight_noise``; their number if the encoder has no weights.
        count: how many clients are in the sum.
        noise: standard deviation of the noise in each value of ``mean``, of all clients in the sum together.
        weight_noise: standard deviation of the noise in the estimate of the weight; 0.0 without weights.
        spread: estimated standard deviation of the sum's rotated coordinates, in steps, as if none had wrapped around.
        wrapped_share: estimated share of the rotated coordinates that wrapped around.
    """

    mean: Any
    weight: float
    count: int
    noise: float
    weight_noise: float
    spread: float
    wrapped_share: float

    @property
    def wrapped(self) -> bool:
        """Whether so many coordinates wrapped around (more than 1 in 1,000) that the mean is probably of no use."""
        return self.wrapped_share > LIKELY_SHARE
