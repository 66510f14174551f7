"""What a private round costs the server's budget: charged before anybody can be invited, given back without a sum.

The name of a round is the digest of its invitation, which a restart finds again in the journal, and which no other
round has.
"""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Iterable
from typing import TYPE_CHECKING, final

from secagg.adapters.net.frames import AnnouncedLayout
from secagg.errors import ParameterError, SecAggError
from secagg.privacy.budget_errors import BudgetFileError
from secagg.privacy.layout import PrivateLayout
from secagg.statistics.layout import StudyLayout

if TYPE_CHECKING:
    from secagg.privacy.budget import Budget

_log = logging.getLogger("secagg.net.round")


@final
class RoundCharge:
    """One round's entry in a budget."""

    def __init__(self, budget: Budget, layout: AnnouncedLayout, name: str) -> None:
        """Nothing is charged yet.  Raises ParameterError for a round without noise, which no budget covers."""
        cost = layout.terms.sum if isinstance(layout, PrivateLayout) else None
        if isinstance(layout, StudyLayout):
            cost = layout.noisy_sum
        if cost is None:
            raise ParameterError(
                f"round {name}: it has no noise, and the privacy budget {budget.path} covers private rounds alone; "
                "give the round a private layout, or the study noise, or leave the budget out"
            )
        self._budget, self._sum, self._name = budget, cost, b""

    def open(self, invitation: bytes) -> None:
        """The round begins, or goes on, with this invitation; a round that is over has none."""
        self._name = hashlib.sha256(invitation).digest()

    def charge(self) -> bool:
        """Charge the round unless it is charged already; whether it is now and was not before.

        Raises BudgetExceededError and BudgetFileError; nobody must be invited then.
        """
        if not self._name or self._budget.is_charged(self._name):
            return False
        self._budget.charge(self._name, self._sum)
        return True

    def give_back(self) -> None:
        """The round has ended without a sum.  What the file cannot take stays charged, and is logged."""
        try:
            if self._name:
                self._budget.give_back(self._name)
        except BudgetFileError as failure:
            _log.warning("budget", extra={"fields": {"trouble": str(failure), "round": self._name.hex()}})


def charge_all(charges: Iterable[RoundCharge]) -> None:
    """Charge all rounds, or none: of none has anything left yet.  Raises BudgetExceededError and BudgetFileError."""
    charged: list[RoundCharge] = []
    try:
        for one in charges:
            if one.charge():
                charged.append(one)
    except SecAggError:
        for one in charged:
            one.give_back()
        raise
