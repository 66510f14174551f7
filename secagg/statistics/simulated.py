"""A whole study in one process: real rounds of the protocol over sites in memory."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Final

from secagg.errors import DisclosureError, ParameterError
from secagg.pairwise.phases import Phase
from secagg.simulation import Faults, simulate
from secagg.statistics.analyst import Analyst
from secagg.statistics.ledger import Entry, Ledger
from secagg.statistics.question import Question
from secagg.statistics.results import StudyResult
from secagg.statistics.site import Site

if TYPE_CHECKING:
    from secagg.privacy.budget import Budget

_NAME_BYTES: Final = 32
"""Of a round in the analyst's budget."""


def simulate_study(
    sites: Mapping[str, Site],
    *,
    lost: Mapping[str, int] | None = None,
    ledgers: Mapping[str, Ledger] | None = None,
    budget: Budget | None = None,
    threat_model: str = "semi_honest",
    seed: int | None = None,
) -> StudyResult:
    """Run the study of these sites to its end.

    Args:
        sites: by name; all of one study.
        lost: by name, the number of the round in which a site vanishes before its vector is there; it does not return.
        ledgers: by name, of those sites that keep one; each is asked before a sum that its site is in is released.
        budget: the analyst's own, over all of its studies: it is charged before a round with noise begins.
        threat_model: of the rounds; only ``semi_honest`` is simulated here.
        seed: makes every draw of the protocol reproducible; see ``secagg.simulation.simulate``.

    Each site checks its data first.  When too few sites are left, or they may not be summed after those of earlier
    rounds, or a ledger refuses them, or three rounds in a row have failed, the session ends, and methods that have not
    finished say why.

    Raises PeerError, InputError, ParameterError, DisclosureError, LedgerFileError, BudgetExceededError and
    BudgetFileError as sites, analyst, ledgers and budgets do.
    """
    names = sorted(sites)
    for name in names:
        sites[name].check()
    analyst = Analyst(sites[names[0]].study)
    gone: dict[str, int] = dict(lost or {})
    while (question := analyst.question()) is not None:
        present = [name for name in names if gone.get(name, question.number) >= question.number]
        config = analyst.config(question, len(present), threat_model=threat_model)
        if config is None:
            break
        layout = analyst.layout(question)
        if budget is not None and (cost := layout.noisy_sum) is not None:
            budget.charge(os.urandom(_NAME_BYTES), cost)
        fates = {index: Phase.SHARE.value for index, name in enumerate(present) if gone.get(name) == question.number}
        asked = question
        outcome = simulate(
            lambda index: layout.encode(sites[present[index]].answer(asked)),  # noqa: B023  (used within the turn)
            config,
            faults=Faults(fates=fates),
            seed=seed,
        )
        if outcome.result is None:
            analyst.failed(outcome.failure.reason if outcome.failure else "it was aborted")
            continue
        included = [present[index] for index in outcome.included]
        if why := _refusal(analyst, question, sites, included, ledgers or {}):
            analyst.stop(why)
            break
        analyst.take_vector(question, outcome.sum, included)
    return analyst.result()


def _refusal(
    analyst: Analyst,
    question: Question,
    sites: Mapping[str, Site],
    included: Sequence[str],
    ledgers: Mapping[str, Ledger],
) -> str:
    """Why the sum over these sites is not released; empty when it may be, and then it is in every ledger."""
    try:
        analyst.check_sites(included)
        for name in included:
            if name in ledgers:
                ledgers[name].record(Entry.of(question, included), sites[name].min_difference)
    except (ParameterError, DisclosureError) as refused:
        return str(refused)
    return ""
