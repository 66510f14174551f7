"""Secret sharing: the kernels against Python integers, what t - 1 shares tell, reconstruction in bulk, the wire."""

from __future__ import annotations

import itertools
import os
import random
import subprocess
import sys
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from secagg.errors import ParameterError
from secagg.primitives.secret_sharing import (
    LIMB_BITS,
    Reconstructor,
    ShareError,
    bad_shares,
    decode_shares,
    encode_shares,
    join_limbs,
    lagrange_at_zero,
    limbs_out_of_range,
    points,
    reconstruct,
    share,
    split_secret,
)

P = 2**61 - 1
EDGES = (0, 1, 2, 7, 8, 2**32, 2**52 - 1, 2**52, 2**60 - 1, 2**60, P - 2, P - 1)

elements = st.sampled_from(EDGES) | st.integers(0, P - 1)
secrets_32 = st.sampled_from([bytes(32), b"\xff" * 32, b"\x01" + bytes(31), bytes(31) + b"\x80"]) | st.binary(
    min_size=32, max_size=32
)
Uint = npt.NDArray[np.uint64]


def array(values: Sequence[object]) -> Uint:
    return np.array(values, dtype=np.uint64)


def drawn(seed: int, *shape: int) -> Uint:
    """Canonical elements; a fixed seed, so that a failure can be repeated."""
    return np.random.default_rng(seed).integers(0, P, size=shape, dtype=np.uint64)


# -- A twin in Python integers -----------------------------------------------------------------------------------------


def limbs_of(secret: bytes) -> list[int]:
    number, limbs = int.from_bytes(secret, "little"), []
    for bits in LIMB_BITS:
        limbs.append(number % 2**bits)
        number //= 2**bits
    return limbs


def polynomial_at(coefficients: Sequence[int], x: int, prime: int = P) -> int:
    return sum(coefficient * pow(x, power, prime) for power, coefficient in enumerate(coefficients)) % prime


def weights_at_zero(xs: Sequence[int], prime: int = P) -> list[int]:
    weights = []
    for x in xs:
        weight = 1
        for other in xs:
            if other != x:
                weight = weight * other * pow(other - x, -1, prime) % prime
        weights.append(weight)
    return weights


def interpolated(known: Sequence[tuple[int, int]], prime: int = P) -> list[int]:
    """The coefficients, constant term first, of the polynomial of degree below len(known) through these points."""
    total = [0] * len(known)
    for x, y in known:
        basis, scale = [1], y
        for other, _ in known:
            if other != x:
                basis = [(low - other * high) % prime for low, high in zip([0, *basis], [*basis, 0], strict=True)]
                scale = scale * pow(x - other, -1, prime) % prime
        total = [(left + scale * right) % prime for left, right in zip(total, basis, strict=True)]
    return total


# -- Against the twin --------------------------------------------------------------------------------------------------


@settings(max_examples=80, deadline=None)
@given(
    secret=secrets_32,
    holders=st.lists(st.sampled_from([0, 1, 2, 3, 2**20, 2**31 - 2, 2**31 - 1]) | st.integers(0, 1000), unique=True),
    data=st.data(),
)
def test_shares_are_the_polynomials_values(secret: bytes, holders: list[int], data: st.DataObject) -> None:
    holders = holders or [0]
    threshold = data.draw(st.integers(1, len(holders)))
    rows = data.draw(
        st.lists(st.lists(elements, min_size=threshold - 1, max_size=threshold - 1), min_size=5, max_size=5)
    )
    shares = share(secret, holders, threshold, array(rows).reshape(5, threshold - 1))
    expected = [
        [polynomial_at([limb, *row], holder + 1) for limb, row in zip(limbs_of(secret), rows, strict=True)]
        for holder in holders
    ]
    assert shares.tolist() == expected
    assert shares.dtype == np.uint64


@pytest.mark.parametrize("threshold", [1, 2, 3, 64, 65])
def test_the_largest_coefficients_and_points_do_not_overflow(threshold: int) -> None:
    holders = [0, 1, 2, 3, 4, *range(2**31 - 70, 2**31)]
    shares = share(b"\xff" * 32, holders, threshold, np.full((5, threshold - 1), P - 1, dtype=np.uint64))
    for holder, row in zip(holders, shares.tolist(), strict=True):
        assert row == [polynomial_at([2**bits - 1] + [P - 1] * (threshold - 1), holder + 1) for bits in LIMB_BITS]


