"""The transform against Python integers: every value by its definition, and products by long multiplication."""

from __future__ import annotations

from itertools import islice

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from secagg.arithmetic.kernels import ntt
from secagg.arithmetic.modulus import Modulus
from secagg.errors import ParameterError

DEGREES = (4096, 8192, 16384)
SMALLEST_PRIMES = {512: 12289, 4096: 40961, 8192: 65537, 16384: 65537}


def is_prime(number: int) -> bool:
    try:
        return Modulus(number).value == number
    except ParameterError:
        return False


def primes_below(limit: int, degree: int) -> list[int]:
    """The two largest primes that there is a transform for."""
    first = (limit - 2) // (2 * degree) * 2 * degree + 1
    return list(islice(filter(is_prime, range(first, 0, -2 * degree)), 2))


CASES = [
    (degree, prime)
    for degree in (512, *DEGREES)
    for prime in (*primes_below(2**30, degree), *primes_below(2**29, degree), SMALLEST_PRIMES[degree])
]
OF_EVERY_CASE = pytest.mark.parametrize(("degree", "prime"), CASES)


def odd_power(slot: int, degree: int) -> int:
    """Which power of psi a slot's value is taken at."""
    bits = degree.bit_length() - 1
    return 2 * int(f"{slot:0{bits}b}"[::-1], 2) + 1


def value_at(coefficients: list[int], point: int, prime: int) -> int:
    total = 0
    for coefficient in reversed(coefficients):
        total = (total * point + coefficient) % prime
    return total


def product(one: list[int], other: list[int], prime: int) -> list[int]:
    """Modulo X^N + 1: as two long integers in base 2^80, which no coefficient of the product reaches."""
    degree, digit = len(one), 10
    first, second = (
        int.from_bytes(b"".join(c.to_bytes(digit, "little") for c in factor), "little") for factor in (one, other)
    )
    data = (first * second).to_bytes(2 * degree * digit, "little")
    terms = [int.from_bytes(data[i : i + digit], "little") for i in range(0, len(data), digit)]
    return [(low - high) % prime for low, high in zip(terms[:degree], terms[degree:], strict=True)]


def schoolbook(one: list[int], other: list[int], prime: int) -> list[int]:
    degree = len(one)
    terms = [0] * (2 * degree)
    for i, a in enumerate(one):
        for j, b in enumerate(other):
            terms[i + j] += a * b
    return [(low - high) % prime for low, high in zip(terms[:degree], terms[degree:], strict=True)]


def transformed(coefficients: list[int], degree: int, prime: int) -> list[int]:
    values = np.array([coefficients], dtype=np.uint32)
    ntt.forward(values, ntt.transform(degree, prime))
    found: list[int] = values[0].tolist()
    return found


def product_by_transforms(one: list[int], other: list[int], prime: int) -> list[int]:
    degree = len(one)
    transform = ntt.transform(degree, prime)
    both = (transformed(factor, degree, prime) for factor in (one, other))
    slots = [a * b % prime for a, b in zip(*both, strict=True)]
    values = np.array([slots], dtype=np.uint32)
    ntt.inverse(values, transform)
    assert values.max() < 2 * prime
    return [value * transform.inverse_degree % prime for value in values[0].tolist()]


def drawn(seed: int, degree: int, prime: int) -> list[int]:
    found: list[int] = np.random.default_rng(seed).integers(0, prime, degree).tolist()
    return found


@OF_EVERY_CASE
def test_a_slot_holds_the_value_at_its_odd_power_of_psi(degree: int, prime: int) -> None:
    psi = ntt.root_of_unity(degree, prime)
    assert pow(psi, degree, prime) == prime - 1
    coefficients = drawn(degree, degree, prime)
    slots = transformed(coefficients, degree, prime)
    for slot in (0, 1, 7, 8, 63, 64, 511, degree // 2, degree - 1):
        point = pow(psi, odd_power(slot, degree), prime)
        assert slots[slot] == value_at(coefficients, point, prime), slot


@OF_EVERY_CASE
@pytest.mark.parametrize("place", ["first", "last"])
def test_one_coefficient_is_a_power_in_every_slot(degree: int, prime: int, place: str) -> None:
    j = 1 if place == "first" else degree - 1
    coefficients = [0] * degree
    coefficients[j] = prime - 1
    psi = ntt.root_of_unity(degree, prime)
    powers = [1]
    for _ in range(2 * degree - 1):
        powers.append(powers[-1] * psi % prime)
    expected = [-powers[odd_power(slot, degree) * j % (2 * degree)] % prime for slot in range(degree)]
    assert transformed(coefficients, degree, prime) == expected


@OF_EVERY_CASE
def test_the_inverse_undoes_it_at_the_edges_of_its_lanes(degree: int, prime: int) -> None:
    """The forward transform takes lanes up to 4p - 1, the inverse up to 2p - 1."""
    transform = ntt.transform(degree, prime)
    random = np.random.default_rng(1).integers(0, 4 * prime, degree)
    rows = np.array([[0] * degree, [prime - 1] * degree, [4 * prime - 1] * degree, random], dtype=np.uint32)
    values = rows.copy()
    ntt.forward(values, transform)
    assert values.max() < prime
    for lift in (0, prime):
        back = values + np.uint32(lift)
        ntt.inverse(back, transform)
        assert back.max() < 2 * prime
        assert np.array_equal(back.astype(object) * transform.inverse_degree % prime, rows % prime)


@OF_EVERY_CASE
def test_products_are_those_of_long_multiplication(degree: int, prime: int) -> None:
    largest = [prime - 1] * degree
    random = drawn(2, degree, prime)
    others = largest, drawn(3, degree, prime), [0] * degree
    for one, other in ((largest, largest), *((random, other) for other in others)):
        assert product_by_transforms(one, other, prime) == product(one, other, prime)


def test_a_product_is_the_schoolbooks() -> None:
    prime = CASES[0][1]
    one, other = drawn(4, 512, prime), drawn(5, 512, prime)
    assert product_by_transforms(one, other, prime) == schoolbook(one, other, prime) == product(one, other, prime)


@settings(max_examples=settings().max_examples // 2)
@given(
    case=st.sampled_from(CASES[:5]),
    seed=st.integers(0, 2**32),
    spikes=st.dictionaries(st.integers(0, 511), st.sampled_from(["zero", "one", "largest"]), max_size=64),
)
def test_products_of_any_polynomials(case: tuple[int, int], seed: int, spikes: dict[int, str]) -> None:
    degree, prime = case
    one, other = drawn(seed, degree, prime), [0] * degree
    for place, kind in spikes.items():
        other[place] = {"zero": 0, "one": 1, "largest": prime - 1}[kind]
        one[degree - 1 - place] = prime - 1
    assert product_by_transforms(one, other, prime) == product(one, other, prime)


@pytest.mark.parametrize(
    ("degree", "prime", "what"),
    [
        (256, 12289, "degree 256"),
        (4096 * 3, 40961, "degree 12288"),
        (4096, 12289, "1 modulo 8192"),
        (4096, 2**30 + 2**13 + 1, "below 2\\^30"),
    ],
)
def test_what_there_is_no_transform_for_is_refused(degree: int, prime: int, what: str) -> None:
    with pytest.raises(ValueError, match=what):
        ntt.transform(degree, prime)
