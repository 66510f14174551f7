"""Robust means over the group sums of a round, for training in which some clients may be malicious.

    found = group_means(encoder, result.groups)           # a round with groups: one mean for each
    mean = robust_mean(found.means, found.weights, "mixed-geometric-median", norm_limit=2.0)
    update = as_update(encoder, mean)                     # what a minority of poisoned groups cannot move far
    report = report_round(found.means, found.members)     # which groups stand out
    scores.add(report)                                    # and, over rounds, which clients: a hint, never a proof
    exclusions.add(found.means, found.members)            # who is no longer invited, where an operator asks for it

The protocol knows nothing of this package.
"""

from secagg.robust.anomalies import GroupAnomaly, RoundReport, report_round
from secagg.robust.attacks import AttackName
from secagg.robust.ballots import Ballot, ClassErrors, Tally, Verdict, Vote
from secagg.robust.distances import ClientDistance, ClientDistances
from secagg.robust.exclusions import Exclusions, LeaveOut
from secagg.robust.groups import GroupMeans, as_update, group_means
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
    "ClientDistance",
    "ClientDistances",
    "ClientScore",
    "Exclusions",
    "GroupAnomaly",
    "GroupMeans",
    "LeaveOut",
    "RoundReport",
    "Rule",
    "RuleName",
    "Scores",
    "Tally",
    "Verdict",
    "Vote",
    "as_update",
    "capped_weights",
    "coordinate_median",
    "geometric_median",
    "group_means",
    "mixed_geometric_median",
    "most_bad",
    "multi_krum",
    "report_round",
    "robust_mean",
    "trimmed_mean",
    "within_norm",
]
