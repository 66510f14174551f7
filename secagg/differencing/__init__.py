"""What sums over changing sets of members tell together, and how rounds are kept from it.

classes     members with the same history of sums: whatever is worked out from the sums is about whole classes
ledger      a durable file of them, which is asked before a sum is opened
batches     whom to invite, so that no round makes a class too small

A sum over a cohort, and one over the same cohort without one member, give that member's values by subtraction, although
each was harmless alone.  The protocol of one round cannot see that; this package looks at all of them.
"""

from __future__ import annotations

from secagg.differencing.batches import Batch, batches_of, sample
from secagg.differencing.classes import Classes, least_difference
from secagg.differencing.ledger import DifferenceLedger, DifferenceLedgerError

__all__ = [
    "Batch",
    "Classes",
    "DifferenceLedger",
    "DifferenceLedgerError",
    "batches_of",
    "least_difference",
    "sample",
]
