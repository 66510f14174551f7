"""What a privacy budget refuses, for hosts that must tell it apart without an accountant."""

from __future__ import annotations

import math

from secagg.errors import SecAggError, UsageError


class BudgetExceededError(UsageError):
    """The round would pass the budget: it was not recorded, and nothing of it may leave.

    Attributes:
        epsilon: what would have been spent with it.
        limit: the budget's epsilon.
        rounds: the rounds that are recorded.
    """

    def __init__(self, message: str, *, epsilon: float = math.nan, limit: float = math.nan, rounds: int = 0) -> None:
        super().__init__(message)
        self.epsilon = epsilon
        self.limit = limit
        self.rounds = rounds


class BudgetFileError(SecAggError):
    """The file cannot be read or written, as with a full disk: what is left is not known, and nothing may leave."""
