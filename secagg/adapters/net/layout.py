"""What is summed in a round: the arrays' names and shapes, and how their values are encoded."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

import msgspec
import numpy as np
import numpy.typing as npt

from secagg.encoding import Encoder, Template
from secagg.encoding.sums import Mean
from secagg.errors import InputError

_LISTED: Final = 4

Shapes = Mapping[str, tuple[int, ...]]


class Layout(msgspec.Struct, frozen=True, array_like=True, forbid_unknown_fields=True):
    """Public, and the same for every client of a round; its digest is the config's context.

    Attributes:
        arrays: names and shapes, by name.
        clip, bits, max_weight: of the Encoder.
    """

    arrays: tuple[tuple[str, tuple[int, ...]], ...]
    clip: float
    bits: int
    max_weight: int | None

    @classmethod
    def of(cls, shapes: Shapes, *, clip: float, bits: int = 16, max_weight: int | None = None) -> Layout:
        """The layout of files with these arrays.  Raises ParameterError or InputError for what cannot be encoded."""
        layout = cls(tuple(sorted(shapes.items())), clip, bits, max_weight)
        layout.encoder()
        return layout

    def encoder(self) -> Encoder:
        """An encoder of this layout that knows no dtypes: it decodes to float64."""
        template = Template.from_shapes(dict(self.arrays))
        return Encoder(template, clip=self.clip, bits=self.bits, max_weight=self.max_weight)

    def encoder_for(self, arrays: Mapping[str, Any]) -> Encoder:
        """An encoder for a client's own arrays.  Raises InputError, which names what differs from the round's."""
        own = {name: tuple(array.shape) for name, array in arrays.items()}
        if faults := self._differences(own):
            more = f"; and {len(faults) - _LISTED} more" if len(faults) > _LISTED else ""
            raise InputError(f"the input has another layout than the round: {'; '.join(faults[:_LISTED])}{more}")
        template = Template.of({name: arrays[name] for name in sorted(arrays)})
        return Encoder(template, clip=self.clip, bits=self.bits, max_weight=self.max_weight)

    def _differences(self, own: Shapes) -> list[str]:
        theirs = dict(self.arrays)
        faults = [f"it lacks {name!r}" for name in theirs if name not in own]
        faults += [f"it has {name!r}, which is not summed" for name in own if name not in theirs]
        faults += [
            f"{name!r} has shape {own[name]}, not {theirs[name]}"
            for name in theirs
            if name in own and own[name] != theirs[name]
        ]
        return faults


def totals(mean: Mean) -> dict[str, npt.NDArray[np.float64]]:
    """The (weighted) sums, in float64."""
    return {name: np.asarray(values * mean.weight) for name, values in mean.mean.items()}
