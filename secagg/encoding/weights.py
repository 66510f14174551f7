"""The weight of one client, checked."""

from __future__ import annotations

import operator

import numpy as np

from secagg.errors import InputError


def checked_weight(weight: int, max_weight: int | None) -> tuple[int, bool]:
    """The weight that counts, and whether it is less than the one given.

    Raises InputError for a weight below 0 or no int, and for any but 1 where ``max_weight`` is None.
    """
    try:
        value = -1 if isinstance(weight, (bool, np.bool)) else operator.index(weight)
    except TypeError:
        value = -1
    if max_weight is None:
        if value != 1:
            raise InputError(f"weight {weight!r}: this encoder has no weights; build it with max_weight to have them")
        return 1, False
    if value < 0:
        raise InputError(f"weight {weight!r}: must be a whole number from 0 up; round or scale the weights")
    return min(value, max_weight), value > max_weight