@pytest.mark.parametrize("holder", range(7))
def test_a_share_of_zero_is_zero_and_not_p(holder: int) -> None:
    """Line a = s + c x through zero at this holder: its value is a multiple of p before it is reduced."""
    secret = bytes(range(1, 33))
    slopes = [[-limb * pow(holder + 1, -1, P) % P] for limb in limbs_of(secret)]
    assert share(secret, range(7), 2, array(slopes))[holder].tolist() == [0] * 5


def test_several_secrets_are_shared_in_one_pass() -> None:
    several, coefficients = [bytes(range(32)), b"\xaa" * 32, bytes(32)], drawn(1, 3, 5, 6)
    together = share(several, range(10), 7, coefficients)
    assert together.shape == (3, 10, 5)
    for index, secret in enumerate(several):
        assert (together[index] == share(secret, range(10), 7, coefficients[index])).all()
    assert share([], range(10), 7, drawn(1, 0, 5, 6)).shape == (0, 10, 5)


@settings(max_examples=80, deadline=None)
@given(st.lists(st.sampled_from(EDGES[1:]) | st.integers(1, 60) | st.integers(1, P - 1), unique=True, min_size=1))
def test_weights_are_lagranges(xs: list[int]) -> None:
    assert lagrange_at_zero(array(xs)).tolist() == weights_at_zero(xs)


@settings(max_examples=80, deadline=None)
@given(st.lists(st.tuples(elements, st.tuples(*[elements] * 5)), min_size=1, max_size=30))
def test_reconstruction_is_the_weighted_sum(rows: list[tuple[int, tuple[int, ...]]]) -> None:
    weights, shares = [weight for weight, _ in rows], [values for _, values in rows]
    expected = [sum(weight * values[limb] for weight, values in rows) % P for limb in range(5)]
    assert reconstruct(array(weights), array(shares)).tolist() == expected


def test_reconstruction_of_the_largest_values_does_not_overflow() -> None:
    count = 3000
    limbs = reconstruct(np.full(count, P - 1, dtype=np.uint64), np.full((count, 5), P - 1, dtype=np.uint64))
    assert limbs.tolist() == [count % P] * 5  # (-1)(-1) each


@settings(max_examples=60, deadline=None)
@given(secret=secrets_32, seed=st.integers(0, 2**32), data=st.data())
def test_any_t_shares_reconstruct(secret: bytes, seed: int, data: st.DataObject) -> None:
    holders = data.draw(st.lists(st.integers(0, 2**31 - 1), unique=True, min_size=1, max_size=40))
    threshold = data.draw(st.integers(1, len(holders)))
    shares = share(secret, holders, threshold, drawn(seed, 5, threshold - 1))
    chosen = data.draw(st.permutations(range(len(holders))))[:threshold]
    weights = lagrange_at_zero(points([holders[index] for index in chosen]))
    assert join_limbs(reconstruct(weights, shares[chosen])) == secret


def test_667_of_1000() -> None:
    secret = bytes(range(100, 132))
    shares = share(secret, np.arange(1000), 667, drawn(5, 5, 666))
    chosen = np.sort(np.random.default_rng(6).permutation(1000)[:667])
    assert join_limbs(reconstruct(lagrange_at_zero(points(chosen)), shares[chosen])) == secret
    fewer = chosen[:-1]
    assert split_secret(secret).tolist() != reconstruct(lagrange_at_zero(points(fewer)), shares[fewer]).tolist()


# -- What t - 1 shares tell --------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("prime", "threshold"), [(5, 2), (5, 3), (5, 4), (7, 3), (11, 2)])
def test_in_a_small_field_fewer_shares_leave_every_secret_equally_likely(prime: int, threshold: int) -> None:
    """Over all polynomials: every view of t - 1 holders is seen equally often with every secret, one of t with one."""
    holders = range(1, min(prime, threshold + 2))
    tables = {
        secret: [
            [polynomial_at([secret, *rest], x, prime) for x in holders]
            for rest in itertools.product(range(prime), repeat=threshold - 1)
        ]
        for secret in range(prime)
    }
    for seen in itertools.combinations(range(len(holders)), threshold - 1):
        views = [Counter(tuple(row[i] for i in seen) for row in tables[secret]) for secret in range(prime)]
        assert all(view == views[0] for view in views)
        assert len(views[0]) == prime ** (threshold - 1)
        assert set(views[0].values()) == {1}
    for seen in itertools.combinations(range(len(holders)), threshold):
        weights = weights_at_zero([holders[i] for i in seen], prime)
        for secret, rows in tables.items():
            assert all(sum(w * row[i] for w, i in zip(weights, seen, strict=True)) % prime == secret for row in rows)


