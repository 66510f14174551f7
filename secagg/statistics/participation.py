"""Which sets of organisations may be summed one after another; ``secagg.differencing.classes`` says why."""

from __future__ import annotations

from collections.abc import Iterable

from secagg.differencing.classes import Classes


def refused_difference(earlier: Iterable[Iterable[str]], organisations: Iterable[str], least: int) -> str:
    """Why these organisations may not be summed after the earlier sets; empty when they may.

    ``least`` is the fewest members of a class.  A set that was summed before adds no combination.
    """
    return Classes.after(earlier).why_not([organisations], least, "organisation")
