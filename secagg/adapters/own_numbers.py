"""A client's own numbers, as the whole numbers and bounds that are summed, whatever the host."""

from __future__ import annotations

from typing import Final

LARGEST_NUMBER: Final = 2**63
"""Above every weight, and within float64, whatever an app reports."""


def weight_in_steps(value: float, scale: int = 1) -> int:
    """A finite weight in steps of 1 / scale: rounded, and 0 when it is below.  The encoder clamps a large one.

    One above 0 counts as a step at least: with steps so coarse that all weights but one rounded to 0, a server would
    have that client's update for the sum.
    """
    return max(1 if value > 0 else 0, round(min(value, LARGEST_NUMBER) * scale))


def bounded(value: float) -> float:
    """The same number, or the nearest that float64 holds exactly and no weight exceeds."""
    return max(-LARGEST_NUMBER, min(value, LARGEST_NUMBER))
