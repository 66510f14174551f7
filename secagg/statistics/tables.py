"""The rule of small cells, as the methods of tables apply it."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from secagg.statistics.asks import Terms
from secagg.statistics.suppression import hidden_cells, margins_tell


def hidden_in(terms: Terms, counts: npt.NDArray[Any]) -> npt.NDArray[np.bool_]:
    """Which counts the study's release withholds, shape as ``counts``.

    A dimension with a single value makes no margin: the margin would be the cells themselves.
    """
    release = terms.release
    hidden = hidden_cells(_lined(counts), release.min_cell, release.complementary)
    return np.asarray(hidden, np.bool_).reshape(counts.shape)


def told_by_margins(terms: Terms, counts: npt.NDArray[Any]) -> bool:
    """Whether the margins of counts are the small cells, whatever is withheld of the table."""
    return margins_tell(_lined(counts), terms.release.min_cell)


def _lined(counts: npt.NDArray[Any]) -> npt.NDArray[Any]:
    return counts.reshape(tuple(size for size in counts.shape if size > 1) or (1,))