@settings(max_examples=40, deadline=None)
@given(secret=secrets_32, candidate=secrets_32, seed=st.integers(0, 2**32), data=st.data())
def test_in_the_large_field_fewer_shares_fit_every_secret(
    secret: bytes, candidate: bytes, seed: int, data: st.DataObject
) -> None:
    """For any t - 1 shares and any other secret there is exactly one choice of coefficients that gives those shares.

    So over uniform coefficients every secret is equally likely.  The choice is found by interpolation, and given back
    to the library.
    """
    holders = data.draw(st.lists(st.integers(0, 5000), unique=True, min_size=1, max_size=12))
    threshold = len(holders) + 1
    everyone = [*holders, 2**20]
    shares = share(secret, everyone, threshold, drawn(seed, 5, threshold - 1))
    coefficients = []
    for limb, value in enumerate(limbs_of(candidate)):
        known = [(0, value)]
        known += [(holder + 1, int(shares[row, limb])) for row, holder in enumerate(holders)]
        polynomial = interpolated(known)
        assert polynomial[0] == value
        coefficients.append(polynomial[1:])
    again = share(candidate, everyone, threshold, array(coefficients))
    assert (again[:-1] == shares[:-1]).all()
    assert (secret == candidate) == (again[-1] == shares[-1]).all()


# -- Limbs -------------------------------------------------------------------------------------------------------------


@given(secrets_32)
def test_limbs_are_little_endian_and_join_again(secret: bytes) -> None:
    limbs = split_secret(secret)
    assert limbs.tolist() == limbs_of(secret)
    assert join_limbs(limbs) == secret
    assert not limbs_out_of_range(limbs[np.newaxis]).any()


@pytest.mark.parametrize("limb", range(5))
def test_limbs_out_of_range_blame_the_dealer(limb: int) -> None:
    limbs = array([2**bits - 1 for bits in LIMB_BITS])
    assert join_limbs(limbs) == b"\xff" * 32
    for beyond in (1 << LIMB_BITS[limb], P - 1):
        wrong = limbs.copy()
        wrong[limb] = beyond
        with pytest.raises(ShareError, match=f"limb {limb} has more than {LIMB_BITS[limb]} bits"):
            join_limbs(wrong)
        assert limbs_out_of_range(np.stack([limbs, wrong])).tolist() == [False, True]


# -- On the wire -------------------------------------------------------------------------------------------------------


def test_a_share_is_five_little_endian_words() -> None:
    encoded = encode_shares(array([1, 256, 0, P - 1, 2**60]))
    assert encoded.hex() == "010000000000000000010000000000000000000000000000feffffffffffff1f0000000000000010"
    assert decode_shares(encoded).tolist() == [[1, 256, 0, P - 1, 2**60]]


@given(st.lists(st.tuples(*[elements] * 5), max_size=8))
def test_shares_survive_the_wire(rows: list[tuple[int, ...]]) -> None:
    shares = array(rows).reshape(-1, 5)
    encoded = encode_shares(shares)
    assert len(encoded) == 40 * len(rows)
    decoded = decode_shares(memoryview(encoded))
    assert (decoded == shares).all()
    assert decoded.dtype == np.uint64
    assert not bad_shares(encoded).any()


@pytest.mark.parametrize("value", [P, P + 1, 2**61, 2**63, 2**64 - 1])
@pytest.mark.parametrize("element", range(5))
def test_an_element_that_is_not_below_p_is_malformed(value: int, element: int) -> None:
    shares = np.full((3, 5), P - 1, dtype=np.uint64)
    shares[1, element] = value
    encoded = encode_shares(shares)
    assert bad_shares(encoded).tolist() == [False, True, False]
    with pytest.raises(ShareError, match=f"element {element} of share 1 is not below") as refused:
        decode_shares(encoded)
    assert str(value) not in str(refused.value)


