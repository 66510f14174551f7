"""Which clip, bits or exact range each array has."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from typing import Final, TypeAlias, TypeVar, final

from secagg.encoding.exact import Exact
from secagg.encoding.limits import FEWEST_BITS, LARGEST_CLIP, MOST_BITS, SMALLEST_CLIP, integer, real
from secagg.encoding.template import Template
from secagg.errors import ParameterError

_V = TypeVar("_V")
_WILDCARDS: Final = frozenset("*?[")


@final
@dataclass(frozen=True)
class Rounding:
    """An array whose values are clipped and rounded."""

    clip: float
    bits: int

    @property
    def step(self) -> float:
        """What two neighbouring encoded values are apart, at full weight."""
        return self.clip / ((1 << (self.bits - 1)) - 1)

    def described(self) -> list[object]:
        """What the layout's digest has of it."""
        return ["rounded", self.clip.hex(), self.bits]


@final
@dataclass(frozen=True)
class Coarse:
    """Why an array does not fit its clip and bits well.

    Attributes:
        largest: the largest absolute value of the update's array.
        clip: what it is cut to.
        rounding: the most that the rounding of this client may add to a value, in the update's own unit.

    ``repr`` shows neither ``largest`` nor ``rounding``: the one is of the client's data, the other of its weight.
    """

    largest: float = field(repr=False)
    clip: float
    rounding: float = field(repr=False)


Setting: TypeAlias = Rounding | Exact


def settings_of(
    template: Template,
    clip: float,
    bits: int,
    clips: Mapping[str, float] | None,
    array_bits: Mapping[str, int] | None,
    exact: Mapping[str, Exact] | None,
) -> tuple[Setting, ...]:
    """The setting of each leaf.  Raises ParameterError for a pattern that matches nothing or a value out of range."""
    names = {leaf.name: None for leaf in template.leaves}  # a set in the template's order
    own_clips = resolved("clips", names, clips or {})
    own_bits = resolved("array_bits", names, array_bits or {})
    own_exact = resolved("exact", names, exact or {})
    settings: list[Setting] = []
    for name in names:
        if name in own_exact:
            setting = own_exact[name]
            if not isinstance(setting, Exact):
                raise ParameterError(f"exact: {name} has {setting!r}; give secagg.Exact(low, high)")
            settings.append(setting)
            continue
        settings.append(
            Rounding(
                real(f"clips: the clip of {name}", own_clips.get(name, clip), SMALLEST_CLIP, LARGEST_CLIP),
                integer(f"array_bits: the bits of {name}", own_bits.get(name, bits), FEWEST_BITS, MOST_BITS),
            )
        )
    return tuple(settings)


def matching(pattern: str, names: Collection[str]) -> list[str]:
    """The names that a pattern stands for.

    A name stands for its own array alone, also where it holds ``*``, ``?`` or ``[``, and is looked up, not searched:
    a layout of as many names as a server likes costs a client no more than their number.
    """
    if pattern in names:
        return [pattern]
    if not _WILDCARDS.intersection(pattern):
        return []
    return [name for name in names if fnmatchcase(name, pattern)]


def matched(option: str, names: Collection[str], patterns: Collection[str]) -> frozenset[str]:
    """The names that any of these patterns matches.

    Raises ParameterError for a pattern that matches nothing, which names ``option``.
    """
    return frozenset(resolved(option, names, dict.fromkeys(patterns)))


def resolved(option: str, names: Collection[str], patterns: Mapping[str, _V]) -> dict[str, _V]:
    """The value of each name that a pattern matches; the first one counts.

    Raises ParameterError for a pattern that matches nothing, which names ``option``.
    """
    found: dict[str, _V] = {}
    for pattern, value in patterns.items():
        matched = matching(pattern, names)
        if not matched:
            raise ParameterError(f"{option}: {pattern!r} matches no array; there are {', '.join(names)}")
        for name in matched:
            found.setdefault(name, value)
    return found
