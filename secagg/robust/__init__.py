"""Robust means over the group sums of a grouped round, for training where some clients may be malicious.

    means, counts = ...                                   # one row for each group, and how many clients are in it
    update = robust_mean(means, counts, "multi-krum")     # what a minority of poisoned groups cannot move far

The protocol knows nothing of this package.
"""

from secagg.robust.anomalies import GroupAnomaly, RoundReport, report_round
from secagg.robust.attacks import AttackName
from secagg.robust.ballots import Ballot, ClassErrors, Tally, Verdict, Vote
from secagg.robust.rules import (
    Rule,
    RuleName,
    capped_weights,
    coordinate_median,
    geometric_median,
    mixed_geometric_median,
    most_bad,
    multi_krum,
    robust_mean,
    trimmed_mean,
    within_norm,
)
from secagg.robust.scores import ClientScore, Scores

__all__ = [
    "AttackName",
    "Ballot",
    "ClassErrors",
    "ClientScore",
    "GroupAnomaly",
    "RoundReport",
    "Rule",
    "RuleName",
    "Scores",
    "Tally",
    "Verdict",
    "Vote",
    "capped_weights",
    "coordinate_median",
    "geometric_median",
    "mixed_geometric_median",
    "most_bad",
    "multi_krum",
    "report_round",
    "robust_mean",
    "trimmed_mean",
    "within_norm",
]
