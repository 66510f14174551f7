"""The ranges of an encoder's parameters."""

from __future__ import annotations

from typing import Final

SMALLEST_CLIP: Final = 1e-100
LARGEST_CLIP: Final = 1e100
LARGEST_WEIGHT: Final = 2**53
"""Up to here every whole number is a float64."""
