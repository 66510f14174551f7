"""Configs at the edges: the last that is sound, and the first that one rule alone refuses."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from reference import rules
from reference.arithmetic import FIELD
from reference.rules import Config

Shape = dict[str, Any]

THREE: Shape = {"clients": 3, "colluders": 0, "dropouts": 0, "neighbours": 2, "threshold": 2, "min_survivors": 3}
FOUR: Shape = {**THREE, "clients": 4}
SIX: Shape = {**THREE, "clients": 6, "sigma": 1, "eta": 1}
NINE: Shape = {"clients": 9, "neighbours": 4, "dropouts": 0, "min_survivors": 5, "sigma": 1, "eta": 1}
TWENTY: Shape = {"clients": 20, "neighbours": 19, "ring_bits": 32}
HUNDRED: Shape = {"clients": 100, "ring_bits": 30}
SPARSE: Shape = {**HUNDRED, "colluders": 20, "dropouts": 5, "neighbours": 26, "threshold": 20, "min_survivors": 22}
MOST: Shape = {**THREE, "clients": 2**20, "neighbours": 2**20 - 1, "ring_bits": 64}


def sound_edges(plain: Config, active: Config) -> dict[str, Config]:
    """Configs that hold a bound exactly."""
    half = {"colluders": 0, "dropouts": 4, "threshold": 5, "quorum": 6, "min_survivors": 6}
    return {
        "sigma at its largest": replace(plain, sigma=256),
        "sigma and eta at their smallest": replace(plain, sigma=1, eta=1),
        "eta at its largest": replace(plain, eta=256),
        "bits for grinding at their most": replace(active, grinding_bits=256),
        "no bits for grinding": replace(active, grinding_bits=0),
        "the longest vector": replace(plain, length=2**36),
        "the shortest vector": replace(plain, length=1),
        "the most clients": replace(plain, **MOST),
        "two neighbours": replace(plain, **FOUR),
        "the smallest prime": replace(plain, **THREE, ring_bits=0, prime=3, input_max=2),
        "the smallest input": replace(plain, **THREE, ring_bits=2, input_max=1),
        "the largest inputs add up to M - 1": replace(plain, **THREE, ring_bits=20, input_max=349525),
        "the largest ring, and any element": replace(plain, ring_bits=64, input_max=2**64 - 1),
        "nine tenths are lost or collude": replace(
            plain, **TWENTY, colluders=1, dropouts=17, threshold=2, min_survivors=3
        ),
        "nine tenths, losses counted twice in active": replace(
            active, **TWENTY, colluders=0, dropouts=9, threshold=10, quorum=11, min_survivors=11
        ),
        "the smallest quorum, which is all that may be left": replace(active, **half),
        "as few survivors as colluders and two honest ones": replace(plain, **SPARSE),
        "as few survivors as t + 1": replace(plain, colluders=0, threshold=6, min_survivors=7),
        "as many survivors as may be left": replace(plain, min_survivors=9),
        "the lowest threshold": replace(plain, threshold=3, min_survivors=4),
        "the highest threshold": replace(plain, threshold=8, min_survivors=9),
        "the lowest threshold in active": replace(active, colluders=1, threshold=6),
        "the highest threshold in active": replace(active, colluders=0, threshold=8, min_survivors=9),
        "a ring that its degree alone keeps together": replace(plain, **{**NINE, "colluders": 3}, threshold=4),
    }


def unsound_edges(plain: Config, active: Config) -> list[tuple[str, str, str, Config]]:
    """Requirement, flag, comment, and a config that the one rule alone refuses."""
    sparse = replace(plain, **SPARSE)
    prime = replace(plain, ring_bits=0, input_max=2)
    losses = {"colluders": 0, "dropouts": 14, "threshold": 15, "quorum": 16, "min_survivors": 16}
    return [
        ("CONFIG-4", "VALUES", "sigma of 257", replace(plain, sigma=257)),
        ("CONFIG-4", "VALUES", "eta of 257", replace(plain, eta=257)),
        ("CONFIG-4", "VALUES", "257 bits for grinding", replace(active, grinding_bits=257)),
        ("CONFIG-4", "VALUES", "a cohort digest of 33 bytes", replace(active, cohort=bytes(33))),
        ("CONFIG-4", "VALUES", "a cohort digest of 31 bytes", replace(active, cohort=bytes(31))),
        (
            "CONFIG-4",
            "VALUES",
            "2^20 + 1 clients",
            replace(plain, **{**MOST, "clients": 2**20 + 1, "neighbours": 2**20}),
        ),
        ("CONFIG-5", "MODULUS", "one as a prime", replace(prime, prime=1, input_max=1)),
        ("CONFIG-5", "MODULUS", "two as a prime, and any element", replace(prime, **THREE, prime=2, input_max=1)),
        ("CONFIG-5", "MODULUS", "a power of two as a prime", replace(prime, prime=2**60)),
        ("CONFIG-5", "MODULUS", "the next prime after 2^61 - 1", replace(prime, prime=_next_prime(FIELD))),
        ("CONFIG-5", "MODULUS", "the square of a prime", replace(prime, prime=1_000_003**2)),
        ("CONFIG-5", "MODULUS", "a product of the bases", replace(prime, prime=37 * 31)),
        ("CONFIG-6", "CAPACITY", "the largest inputs add up to M", replace(plain, **FOUR, input_max=2**18)),
        ("CONFIG-6", "CAPACITY", "an input of M - 2", replace(plain, input_max=2**20 - 2)),
        ("CONFIG-7", "QUORUM", "2Q = n + A", replace(active, quorum=6)),
        ("CONFIG-8", "SURVIVORS", "one honest client on a sparse graph", replace(sparse, min_survivors=21)),
        (
            "CONFIG-8",
            "SURVIVORS",
            "as few as the threshold, and few collude",
            replace(plain, colluders=0, min_survivors=6),
        ),
        ("CONFIG-8", "SURVIVORS", "one more than may be left", replace(plain, dropouts=2, min_survivors=9)),
        (
            "CONFIG-9",
            "LOSSES",
            "losses counted twice in active",
            replace(active, **{**TWENTY, "clients": 30, "neighbours": 29}, **losses),
        ),
        (
            "CONFIG-9",
            "LOSSES",
            "one more than nine tenths",
            replace(
                plain,
                **{**TWENTY, "clients": 21, "neighbours": 20},
                colluders=1,
                dropouts=18,
                threshold=2,
                min_survivors=3,
            ),
        ),
        ("CONFIG-9", "DEGREE", "three of five neighbours", replace(plain, **{**SIX, "neighbours": 3})),
        (
            "CONFIG-4",
            "VALUES",
            "a quorum and as many bits for grinding in semi_honest",
            replace(plain, quorum=7, grinding_bits=7),
        ),
        ("CONFIG-9", "DEGREE", "four neighbours of four clients", replace(plain, **{**FOUR, "neighbours": 4})),
        ("CONFIG-9", "DEGREE", "as many neighbours as clients", replace(plain, **{**THREE, "neighbours": 3})),
        (
            "CONFIG-9",
            "DEGREE",
            "a ring that may be cut",
            replace(sparse, colluders=0, dropouts=30, neighbours=22, threshold=2, min_survivors=70),
        ),
        ("CONFIG-9", "THRESHOLD", "one below the lowest", replace(plain, threshold=2)),
    ]


NUMBERS: list[tuple[str, bool, str, tuple[int, ...]]] = [
    ("losses among n for n - 1 others", False, "semi_honest", (40, 1, 16, 20, 5, 0, 6, 7, 18)),
    ("n - 3 for n - 2 in the privacy bound", True, "active", (34, 16, 2, 22, 19, 26, 26, 2, 9)),
    ("n - k for n - k - 1 in the connectivity bound", True, "semi_honest", (47, 1, 19, 12, 2, 0, 3, 8, 5)),
    ("n - k - 2 for n - k - 1 in it", False, "semi_honest", (20, 2, 7, 8, 3, 0, 4, 6, 1)),
    ("fewer pairs of clients than there are", False, "active", (44, 14, 0, 12, 12, 30, 30, 16, 20)),
    ("more pairs of clients than there are", True, "active", (54, 9, 0, 12, 10, 32, 32, 6, 2)),
    ("a tail of a few chances more", True, "active", (13, 6, 0, 6, 6, 10, 10, 1, 1)),
    (
        "connected by its degree, where as many may go as a client has neighbours",
        False,
        "semi_honest",
        (100, 0, 12, 12, 2, 0, 88, 40, 30),
    ),
]
"""What another bound makes of a config; whether it is sound; n, A, D, k, t, Q, min_survivors, sigma and eta."""


GROUND: list[tuple[str, tuple[int, ...]]] = [
    ("privacy", (80, 20, 0, 22, 21, 51, 51, 40, 30)),
    ("connectivity", (100, 0, 20, 18, 10, 51, 51, 40, 1)),
]
"""Configs of `active` whose bound reaches sigma, and does not reach sigma and 64 bits for grinding."""


def by_numbers(plain: Config, active: Config) -> list[tuple[str, bool, Config]]:
    """Configs on the edge of a formula of 4.2: sound or not, and what a slip in the formula would be."""
    names = ("clients", "colluders", "dropouts", "neighbours", "threshold", "quorum", "min_survivors", "sigma", "eta")

    def made(config: Config, numbers: tuple[int, ...], grinding_bits: int = 0) -> Config:
        given = dict(zip(names, numbers, strict=True))
        return replace(config, ring_bits=32, grinding_bits=grinding_bits, **given)

    models = {"active": active, "semi_honest": plain}
    edges = [
        (f"an edge of 4.2, against {slip}", holds, made(models[model], numbers))
        for slip, holds, model, numbers in NUMBERS
    ]
    for bound, numbers in GROUND:
        edges.append((f"{bound}, without bits for grinding", True, made(active, numbers)))
        edges.append((f"{bound} with sigma alone, and 64 bits for grinding", False, made(active, numbers, 64)))
    return edges


def _next_prime(value: int) -> int:
    return next(number for number in range(value + 1, 2 * value) if rules.is_prime(number))


RARE: dict[tuple[str, int, int, int, int, int], str] = {
    ("semi_honest", 100, 0, 30, 40, 30): "the ring's connectivity asks for 24 neighbours; without it 20 would do",
    ("semi_honest", 500, 0, 50, 40, 30): "18 neighbours, and 14 without connectivity",
    ("semi_honest", 70, 21, 3, 40, 30): "s for s + 1 in the privacy bound gives 24",
    ("semi_honest", 71, 21, 3, 40, 30): "n - 2 for n - 1 in the privacy bound gives another degree",
    ("semi_honest", 114, 5, 11, 40, 30): "eta + 1 for eta gives 18",
    ("active", 170, 34, 0, 104, 30): "s for s + 1 in the privacy bound gives 34",
    ("active", 170, 34, 0, 40, 30): "n - 1 for n - 2 in the privacy bound gives 20, and so does s for s + 1",
    ("active", 57, 11, 2, 10, 5): "n - 1 for n - 2 gives 14",
    ("active", 33, 6, 0, 10, 5): "s for s + 1 gives 6",
    ("active", 42, 1, 4, 10, 5): "eta + 1 for eta gives 10",
    ("active", 160, 0, 16, 104, 30): "eta + 1 for eta gives 32",
    ("active", 10, 9, 0, 40, 30): "everybody but one colludes: there is no threshold",
    ("semi_honest", 10, 8, 1, 40, 30): "nine tenths: the complete graph, and one threshold",
    ("semi_honest", 3, 0, 0, 1, 1): "the smallest cohort",
    ("semi_honest", 4, 0, 0, 1, 1): "the smallest ring",
    ("active", 4, 0, 0, 1, 1): "four of active",
}
"""Threat model, n, A, D, sigma (with the bits for grinding) and eta; and what a choice that is a little wrong makes."""