@pytest.mark.parametrize("length", [1, 39, 41, 79])
def test_shares_of_another_length_are_malformed(length: int) -> None:
    for decode in (decode_shares, bad_shares):
        with pytest.raises(ShareError, match=f"^{length} bytes? of shares"):
            decode(bytes(length))


# -- Many secrets at once ----------------------------------------------------------------------------------------------


def dealt(available: Sequence[Sequence[int]], threshold: int, seed: int) -> tuple[list[bytes], list[Uint]]:
    """A secret for every list of holders, and their shares."""
    source = random.Random(seed)
    secrets = [source.randbytes(32) for _ in available]
    shares = [
        share(secret, holders, threshold, drawn(seed + index, 5, threshold - 1))
        for index, (secret, holders) in enumerate(zip(secrets, available, strict=True))
    ]
    return secrets, shares


def reconstructed(threshold: int, available: Sequence[Sequence[int]], shares: Sequence[Uint]) -> list[bytes | None]:
    """Through one table of all shares, as the server has it: in another order than the secrets'."""
    order = np.random.default_rng(7).permutation(sum(map(len, shares)))
    table = np.empty((len(order), 5), dtype=np.uint64)
    table[order] = np.concatenate(shares)
    reconstructor, first = Reconstructor(threshold, table), 0
    for holders in available:
        reconstructor.add(holders, order[first : first + len(holders)])
        first += len(holders)
    return reconstructor.secrets()


@pytest.mark.parametrize("threshold", [1, 2, 7, 8, 16, 60, 79])
def test_complete_graph_where_every_dealer_lacks_its_own_share(threshold: int) -> None:
    available = [[holder for holder in range(80) if holder != dealer] for dealer in range(80)]
    secrets, shares = dealt(available, threshold, 11)
    assert reconstructed(threshold, available, shares) == secrets


def test_complete_graph_with_just_enough_holders() -> None:
    available = [[holder for holder in range(33) if holder != dealer][:32] for dealer in range(100)]
    secrets, shares = dealt(available, 32, 12)
    assert reconstructed(32, available, shares) == secrets


@pytest.mark.parametrize("missing", range(9))
def test_any_number_of_holders_swapped_for_others(missing: int) -> None:
    """One of the base may be missing, then t of it are left; more, and a secret gets weights of its own."""
    threshold = 32
    common = list(range(0, 66, 2))
    odd = sorted(common[missing:] + list(range(1, 66, 2))[:missing])
    available = [common] * 70 + [odd, common, odd[:]]
    secrets, shares = dealt(available, threshold, 100 + missing)
    assert reconstructed(threshold, available, shares) == secrets


@settings(max_examples=40, deadline=None)
@given(clients=st.integers(2, 40), seed=st.integers(0, 2**32), data=st.data())
def test_complete_graph_with_holders_lost_and_single_shares_spoilt(
    clients: int, seed: int, data: st.DataObject
) -> None:
    """Whoever answered did so for everybody but itself; some answers were bad, and do not count."""
    everybody = st.integers(0, clients - 1)
    answered = sorted(data.draw(st.sets(everybody, min_size=2)))
    spoilt = data.draw(st.sets(st.tuples(everybody, everybody), max_size=6))
    available = [
        [holder for holder in answered if holder != dealer and (holder, dealer) not in spoilt]
        for dealer in range(clients)
    ]
    threshold = data.draw(st.integers(1, max(1, len(answered) - 1)))
    available = [holders for holders in available if len(holders) >= threshold]
    secrets, shares = dealt(available, threshold, seed)
    assert not available or reconstructed(threshold, available, shares) == secrets


