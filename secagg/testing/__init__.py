"""Tools to test with, for this library and for the systems that embed it.

``simulate`` needs nothing beyond the core; ``secagg.testing.strategies`` needs the extra ``testing``.
"""

from secagg.testing.faults import FATES, PHASES, Faults, Nuisance, Trouble, expected_sum
from secagg.testing.simulator import Outcome, PhaseCost, SeededRandomness, make_cohort, simulate

__all__ = [
    "FATES",
    "PHASES",
    "Faults",
    "Nuisance",
    "Outcome",
    "PhaseCost",
    "SeededRandomness",
    "Trouble",
    "expected_sum",
    "make_cohort",
    "simulate",
]
