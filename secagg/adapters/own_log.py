"""What a client's own log says of the values that were cut off, or are small beside the rounding, whatever the host."""

from __future__ import annotations

from collections.abc import Mapping
from logging import Logger
from typing import Final

from secagg.encoding.settings import Coarse
from secagg.wording import counted, was

_LISTED: Final = 4
"""Arrays that have a line each."""


def warn_of_clipped(log: Logger, name: str, count: int, clip: float, remedy: str) -> None:
    """So many values of an array were clipped; ``remedy`` is what to change, or empty."""
    log.warning("secagg: %s: %s %s clipped to %r%s", name, counted(count, "value"), was(count), clip, remedy)


def warn_of_coarse(log: Logger, coarse: Mapping[str, Coarse]) -> None:
    """These arrays are small beside the steps that they are rounded to."""
    for name, one in list(coarse.items())[:_LISTED]:
        log.warning(
            "secagg: %s: its largest value is %.2g, and rounding may add %.2g: ask for more bits (array_bits), a clip "
            "closer to the values, or a smaller max_weight",
            name,
            one.largest,
            one.rounding,
        )
    if len(coarse) > _LISTED:
        log.warning("secagg: the same holds for %s", counted(len(coarse) - _LISTED, "more array"))
