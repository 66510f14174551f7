"""What CONFIRM costs in `active`, and what it would cost if a drawn committee confirmed: decision 34.

    python benchmarks/confirm_committee.py [--sigma 40] [--grinding 64] [--eta 20]

Today every client verifies the signatures of a quorum of the cohort.  In the alternative, the session id draws c
members of the cohort as the committee, and q of their signatures confirm the survivors.  For each cohort the script
finds the smallest c for which

- two sets of survivors are never both confirmed: with a colluders in the committee that takes a >= 2 q - c, and
  P[Hypergeometric(n, A, c) >= 2 q - c] < 2^-(sigma + grinding);
- the round is not held up: P[Hypergeometric(n, D, c) > c - q] < 2^-eta.

It searches in floating point, and then gives both probabilities from exact integers, rounded up to a tenth of a bit.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from fractions import Fraction
from math import comb
from pathlib import Path
from typing import NamedTuple

from machine import describe, duration, machine, save, size, table

from secagg import ParameterError, RoundConfig
from secagg.pairwise import tails
from secagg.pairwise.records import SIGNATURE_BYTES
from secagg.simulation.costs import measure

COHORTS = (1_000, 10_000, 100_000, 1_000_000)
RATES = ((0.1, 0.1), (0.2, 0.1), (0.2, 0.2), (0.3, 0.2))


class Committee(NamedTuple):
    """c members, of whom q must confirm."""

    members: int
    quorum: int


def committee(clients: int, colluders: int, dropouts: int, *, safe_log2: float, live_log2: float) -> Committee | None:
    """The smallest committee that keeps both bounds; None when the whole cohort does not."""
    for members in range(3, clients + 1):
        quorum = members - tails.quantile(clients, dropouts, members, live_log2)
        if tails.log2_at_least(clients, colluders, members, max(0, 2 * quorum - members)) < safe_log2:
            return Committee(members, quorum)
    return None


def exact_tail(population: int, marked: int, draws: int, value: int) -> Fraction:
    """P[X >= value] for X ~ Hypergeometric(population, marked, draws)."""
    ways = sum(comb(marked, met) * comb(population - marked, draws - met) for met in range(max(0, value), draws + 1))
    return Fraction(ways, comb(population, draws))


def log2_up(probability: Fraction) -> float:
    """log2, rounded up to a tenth; exact, since the comparison is made in integers."""
    if not probability:
        return float("-inf")
    tenths = 10 * (probability.numerator.bit_length() - probability.denominator.bit_length() + 1)
    while probability**10 <= Fraction(2) ** (tenths - 1):
        tenths -= 1
    return tenths / 10


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sigma", type=float, default=40.0)
    parser.add_argument("--grinding", type=float, default=64.0)
    parser.add_argument("--eta", type=float, default=20.0)
    parser.add_argument("--clients", type=int, nargs="+", default=COHORTS)
    parser.add_argument("--output", type=Path, help="a JSON file to write")
    options = parser.parse_args(arguments)
    here = machine()
    verify_s = measure(RoundConfig.for_cohort(100, 1000, gamma=0.1, delta=0.1, input_max=1)).verify_s
    print(f"{describe(here)}; an Ed25519 signature is verified in {duration(verify_s)}\n")
    rows = []
    for clients in options.clients:
        for gamma, delta in RATES:
            colluders, dropouts = int(gamma * clients), int(delta * clients)
            quorum = (clients + colluders) // 2 + 1
            drawn = committee(
                clients, colluders, dropouts, safe_log2=-(options.sigma + options.grinding), live_log2=-options.eta
            )
            rows.append([f"{clients:,}", f"{gamma:g}", f"{delta:g}", *_now(clients, dropouts, quorum, verify_s)])
            rows[-1] += (
                ["none", "", "", "", ""] if drawn is None else _then(clients, colluders, dropouts, drawn, verify_s)
            )
    head = ["clients", "gamma", "delta", "quorum", "received", "verified in"]
    print(table([*head, "committee", "two sets, log2", "held up, log2", "received", "verified in"], rows))
    if options.output:
        save(options.output, {"machine": here, "verify_s": verify_s, "rows": rows})


def _now(clients: int, dropouts: int, quorum: int, verify_s: float) -> list[str]:
    if quorum > clients - dropouts:
        raise ParameterError(f"a quorum of {quorum:,} when {dropouts:,} of {clients:,} may drop out")
    return [f"{quorum:,}", *_cost(clients, quorum, verify_s)]


def _then(clients: int, colluders: int, dropouts: int, drawn: Committee, verify_s: float) -> list[str]:
    members, quorum = drawn
    two_sets = exact_tail(clients, colluders, members, 2 * quorum - members)
    held_up = exact_tail(clients, dropouts, members, members - quorum + 1)
    tail = [f"{log2_up(two_sets):.1f}", f"{log2_up(held_up):.1f}"]
    return [f"{quorum} of {members}", *tail, *_cost(clients, quorum, verify_s)]


def _cost(clients: int, quorum: int, verify_s: float) -> list[str]:
    """The bytes that a client receives, with the bitmap of the survivors, and its time."""
    return [size(quorum * SIGNATURE_BYTES + (clients + 7) // 8), duration(quorum * verify_s)]


if __name__ == "__main__":
    main()
