"""Whole rounds in one process: real clients, a real server, real bytes between them, and whatever goes wrong.

``simulate`` runs a round under a schedule of faults, ``simulate_prepared`` a large one of which a few clients run in
full, and ``expected_sum`` says from the schedule alone what a round must come to.  ``RoundDriver`` is the loop that
both are built on, for rounds of your own.

Two modules tell what a round costs without running it: ``secagg.simulation.costs`` counts the primitives that a round
needs and times them here, and ``secagg.simulation.traffic`` gives the bytes that a client sends and gets.
"""

from secagg.simulation.carriers import cheaper_carrier
from secagg.simulation.cohort import SeededRandomness, make_cohort
from secagg.simulation.driver import RoundDriver
from secagg.simulation.faults import FATES, PHASES, Faults, Nuisance, Trouble, expected_sum, phases_of
from secagg.simulation.prepared import choose_full, simulate_prepared
from secagg.simulation.rounds import Outcome, PhaseCost, simulate

__all__ = [
    "FATES",
    "PHASES",
    "Faults",
    "Nuisance",
    "Outcome",
    "PhaseCost",
    "RoundDriver",
    "SeededRandomness",
    "Trouble",
    "cheaper_carrier",
    "choose_full",
    "expected_sum",
    "make_cohort",
    "phases_of",
    "simulate",
    "simulate_prepared",
]
