"""Robust means over the group sums of a grouped round, for training where some clients may be malicious.

    means, counts = ...                                   # one row for each group, and how many clients are in it
    update = robust_mean(means, counts, "multi-krum")     # what a minority of poisoned groups cannot move far

The protocol knows nothing of this package.
"""

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
)

__all__ = [
    "Rule",
    "RuleName",
    "capped_weights",
    "coordinate_median",
    "geometric_median",
    "mixed_geometric_median",
    "most_bad",
    "multi_krum",
    "robust_mean",
    "trimmed_mean",
]
