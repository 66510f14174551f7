"""What a strategy asks of updates, in patterns, and what becomes of it for the names of a model."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final, TypeVar, final

import msgspec
from flwr.app import ArrayRecord

from secagg.adapters.flower.announcement import UpdateTerms
from secagg.adapters.flower.array_values import whole_numbers
from secagg.adapters.flower.class_weights import LARGEST_SCALE, ClassWeights, class_terms, steps_of
from secagg.adapters.flower.extra_arrays import array_of_metric
from secagg.adapters.flower.records import log
from secagg.adapters.model_arrays import WHOLE_BITS, clip_of_whole_numbers
from secagg.encoding.limits import LARGEST_WEIGHT, integer
from secagg.encoding.settings import resolved
from secagg.errors import ParameterError
from secagg.wording import counted

_V = TypeVar("_V")
_LISTED: Final = 4


@final
@dataclass(frozen=True, slots=True)
class Parts:
    """Which arrays of a model are summed, by patterns over their names.

    Attributes:
        include: the arrays that are summed; None for all of them.
        exclude: of those, the ones that are not.
    """

    include: tuple[str, ...] | None = None
    exclude: tuple[str, ...] = ()

    @classmethod
    def of(cls, include: Sequence[str] | None, exclude: Sequence[str]) -> Parts:
        """Raises ParameterError for one string in place of several, or an empty list of what is summed."""
        for name, patterns in (("include", include), ("exclude", exclude)):
            if isinstance(patterns, str) or not all(isinstance(pattern, str) for pattern in patterns or ()):
                raise ParameterError(f'{name} is {patterns!r}: give a list of patterns, such as ["backbone.*"]')
        if include is not None and not include:
            raise ParameterError("include is empty, so that nothing would be summed: leave it out to sum all arrays")
        return cls(None if include is None else tuple(include), tuple(exclude))

    def left_out(self, names: Sequence[str]) -> tuple[str, ...] | None:
        """The arrays that are not summed, in the model's order; None where no part was asked for.

        Raises ParameterError for a pattern that matches nothing, and when nothing is left to sum.
        """
        if self.include is None and not self.exclude:
            return None
        known = dict.fromkeys(names)
        summed = set(known if self.include is None else resolved("include", known, dict.fromkeys(self.include)))
        summed -= set(resolved("exclude", known, dict.fromkeys(self.exclude)))
        if not summed:
            raise ParameterError(
                f"include {list(self.include or ())} and exclude {list(self.exclude)} leave no array of the model that "
                "is summed"
            )
        return tuple(name for name in names if name not in summed)


@final
@dataclass(slots=True)
class AskedTerms:
    """The options of a strategy about updates.

    Attributes:
        terms: what they say of any model.
        clips, array_bits: of single arrays, by name or pattern.
        parts: which arrays are summed.
        class_weights: how rows are weighed by class, by name or pattern of the arrays.
        whole: the types of the arrays that held whole numbers when they were first met: their means are floats.
    """

    terms: UpdateTerms
    clips: Mapping[str, float]
    array_bits: Mapping[str, int]
    parts: Parts
    class_weights: Mapping[str, ClassWeights] = field(default_factory=dict)
    whole: dict[str, str] = field(default_factory=dict)

    def terms_for(self, model: ArrayRecord) -> UpdateTerms:
        """The terms for this model, with the clips and bits of arrays of whole numbers that nobody chose.

        Raises ParameterError for a pattern that matches nothing.
        """
        left_out = self.parts.left_out(list(model))
        names = [name for name in model if name not in (left_out or ())]
        clips = {name: float(clip) for name, clip in self._chosen("clips", model, self.clips, left_out).items()}
        bits = self._chosen("array_bits", model, self.array_bits, left_out)
        kinds = whole_numbers({name: model[name] for name in names})
        new = {name: kind for name, kind in kinds.items() if name not in self.whole}
        self.whole |= new
        if unchosen := [name for name in new if name not in clips]:
            self._tell_of_clips(unchosen)
        whole = [name for name in names if name in self.whole]
        fine = [*whole, *map(array_of_metric, self.terms.metrics)]
        return msgspec.structs.replace(
            self.terms,
            clips={name: self._default_clip(name) for name in whole} | clips,
            array_bits=dict.fromkeys(fine, WHOLE_BITS) | bits,
            left_out=left_out,
            class_weights=class_terms(self.class_weights, {name: tuple(model[name].shape) for name in names}),
        )

    def private_for(self, model: ArrayRecord) -> UpdateTerms:
        """The terms for a private round of this model, without what it promises.

        Raises ParameterError for a pattern that matches nothing.
        """
        return msgspec.structs.replace(self.terms, left_out=self.parts.left_out(list(model)))

    @staticmethod
    def _chosen(
        option: str, model: ArrayRecord, patterns: Mapping[str, _V], left_out: tuple[str, ...] | None
    ) -> dict[str, _V]:
        """The settings of the arrays that are summed; a pattern that matches others alone is no mistake."""
        chosen = resolved(option, list(model), patterns)
        return {name: value for name, value in chosen.items() if name not in (left_out or ())}

    def _default_clip(self, name: str) -> float:
        return clip_of_whole_numbers(self.whole[name], self.terms.clip, difference=self.terms.difference)

    def _tell_of_clips(self, unchosen: Sequence[str]) -> None:
        listed = ", ".join(map(repr, unchosen[:_LISTED])) + (", ..." if len(unchosen) > _LISTED else "")
        log.warning(
            "secagg: no clip was given for %s of whole numbers (%s): a change is clipped to %r, or to the range of "
            "the array's type if that is smaller; for another range give SecAggStrategy clips={%r: ...}",
            counted(len(unchosen), "array"),
            listed,
            max(self._default_clip(name) for name in unchosen),
            unchosen[0],
        )


def weight_steps(max_weight: float | None, weight_scale: int) -> int | None:
    """The largest weight in steps.  Raises ParameterError."""
    integer("weight_scale", weight_scale, 1, LARGEST_SCALE)
    if max_weight is None:
        return None
    if weight_scale == 1 and not isinstance(max_weight, float):
        return integer("max_weight", max_weight, 1, LARGEST_WEIGHT)
    return steps_of(max_weight, weight_scale, "max_weight", "weight_scale")