@settings(max_examples=40, deadline=None)
@given(threshold=st.integers(1, 12), spare=st.integers(0, 3), seed=st.integers(0, 2**32), data=st.data())
def test_just_t_shares_are_taken_whatever_they_are(threshold: int, spare: int, seed: int, data: st.DataObject) -> None:
    """Shares on no common polynomial, as a lying dealer's, compared with Lagrange's formula in Python integers.

    Everybody is missing once, so that all answered equally often and the first t + 1 are the base.  The value is that
    of t of them: without the one that is missing, or else without the last.
    """
    size = threshold + spare
    holders = sorted(data.draw(st.sets(st.integers(0, 5000), min_size=size, max_size=size)))
    table = drawn(seed, size, 5)
    table[data.draw(st.integers(0, size - 1))] = data.draw(st.sampled_from(EDGES))
    reconstructor, expected = Reconstructor(threshold, table), []
    for gone in [size, *(range(size) if spare else ())]:
        there = [place for place in range(size) if place != gone]
        reconstructor.add([holders[place] for place in there], there)
        taken = [place for place in there if place <= threshold][:threshold]
        weights = weights_at_zero([holders[place] + 1 for place in taken])
        rows = table[taken].tolist()
        expected.append([sum(w * row[limb] for w, row in zip(weights, rows, strict=True)) % P for limb in range(5)])
    assert reconstructor.limbs().tolist() == expected


def test_ring_where_all_dealers_have_other_holders() -> None:
    available = [sorted((dealer + step) % 200 for step in range(-6, 7) if step) for dealer in range(200)]
    secrets, shares = dealt(available, 7, 13)
    assert reconstructed(7, available, shares) == secrets


@settings(max_examples=40, deadline=None)
@given(threshold=st.integers(1, 20), clients=st.integers(20, 60), seed=st.integers(0, 2**32), data=st.data())
def test_any_pattern_of_holders(threshold: int, clients: int, seed: int, data: st.DataObject) -> None:
    absent = st.sets(st.integers(0, clients - 1), max_size=clients - threshold)
    available = [
        [holder for holder in range(clients) if holder not in gone]
        for gone in data.draw(st.lists(absent, min_size=1, max_size=10))
    ]
    secrets, shares = dealt(available, threshold, seed)
    assert reconstructed(threshold, available, shares) == secrets


def test_a_dealer_of_bad_shares_spoils_nobody_elses_secret() -> None:
    available = [[holder for holder in range(12) if holder != dealer] for dealer in range(12)]
    secrets, shares = dealt(available, 6, 14)
    shares[3] = drawn(15, 11, 5)
    found = reconstructed(6, available, shares)
    assert found[3] is None
    assert found[:3] + found[4:] == secrets[:3] + secrets[4:]


def test_limbs_come_in_the_order_added_and_can_be_asked_for_again() -> None:
    available = [[0, 1, 2], [1, 2, 3]]
    secrets, shares = dealt(available, 2, 16)
    table = np.concatenate(shares)
    table.flags.writeable = False
    reconstructor = Reconstructor(2, table)
    assert reconstructor.secrets() == []
    assert reconstructor.limbs().shape == (0, 5)
    for index in (0, 1):
        rows = np.arange(3 * index, 3 * index + 3, dtype=np.int32)
        reconstructor.add(np.array(available[index], dtype=np.uint32), rows)
        for _ in range(2):
            assert reconstructor.limbs().tolist() == [limbs_of(secret) for secret in secrets[: index + 1]]


# -- What may be given -------------------------------------------------------------------------------------------------


