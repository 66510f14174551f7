"""Why the threshold and the quorum are what they are, for cohorts of every size.

The model checker looks at a handful of clients.  What carries over to every size is arithmetic, and z3 proves it here:
each ``Lemma`` says that under its rule something bad cannot be, and that it can as soon as the rule is missed by one.
How the neighbours lie on a ring is no arithmetic; ``part_exceptions`` and ``ring_exceptions`` try every small ring
instead.  The README puts the pieces together.

    python3 counting_lemma.py          (needs z3-solver)

Symbols: n clients of which A collude, k neighbours each, t shares reconstruct, Q confirmations are asked for, and at
most t1 colluders are among the k places that matter: one client's neighbours, or (on a ring) the k/2 places left of one
client and the k/2 right of another.
"""

from __future__ import annotations

import itertools
import sys
from collections.abc import Iterator
from dataclasses import dataclass

import z3

n, colluders, q, k, t, t1 = z3.Ints("n A Q k t t1")
r = z3.Int("r")  # k / 2: how far a ring's neighbours reach
c, s, m, d = z3.Ints("c s m d")
c_left, c_right, in_left, in_right = z3.Ints("c_left c_right in_left in_right")
first, second, both, neither, a = z3.Ints("first second both neither a")


@dataclass(frozen=True)
class Lemma:
    """Under ``rule`` and ``facts`` the ``bad`` thing is impossible; on the ``edge`` of the rule ``witness`` is it."""

    name: str
    statement: str
    rule: z3.BoolRef
    facts: z3.BoolRef
    bad: z3.BoolRef
    edge: z3.BoolRef
    witness: dict[z3.ArithRef, z3.ArithRef]

    def proved(self) -> bool:
        """Whether nothing of any size breaks it."""
        return _valid(z3.Implies(z3.And(self.rule, self.facts), z3.Not(self.bad)))

    def tight(self) -> bool:
        """Whether at every size on the edge the witness fits the facts and is bad."""
        there = z3.substitute(z3.And(self.facts, self.bad), *self.witness.items())
        return _valid(z3.Implies(self.edge, there))


def _valid(claim: z3.BoolRef) -> bool:
    solver = z3.Solver()
    solver.add(z3.Not(claim))
    return solver.check() == z3.unsat


LEMMAS = (
    Lemma(
        "both kinds",
        "2t > k + t1: an honest neighbour answers for a victim with one kind of share, a colluding one has both, and "
        "that is too few for t of each",
        rule=2 * t > k + t1,
        # s neighbours answered with the seed's share, m others with the key's, c collude.
        facts=z3.And(s >= 0, m >= 0, c >= 0, c <= t1, s + m + c <= k),
        bad=z3.And(s + c >= t, m + c >= t),
        edge=z3.And(t1 >= 0, t1 <= k, 2 * t == k + t1),
        witness={c: t1, s: t - t1, m: t - t1},
    ),
    Lemma(
        "both kinds, own share kept",
        "a client that held a share of its own secrets would need 2t > k + t1 + 1",
        rule=2 * t > k + t1 + 1,
        facts=z3.And(s >= 0, m >= 0, c >= 0, c <= t1, s + m + c <= k + 1),
        bad=z3.And(s + c >= t, m + c >= t),
        edge=z3.And(t1 >= 0, t1 <= k, 2 * t == k + t1 + 1),
        witness={c: t1, s: t - t1, m: t - t1},
    ),
    Lemma(
        "masked against nobody who answers",
        "2t > k + t1: whoever masks against t neighbours, none of them an honest one that answers, has fewer than t "
        "neighbours left to open its seed",
        rule=2 * t > k + t1,
        # It masks against d neighbours; s others are honest and answer for it; c of all collude.
        facts=z3.And(s >= 0, c >= 0, c <= t1, d >= t, d + s <= k),
        bad=s + c >= t,
        edge=z3.And(t1 >= 0, t1 <= k, 2 * t == k + t1),
        witness={c: t1, s: t - t1, d: t},
    ),
    Lemma(
        "ends of an arc",
        "2t > k + t1 on a ring: of the two ends of an arc, each without anybody who answers in the k/2 places outward, "
        "one has fewer than t shares",
        rule=2 * t > 2 * r + t1,
        # in_*: who answers or colludes among the k/2 places inward of an end; c_*: the colluders outward.
        facts=z3.And(
            *(z3.And(inward >= 0, inward <= r) for inward in (in_left, in_right)),
            *(z3.And(outward >= 0, outward <= r) for outward in (c_left, c_right)),
            c_left + c_right <= t1,
        ),
        bad=z3.And(in_left + c_left >= t, in_right + c_right >= t),
        edge=z3.And(t1 >= 0, t1 <= 2 * r, t1 % 2 == 0, 2 * t == 2 * r + t1),
        witness={in_left: r, in_right: r, c_left: t1 / 2, c_right: t1 / 2},
    ),
    Lemma(
        "quorum",
        "2Q > n + A: two sets of Q signers share an honest one, who signs once",
        rule=2 * q > n + colluders,
        # Honest clients by which of the two sets they signed; the a colluders signed both.
        facts=z3.And(
            *(part >= 0 for part in (first, second, both, neither)),
            a >= 0,
            a <= colluders,
            first + second + both + neither + a == n,
        ),
        bad=z3.And(first + both + a >= q, second + both + a >= q, both == 0),
        edge=z3.And(colluders >= 0, colluders <= n, 2 * q == n + colluders),
        witness={
            a: colluders,
            both: z3.IntVal(0),
            neither: z3.IntVal(0),
            first: q - colluders,
            second: q - colluders,
        },
    ),
)


