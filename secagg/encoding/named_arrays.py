"""The arrays of a round by name and shape: what a ``Layout`` and a private layout have in common."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from math import prod
from typing import Any, Final

import msgspec

from secagg.encoding.template import Template
from secagg.errors import InputError, ParameterError

LISTED: Final = 4
"""Differences in one message."""
_MOST_AXES: Final = 32
"""As many as NumPy 1 allows; NumPy 2 allows 64."""
_MOST_ELEMENTS: Final = 2**40
"""Of one array, its empty axes counted as 1: below what NumPy's own shapes can say."""

Shapes = Mapping[str, tuple[int, ...]]


class NamedArrays(msgspec.Struct, frozen=True, array_like=True, forbid_unknown_fields=True):
    """Names and shapes, whatever becomes of the values.

    Attributes:
        arrays: in the order in which the vector has them.

    Raises ParameterError when a name is there twice.
    """

    arrays: tuple[tuple[str, tuple[int, ...]], ...]

    def __post_init__(self) -> None:
        known: set[str] = set()
        for name, _ in self.arrays:
            if name in known:
                raise ParameterError(f"arrays: {name!r} is there twice")
            known.add(name)

    @property
    def template(self) -> Template:
        """What an encoder of these arrays takes, of no dtype in particular; the arrays' leaves come first.

        Raises ParameterError for a shape that no array has.
        """
        for name, shape in self.arrays:
            if len(shape) > _MOST_AXES or min(shape, default=0) < 0 or _elements(shape) > _MOST_ELEMENTS:
                raise ParameterError(f"{name} has the shape {shape}: no array that can be summed has it")
        return Template.from_shapes(dict(self.arrays))

    def check_ascending(self) -> None:
        """Raises ParameterError unless the arrays' names ascend: a server cannot give one layout in two forms."""
        check_names_ascend("arrays", [name for name, _ in self.arrays])

    def leaf_names(self) -> dict[str, str]:
        """What an encoder calls each array, by the array's own name: the two differ where a name is not printable."""
        leaves = self.template.leaves
        return {name: leaf.name for (name, _), leaf in zip(self.arrays, leaves, strict=False)}

    def by_name(self, by_leaf: Mapping[str, Any]) -> dict[str, Any]:
        """What an encoder says of its leaves, by the arrays' own names."""
        return {name: by_leaf[leaf] for name, leaf in self.leaf_names().items() if leaf in by_leaf}

    def check_arrays(self, arrays: Mapping[str, Any]) -> None:
        """Raises InputError, which names what differs, for a client's arrays of other names or shapes."""
        own = {name: tuple(array.shape) for name, array in arrays.items()}
        if faults := self.differences(own):
            more = f"; and {len(faults) - LISTED} more" if len(faults) > LISTED else ""
            raise InputError(f"the input has another layout than the round: {'; '.join(faults[:LISTED])}{more}")

    def differences(self, own: Shapes) -> list[str]:
        """In words, how arrays of these shapes differ from the layout's."""
        theirs = dict(self.arrays)
        faults = [f"it lacks {name!r}" for name in theirs if name not in own]
        faults += [f"it has {name!r}, which is not summed" for name in own if name not in theirs]
        faults += [
            f"{name!r} has shape {own[name]}, not {theirs[name]}"
            for name in theirs
            if name in own and own[name] != theirs[name]
        ]
        return faults


def check_names_ascend(what: str, names: Iterable[str]) -> None:
    """Raises ParameterError, which says ``what`` the names are of, unless each is above the one before it."""
    previous: str | None = None
    for name in names:
        if previous is not None and name <= previous:
            fault = "is there twice" if name == previous else f"stands behind {previous!r}"
            raise ParameterError(f"{what}: {name!r} {fault}; names must be ascending")
        previous = name


def _elements(shape: tuple[int, ...]) -> int:
    return prod(max(extent, 1) for extent in shape)
