"""Tools to test with, for this library and for the systems that embed it.

``secagg.testing.stateful`` runs a round over your transport, ``secagg.testing.strategies`` draws whole rounds,
``secagg.testing.adversary`` attacks them, and ``secagg.testing.vectors`` replays recorded ones.  The first two need
Hypothesis, which the extra ``testing`` installs.

Rounds in memory are in ``secagg.simulation``.  The names below are those that this package had of them: they stay here
for one release.
"""

from secagg.simulation import (
    FATES,
    PHASES,
    Faults,
    Nuisance,
    Outcome,
    PhaseCost,
    SeededRandomness,
    Trouble,
    expected_sum,
    make_cohort,
    simulate,
)

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
