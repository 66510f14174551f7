"""What a client lets a server say about how its update is encoded."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import final

from secagg.encoding.exact import Exact
from secagg.encoding.limits import LARGEST_CLIP, LARGEST_WEIGHT, SMALLEST_CLIP
from secagg.encoding.settings import matching
from secagg.errors import ErrorCode, ParameterError, PeerError


@final
@dataclass(frozen=True, kw_only=True)
class LayoutPolicy:
    """The layouts that a client accepts.  A host checks it before ADVERTISE, so from public values only.

    A server that sets the layout chooses what a client's values are cut to: a clip far below everybody's values but one
    client's, or a metric as the weight that is 0 for all clients but one, leaves little in the sum but that client's
    update.  Clamping keeps each client in the sum; these bounds keep what it adds near to what it has.

    Attributes:
        min_clip, max_clip: of the largest absolute value that is kept, in the update's own unit.  A clip below the
            values keeps little but their signs; one far above them loses them in the rounding.
        min_bits, max_bits: of one encoded value.  An exact range counts as a clip at its farther end, and as the bits
            that its multiples of 10^-decimals up to there take, of which there cannot be too many.
        min_max_weight, max_max_weight: of the largest weight; a larger weight of this client is clamped to it.  Both
            may be fractions, where weights are.
        weighted_by: the names of the numbers that may weigh an update, where a host lets the server name one.
        whole_model: whether the server may ask for the arrays themselves instead of their change
            (``difference=False``).
        local_arrays: patterns of the arrays that never leave: a layout that sums one of them is refused.  A pattern is
            compared with the name of an array, and where an update has several records, with its name in its own record
            as well.
        records: the names of the records whose arrays may be summed, where an update has several; empty allows any.
        private: whether only private rounds are accepted, whose sums have noise; see ``secagg.privacy``.  The clip is
            then that of the update's norm, and the bits are the modulus's.  Each of the next three asks for it, too.
        max_epsilon, max_delta: the largest epsilon at this delta that a private round may cost over all the rounds
            that it is announced for, to the server, at the client level.  Give both or neither.  They need
            dp-accounting (the extra ``privacy``): the client works the epsilon out itself.
        min_noise_multiplier: the least noise of a private round, over the largest norm of a rounded update, as
            ``PrivacyTerms.least_noise_multiplier`` counts it; needs no further package.  Coarse steps do not pass
            for noise.  What the rounds cost depends on more than that: ask for ``max_epsilon`` where it can be had.
        max_levels: the most levels of a private round's noise, which are revealed to the server as far as the losses do
            not ask for them.  What is promised is the same with and without levels.  0 refuses them: then the noise
            that is left over when few clients are lost stays, a margin against more colluders than the round counts
            on and, in ``semi_honest``, against a server that lies about the survivors.
    """

    min_clip: float = SMALLEST_CLIP
    max_clip: float = LARGEST_CLIP
    min_bits: int = 2
    max_bits: int = 32
    min_max_weight: float = 1
    max_max_weight: float = LARGEST_WEIGHT
    weighted_by: frozenset[str] = field(default_factory=lambda: frozenset({"num-examples"}))
    whole_model: bool = False
    local_arrays: frozenset[str] = frozenset()
    records: frozenset[str] = frozenset()
    private: bool = False
    max_epsilon: float | None = None
    max_delta: float | None = None
    min_noise_multiplier: float | None = None
    max_levels: int = 64

    def __post_init__(self) -> None:
        """Raises ParameterError for bounds that no layout keeps."""
        for name, low, high in (
            ("clip", self.min_clip, self.max_clip),
            ("bits", self.min_bits, self.max_bits),
            ("max_weight", self.min_max_weight, self.max_max_weight),
            ("levels", 0, self.max_levels),
        ):
            if not low <= high:
                raise ParameterError(f"a layout policy with {name} from {low!r} to {high!r}: it allows nothing")
        if (self.max_epsilon is None) != (self.max_delta is None):
            raise ParameterError(
                f"a layout policy with max_epsilon {self.max_epsilon!r} and max_delta {self.max_delta!r}: an epsilon "
                "says nothing without its delta; give both or neither"
            )
        for name, bound, below in (
            ("max_epsilon", self.max_epsilon, math.inf),
            ("max_delta", self.max_delta, 1.0),
            ("min_noise_multiplier", self.min_noise_multiplier, math.inf),
        ):
            if bound is not None and not 0 < bound < below:
                raise ParameterError(f"a layout policy with {name} {bound!r}: must be above 0 and below {below!r}")

    @property
    def asks_for_noise(self) -> bool:
        """Whether a round without noise is refused."""
        return self.private or self.max_epsilon is not None or self.min_noise_multiplier is not None

    def check(
        self,
        *,
        clip: float | None,
        bits: int,
        max_weight: int | None,
        clips: Iterable[float] = (),
        array_bits: Iterable[int] = (),
        exact: Iterable[Exact] = (),
        weighted_by: str | None = None,
        weight_scale: int = 1,
        difference: bool = True,
    ) -> None:
        """Of a layout without noise.  Raises PeerError(CONFIG_BELOW_POLICY): the value met and the value allowed.

        Args:
            clip, bits, max_weight: of the encoder; ``clip`` is None where no array has it, ``max_weight`` where there
                are no weights.
            clips, array_bits, exact: those of single arrays.
            weighted_by: the metric that is the weight; None where the client itself says its weight.
            weight_scale: how many steps of ``max_weight`` a weight of 1 has.
            difference: whether the change of a model is summed, and not the model.
        """
        if self.asks_for_noise:
            raise _refused(f"has no noise; this client's policy allows private rounds alone ({self._noise_asked_for})")
        for value in (*(() if clip is None else (clip,)), *clips):
            _within("clip", value, self.min_clip, self.max_clip)
        for number in (bits, *array_bits):
            _within("bits", number, self.min_bits, self.max_bits)
        for one in exact:
            self._check_exact(one)
        if max_weight is not None:
            self.check_weight(max_weight if weight_scale == 1 else max_weight / weight_scale, weighted_by)
        self._check_difference(difference=difference)

    def check_parts(self, names: Mapping[str, str], records: Iterable[str] = ()) -> None:
        """Of the arrays that a layout sums.  Raises PeerError(CONFIG_BELOW_POLICY): what it met, and what it allows.

        Args:
            names: of the arrays, each with its name in its own record.
            records: where there are several.
        """
        for pattern in sorted(self.local_arrays):
            for name in dict.fromkeys([*matching(pattern, names), *matching(pattern, set(names.values()))]):
                raise _refused(f"sums {name!r}; this client keeps arrays called {pattern!r} to itself (local_arrays)")
        if self.records and (others := [name for name in records if name not in self.records]):
            allowed = ", ".join(map(repr, sorted(self.records)))
            raise _refused(f"sums the record {others[0]!r}; this client's policy allows {allowed}")

    def check_private(
        self,
        *,
        clip: float,
        bits: int,
        max_weight: int | None,
        noise_multiplier: float,
        levels: int = 0,
        epsilon_at: Callable[[float], float],
        weighted_by: str | None = None,
        difference: bool = True,
    ) -> None:
        """Of a layout with noise.  Raises PeerError(CONFIG_BELOW_POLICY): the value met and the value allowed.

        Args:
            clip, bits: the norm that an update is shortened to, and the bits of the modulus.
            max_weight, weighted_by, difference: as in ``check``.
            noise_multiplier: see ``min_noise_multiplier``.
            levels: of the noise; 0 where all of it stays.
            epsilon_at: gives the epsilon over all announced rounds at a delta, and is asked only if the policy is.
        """
        _within("clip", clip, self.min_clip, self.max_clip)
        _within("bits", bits, self.min_bits, self.max_bits)
        _within("levels", levels, 0, self.max_levels)
        if max_weight is not None:
            self.check_weight(max_weight, weighted_by)
        self._check_difference(difference=difference)
        least = self.min_noise_multiplier
        if least is not None and not noise_multiplier >= least:
            raise _refused(
                f"has a noise multiplier of {noise_multiplier:.6g}; this client's policy allows {least:g} or more"
            )
        if self.max_epsilon is not None and self.max_delta is not None:
            epsilon = epsilon_at(self.max_delta)
            if not epsilon <= self.max_epsilon:
                raise _refused(
                    f"costs an epsilon of {epsilon:.6g} at delta {self.max_delta:g} over all of its rounds; this "
                    f"client's policy allows {self.max_epsilon:g}"
                )

    @property
    def _noise_asked_for(self) -> str:
        given = {
            "private": self.private or None,
            "max_epsilon": self.max_epsilon,
            "min_noise_multiplier": self.min_noise_multiplier,
        }
        return ", ".join(f"{name} = {value!r}" for name, value in given.items() if value is not None)

    def check_weight(self, max_weight: float, weighted_by: str | None) -> None:
        """Of a weight of at most ``max_weight``.  Raises PeerError(CONFIG_BELOW_POLICY).

        ``weighted_by`` is the metric that is the weight; None where the client itself says it.
        """
        _within("max_weight", max_weight, self.min_max_weight, self.max_max_weight)
        if weighted_by is not None and weighted_by not in self.weighted_by:
            allowed = ", ".join(sorted(self.weighted_by)) or "nothing"
            raise _refused(f"weights updates by {weighted_by!r}; this client's policy allows {allowed}")

    def _check_difference(self, *, difference: bool) -> None:
        if not difference and not self.whole_model:
            raise _refused("asks for the whole model; this client's policy allows its change alone (difference=True)")

    def _check_exact(self, exact: Exact) -> None:
        named = f"the exact range {exact.low}..{exact.high}"
        if not exact.low <= 0 <= exact.high:
            # Everybody's small values would be raised to its nearer end: what is above it would stand out.
            raise _refused(f"has {named}, which leaves out 0; this client takes ranges that include it")
        reach = max(-exact.low, exact.high)
        if not self.min_clip <= reach <= self.max_clip:
            raise _refused(
                f"has {named}, with a clip of {reach}; this client's policy allows {self.min_clip!r} to "
                f"{self.max_clip!r}"
            )
        bits = (reach * exact.units).bit_length() + 1
        if bits < self.min_bits:
            raise _refused(
                f"has {named} in steps of {1 / exact.units:g}, with bits {bits}; this client's policy allows "
                f"{self.min_bits!r} or more"
            )


def _within(name: str, met: float, low: float, high: float) -> None:
    if not low <= met <= high:
        raise _refused(f"has {name} {met!r}; this client's policy allows {low!r} to {high!r}")


def _refused(what: str) -> PeerError:
    return PeerError(ErrorCode.CONFIG_BELOW_POLICY, f"the server's layout {what}")
