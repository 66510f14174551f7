"""What somebody who sees a sum has before them: how much noise, and how much of the sum one member can change.

These are the numbers of the mechanism, and no epsilon: an accountant makes one of them, today's or a better one.
"""

from __future__ import annotations

import json
import math
from dataclasses import asdict, dataclass
from fractions import Fraction
from typing import Final, final

from secagg.encoding.limits import LARGEST_CLIP, integer, real
from secagg.errors import ParameterError
from secagg.privacy.cohort import MOST_HONEST, SMALLEST_RATE
from secagg.privacy.parameters import Mechanism, NoiseKind, as_noise

_VERSION: Final = 1
_MOST: Final = 2**256
_FLOATS: Final = Fraction(1, 2**30)
"""Of the clip: by so much at most, the rounding of floats moves two scaled updates apart."""


@final
@dataclass(frozen=True, kw_only=True)
class NoisySum:
    """A sum that somebody sees, in the numbers of its noise and of what one member can change.

    The noise is that of the honest clients in the sum: what colluders added, they can take off again.  What one member
    can change depends on who is protected, so ``of_clients``, ``of_replaced_clients`` and ``of_records`` make one.

    Attributes:
        noise: the distribution of each client's noise.
        honest: the clients whose noise is in the sum and whose noise nobody else knows.
        variance: of the noise that each of them added to each coordinate, in steps squared.
        dimension: the coordinates.
        squared_l2: the largest squared L2 norm of what one member can change, in steps squared.
        l1: the largest L1 norm of what one member can change, in steps.
        sampling_rate: the probability with which each member took part, independently of the others, where whoever
            sees the sum knows neither who took part nor how many did.  1 everywhere else.  The server of a round sees
            who takes part.
    """

    noise: NoiseKind
    honest: int
    variance: int
    dimension: int
    squared_l2: int
    l1: int
    sampling_rate: float = 1.0

    def __post_init__(self) -> None:
        """Raises ParameterError, which names the value met and the value allowed."""
        taken: dict[str, object] = {
            "noise": as_noise(self.noise),
            "honest": integer("honest", self.honest, 1, MOST_HONEST),
            "variance": integer("variance", self.variance, 1, _MOST),
            "dimension": integer("dimension", self.dimension, 1, _MOST),
            "squared_l2": integer("squared_l2", self.squared_l2, 1, _MOST),
            "l1": integer("l1", self.l1, 1, _MOST),
            "sampling_rate": real("sampling_rate", self.sampling_rate, SMALLEST_RATE, 1.0),
        }
        for name, value in taken.items():
            object.__setattr__(self, name, value)

    # Who is protected.

    @classmethod
    def of_clients(cls, mechanism: Mechanism, honest: int, *, sampling_rate: float = 1.0) -> NoisySum:
        """Whether a client's update is in the sum, or zeros are in its place: the client level.

        One client changes at most the whole of its rounded update: D2 in L2, D1 in L1.  Its own noise counts among that
        of the ``honest`` clients, for nobody else knows it.
        """
        return cls._of(mechanism, honest, max(1, mechanism.squared_norm_bound), mechanism.l1_bound, sampling_rate)

    @classmethod
    def of_replaced_clients(cls, mechanism: Mechanism, honest: int) -> NoisySum:
        """Which of any two updates a client put into the sum: twice the change of the client level."""
        return cls._of(mechanism, honest, max(1, 4 * mechanism.squared_norm_bound), 2 * mechanism.l1_bound)

    @classmethod
    def of_records(cls, mechanism: Mechanism, honest: int, record_norm: float) -> NoisySum:
        """Whether one record of a client's is what it is, or is missing: the record level.

        Args:
            mechanism: what each client does.
            honest: the honest clients in the sum.
            record_norm: the most by which one record may move all that the client encodes in L2 norm, in the update's
                own unit, such as the clip of per-record gradients.  Training that takes several steps over the same
                records has no such bound short of ``2 * mechanism.clip``.  In a weighted mean a record moves the
                weight as well, and with it the whole vector: by ``mechanism.clip / max_weight`` more, if it counts as
                one.  With an adaptive clip it may turn the bit: by ``2 * ratio * clip`` more.

        Shortening to ``clip`` brings no two updates further apart, but for 2^-30 of the clip at most, which the
        rounding of floats takes (see ``secagg.privacy.perturbation``).  With the same thresholds the roundings of two
        updates differ by less than one step more than the updates in each coordinate: (``record_norm`` + 2^-30
        ``clip``) S + sqrt(d) in all.  Conditional rounding (``rounding_failure`` above 0) ties its draws to the whole
        update, so that this argument fails: a record then counts as a whole update replaced by any other.
        """
        bound = real("record_norm", record_norm, 0.0, 2 * LARGEST_CLIP)
        replaced = cls.of_replaced_clients(mechanism, honest)
        if mechanism.rounding_failure > 0:
            return replaced
        apart = Fraction(bound) + Fraction(mechanism.clip) * _FLOATS
        moved = float(apart * mechanism.scale) + math.sqrt(mechanism.dimension)
        squared = min(replaced.squared_l2, math.ceil(moved**2 * (1 + 2**-40)))
        l1 = math.ceil(moved * min(math.sqrt(mechanism.dimension), moved) * (1 + 2**-40))
        return cls._of(mechanism, honest, squared, min(replaced.l1, l1))

    @classmethod
    def _of(cls, mechanism: Mechanism, honest: int, squared_l2: int, l1: int, sampling_rate: float = 1.0) -> NoisySum:
        return cls(
            noise=mechanism.noise,
            honest=honest,
            variance=mechanism.variance,
            dimension=mechanism.dimension,
            squared_l2=squared_l2,
            l1=l1,
            sampling_rate=sampling_rate,
        )

    # What a ledger stores.

    def to_text(self) -> str:
        """One line of JSON for ``from_text``; equal sums have equal lines, and a line means the same for good."""
        return json.dumps({"version": _VERSION, **asdict(self)}, sort_keys=True, separators=(",", ":"))

    @classmethod
    def from_text(cls, text: str) -> NoisySum:
        """The sum that ``to_text`` wrote.  Raises ParameterError for anything else, and for another version."""
        try:
            values = json.loads(text)
            version = values.pop("version")
            if version == _VERSION:
                return cls(**values)
        except (ValueError, TypeError, KeyError, AttributeError, RecursionError):
            raise ParameterError(f"not the record of a private sum: {text!r:.200}") from None
        raise ParameterError(f"the record of a private sum is of version {version!r}; this library reads {_VERSION}")