def added(threshold: int, holders: Sequence[int], shares: Uint, rows: Sequence[int] = ()) -> list[bytes | None]:
    reconstructor = Reconstructor(threshold, shares)
    reconstructor.add(holders, rows or range(len(shares)))
    return reconstructor.secrets()


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: share(bytes(31), [0, 1], 2, drawn(1, 5, 1)), "a secret of 31 bytes"),
        (lambda: share([bytes(32), b""], [0, 1], 2, drawn(1, 2, 5, 1)), "a secret of 0 bytes"),
        (lambda: share(bytes(32), [0, 1], 3, drawn(1, 5, 2)), r"threshold = 3: with 2 holders"),
        (lambda: share(bytes(32), [0, 1], 0, drawn(1, 5, 0)), r"threshold = 0: with 2 holders"),
        (lambda: share(bytes(32), [0, 0], 2, drawn(1, 5, 1)), "a holder is listed twice"),
        (lambda: share(bytes(32), [-1, 0], 2, drawn(1, 5, 1)), "holders from -1 to 0"),
        (lambda: share(bytes(32), [0, 2**31], 2, drawn(1, 5, 1)), "holders from 0 to 2147483648"),
        (lambda: share(bytes(32), [0.5, 1], 2, drawn(1, 5, 1)), "float64: must be a list of cohort indices"),
        (lambda: share(bytes(32), [0, 1], 2, drawn(1, 5, 2)), r"coefficients of \(5, 2\) uint64: must be \(5, 1\)"),
        (lambda: share([bytes(32)], [0, 1], 2, drawn(1, 5, 1)), r"must be \(1, 5, 1\)"),
        (lambda: share(bytes(32), [0, 1], 2, drawn(1, 5, 1).astype(np.int64)), "int64: must be"),
        (lambda: share(bytes(32), [0, 1], 2, array([[1], [1], [P], [1], [1]])), "a coefficient is not below"),
        (lambda: lagrange_at_zero(array([0, 1])), "must be distinct"),
        (lambda: lagrange_at_zero(array([3, 3])), "must be distinct"),
        (lambda: lagrange_at_zero(array([P])), "must be distinct"),
        (lambda: reconstruct(array([1, 2]), drawn(1, 3, 5)), r"\(2,\) do not fit shares of shape \(3, 5\)"),
        (lambda: reconstruct(array([P]), drawn(1, 1, 5)), "a weight or a share element is not below"),
        (lambda: reconstruct(array([1]), array([[0, 0, 0, 0, P]])), "a weight or a share element is not below"),
        (lambda: Reconstructor(0, drawn(1, 1, 5)), "threshold = 0"),
        (lambda: Reconstructor(1, drawn(1, 1, 4)), r"shares of shape \(1, 4\)"),
        (lambda: Reconstructor(1, drawn(1, 1, 5).astype(np.int64)), r"int64: must be \(r, 5\) uint64"),
        (lambda: added(3, [0, 1], drawn(1, 2, 5)), "a secret with 2 shares: 3 are needed"),
        (lambda: added(2, [0, 1], drawn(1, 3, 5)), r"\(2,\) do not fit rows of shape \(3,\)"),
        (lambda: added(2, [0, 1], drawn(1, 3, 5), [0, 3]), "rows from 0 to 3: there are 3 shares"),
        (lambda: added(2, [0, 1], drawn(1, 3, 5), [-1, 0]), "rows from -1 to 0: there are 3 shares"),
        (lambda: added(2, [1, 0], drawn(1, 2, 5)), "in ascending order"),
        (lambda: added(2, [1, 1], drawn(1, 2, 5)), "in ascending order"),
        (lambda: added(2, [-1, 1], drawn(1, 2, 5)), "holders from -1 to 1"),
        (lambda: added(1, [0], array([[0, 0, P, 0, 0]])), "a share element is not below"),
    ],
)
def test_what_is_refused_is_named(call: Callable[[], object], message: str) -> None:
    with pytest.raises(ParameterError, match=message):
        call()


# -- Without the compiler ----------------------------------------------------------------------------------------------

_ROUND = """
import numpy as np
from secagg.primitives.secret_sharing import Reconstructor, encode_shares, share
holders = [np.array([h for h in range(14) if h != dealer]) for dealer in range(12)]
shares = []
for dealer in range(12):
    coefficients = np.random.default_rng(dealer).integers(0, 2**61 - 1, size=(5, 8), dtype=np.uint64)
    shares.append(share(bytes([dealer]) * 32, holders[dealer], 9, coefficients))
reconstructor = Reconstructor(9, np.concatenate(shares))
for dealer in range(12):
    reconstructor.add(holders[dealer], np.arange(13 * dealer, 13 * dealer + 13))
print(encode_shares(reconstructor.limbs()).hex(), encode_shares(share(b"x" * 32, holders[0], 9, coefficients)).hex())
"""


def in_a_process(code: str, **environment: str) -> str:
    return subprocess.run(
        [sys.executable, "-W", "error", "-c", code],
        env={**os.environ, **environment},
        cwd=Path(__file__).parents[2],
        check=True,
        capture_output=True,
        text=True,
    ).stdout


def test_a_disabled_jit_gives_the_same() -> None:
    plain, compiled = in_a_process(_ROUND, NUMBA_DISABLE_JIT="1"), in_a_process(_ROUND)
    assert plain == compiled
    assert plain.startswith(encode_shares(split_secret(bytes(32))).hex())


def test_the_module_loads_without_the_compiler() -> None:
    assert in_a_process("import sys, secagg.primitives.secret_sharing; print('numba' in sys.modules)") == "False\n"