def quorum_is_least() -> bool:
    """Whether the config's Q = floor((n + A) / 2) + 1 is the least that the quorum lemma allows, at every size."""
    chosen = (n + colluders) / 2 + 1  # z3 divides integers as the config does
    least = z3.And(2 * chosen > n + colluders, 2 * (chosen - 1) <= n + colluders)
    return _valid(z3.Implies(z3.And(colluders >= 0, colluders <= n), least))


# The ring, by exhaustion.  Sets of places are bit masks.


def _members(places: int) -> list[int]:
    return [place for place in range(places.bit_length()) if places >> place & 1]


class _Ring:
    """Of each place of a ring: the window left of it, the one right of it, and both together, its neighbours."""

    def __init__(self, clients: int, reach: int) -> None:
        self.all = (1 << clients) - 1
        steps = range(1, reach + 1)
        self.left = [sum(1 << (place - step) % clients for step in steps) for place in range(clients)]
        self.right = [sum(1 << (place + step) % clients for step in steps) for place in range(clients)]
        self.near = [before | after for before, after in zip(self.left, self.right, strict=True)]

    def reached(self, places: int) -> int:
        """The places and their neighbours."""
        for place in _members(places):
            places |= self.near[place]
        return places

    def parts(self, answering: int) -> Iterator[int]:
        """The connected parts of a set."""
        while answering:
            part, grown = 0, answering & -answering
            while grown != part:
                part, grown = grown, self.reached(grown) & answering
            yield part
            answering &= ~part

    def spread(self, part: int, answering: int) -> bool:
        """Whether a part is all of the set, and everybody else is somebody's neighbour in it."""
        return part == answering and self.reached(part) == self.all

    def windows_apart(self, lefts: list[int], rights: list[int]) -> list[int]:
        """What a window left of one and one right of another cover, where they do not overlap."""
        pairs = itertools.product((self.left[i] for i in lefts), (self.right[j] for j in rights))
        return [before | after for before, after in pairs if not before & after]


def part_exceptions(clients: int, reach: int) -> Iterator[tuple[int, int]]:
    """Parts of sets that are not spread over the ring, yet lack two disjoint outward windows with nobody of the set."""
    ring = _Ring(clients, reach)
    for answering in range(1, ring.all + 1):
        for part in ring.parts(answering):
            if ring.spread(part, answering):
                continue
            members = _members(part)
            if not any(not windows & answering for windows in ring.windows_apart(members, members)):
                yield part, answering


def ring_exceptions(clients: int, reach: int, short: int = 0) -> Iterator[tuple[int, int, int]]:
    """(part, answering, colluding) where a part opens without being spread over the ring.

    It opens when each of its members has t shares of its seed among the neighbours that answer or collude.  t is the
    least with 2t > k + t1, less ``short``; t1 is the most colluders in two disjoint windows, one left of an honest
    client and one right of an honest client.
    """
    ring = _Ring(clients, reach)
    for colluding in range(ring.all + 1):
        honest = ring.all & ~colluding
        members = _members(honest)
        most = max(((windows & colluding).bit_count() for windows in ring.windows_apart(members, members)), default=0)
        threshold = (2 * reach + most) // 2 + 1 - short
        answering = honest
        while answering:
            enough = [(near & (answering | colluding)).bit_count() >= threshold for near in ring.near]
            for part in ring.parts(answering):
                if all(enough[place] for place in _members(part)) and not ring.spread(part, answering):
                    yield part, answering, colluding
            answering = (answering - 1) & honest


def sizes(most: int) -> list[tuple[int, int]]:
    """Every (clients, reach) of a ring up to that many clients, the complete graph of an odd number included."""
    return [(clients, reach) for clients in range(3, most + 1) for reach in range(1, (clients + 1) // 2)]


def main() -> int:
    """Prove all of it, and say so; the exit code is 1 when something is not so."""
    results = {f"{lemma.name}: {lemma.statement}": lemma.proved() and lemma.tight() for lemma in LEMMAS}
    results["the config's quorum is the least such Q"] = quorum_is_least()
    results["a part of a ring has two empty windows, or is spread all over it: up to 12 clients"] = not any(
        next(part_exceptions(*size), None) for size in sizes(12)
    )
    results["the ring argument as a whole: up to 9 clients"] = not any(
        next(ring_exceptions(*size), None) for size in sizes(9)
    )
    for name, holds in results.items():
        sys.stdout.write(f"{'proved' if holds else 'NOT SO'}  {name}\n")
    return 0 if all(results.values()) else 1


if __name__ == "__main__":
    sys.exit(main())
