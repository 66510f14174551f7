"""What a modulus accepts, and the sizes that follow from it."""

from __future__ import annotations

import dataclasses
import pickle

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from secagg.arithmetic import MERSENNE_61, Modulus
from secagg.errors import ParameterError

PRIMES = (3, 5, 7, 127, 251, 257, 32771, 65521, 65537, 2**31 - 1, 4294967291, 4294967311, MERSENNE_61)
# Carmichael numbers, strong pseudoprimes to the bases 2, to 2, 3, 5 and 7, and to the first nine primes, squares, 1.
COMPOSITES = (1, 9, 15, 561, 41041, 2047, 3215031751, 3825123056546413051, 65537**2, 2**31 + 1, MERSENNE_61 - 2)


@pytest.mark.parametrize("bits", range(1, 65))
def test_a_ring_has_its_bits_and_the_smallest_lane_that_holds_them(bits: int) -> None:
    modulus = Modulus.ring(bits)
    assert modulus == Modulus(2**bits)
    assert modulus.is_ring
    assert modulus.bits == bits
    assert modulus.lane_bits == (8 if bits <= 8 else 16 if bits <= 16 else 32 if bits <= 32 else 64)
    assert modulus.dtype == np.dtype(f"uint{modulus.lane_bits}")
    assert str(modulus) == f"2^{bits}"


@pytest.mark.parametrize("prime", PRIMES)
def test_an_odd_prime_has_the_bits_of_its_largest_element(prime: int) -> None:
    modulus = Modulus(prime)
    assert not modulus.is_ring
    assert 2 ** (modulus.bits - 1) <= prime - 1 < 2**modulus.bits
    assert modulus.bits <= modulus.lane_bits < 2 * max(modulus.bits, 8)
    assert str(modulus) == str(prime)


def test_two_is_the_ring_of_one_bit() -> None:
    assert Modulus(2).is_ring
    assert Modulus(2).bits == 1


@pytest.mark.parametrize("value", [*COMPOSITES, 0, -1, -(2**8), -7, 2**65, 2**89 - 1, 2305843009213693967])
def test_what_is_neither_a_ring_nor_a_prime_in_range_is_refused(value: int) -> None:
    with pytest.raises(ParameterError, match="modulus"):
        Modulus(value)


@pytest.mark.parametrize("value", [True, 2.0, "65537", None, np.uint64(3)])
def test_a_modulus_is_an_int(value: object) -> None:
    with pytest.raises(ParameterError, match="int"):
        Modulus(value)  # type: ignore[arg-type]


@pytest.mark.parametrize("bits", [0, 65, -1, True, 8.0])
def test_a_ring_has_from_1_to_64_bits(bits: object) -> None:
    with pytest.raises(ParameterError, match="1 to 64"):
        Modulus.ring(bits)  # type: ignore[arg-type]


@given(st.integers(2, 30000))
def test_small_numbers_are_prime_when_nothing_divides_them(value: int) -> None:
    is_prime = all(value % divisor for divisor in range(2, int(value**0.5) + 1))
    is_power = value & (value - 1) == 0
    try:
        Modulus(value)
    except ParameterError:
        assert not is_prime
        assert not is_power
    else:
        assert is_prime or is_power


@given(st.integers(1, 64), st.integers(0, 10**12))
def test_packed_bytes_is_the_bits_rounded_up(bits: int, length: int) -> None:
    assert Modulus.ring(bits).packed_bytes(length) == -(-length * bits // 8)


def test_a_modulus_is_a_value() -> None:
    modulus = Modulus(65537)
    assert pickle.loads(pickle.dumps(modulus)) == modulus
    assert len({modulus, Modulus(65537), Modulus(257)}) == 2
    with pytest.raises(dataclasses.FrozenInstanceError):
        modulus.value = 3  # type: ignore[misc]
