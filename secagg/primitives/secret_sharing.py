"""Shamir's secret sharing (Shamir 1979) of 256-bit secrets over GF(p), p = 2^61 - 1, limb by limb.

A secret is five little-endian limbs of 52, 52, 52, 52 and 48 bits, each the constant term of a polynomial of its own of
degree t - 1.  The point of a holder is its cohort index + 1: fixed for the round, so that wherever the same holders
answer for many dealers one set of Lagrange weights serves them all (Bonawitz et al., CCS 2017, section 4).
Any t shares reconstruct; t - 1 say nothing about the secret.

No randomness is drawn here: the coefficients come in.  The kernels are loaded by the first call that needs them.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, Final, NamedTuple, final, overload

import numpy as np
import numpy.typing as npt

from secagg.arithmetic.modulus import MERSENNE_61
from secagg.errors import ParameterError
from secagg.wording import counted

UintArray = npt.NDArray[np.uint64]
IntArray = npt.NDArray[np.int64]
BoolArray = npt.NDArray[np.bool_]

SECRET_BYTES: Final = 32
LIMB_BITS: Final = (52, 52, 52, 52, 48)
LIMBS: Final = len(LIMB_BITS)
SHARE_BYTES: Final = 8 * LIMBS

_PRIME: Final = np.uint64(MERSENNE_61)
_LIMB_LIMITS: Final = np.array([1 << bits for bits in LIMB_BITS], dtype=np.uint64)
_HOLDER_LIMIT: Final = 2**31  # above any cohort, and far below the points that the kernels take
_WIRE: Final = np.dtype("<u8")
_BATCH: Final = 64  # secrets whose holders are joined at a time, so that no second list of all is made


class ShareError(ValueError):
    """A share, or what shares reconstruct, that no honest party made.  The message names the place, never a value."""


# -- Limbs -------------------------------------------------------------------------------------------------------------


def split_secret(secret: bytes) -> UintArray:
    """R-SHARE-2: the five limbs of a 32-byte secret: uint64, shape (5,).  Raises ParameterError for another length."""
    if len(secret) != SECRET_BYTES:
        raise ParameterError(
            f"a secret of {counted(len(secret), 'byte')} cannot be shared: it must have {SECRET_BYTES}"
        )
    rest = int.from_bytes(secret, "little")
    limbs = np.empty(LIMBS, dtype=np.uint64)
    for index, bits in enumerate(LIMB_BITS):
        limbs[index] = rest & ((1 << bits) - 1)
        rest >>= bits
    return limbs


def limbs_out_of_range(limbs: UintArray) -> BoolArray:
    """Which rows of (d, 5) reconstructed limbs are no secret, so that their dealer is to blame: bool, shape (d,)."""
    outside: BoolArray = np.any(limbs >= _LIMB_LIMITS, axis=1)
    return outside


def join_limbs(limbs: UintArray) -> bytes:
    """The 32-byte secret of five limbs, shape (5,).

    Raises:
        ShareError: a limb is out of range, which no shares of an honest dealer reconstruct.
    """
    joined, shift = 0, 0
    for index, (limb, bits) in enumerate(zip(limbs.tolist(), LIMB_BITS, strict=True)):
        if limb >> bits:
            raise ShareError(
                f"reconstructed limb {index} has more than {bits} bits: the dealer dealt no 256-bit secret"
            )
        joined |= limb << shift
        shift += bits
    return joined.to_bytes(SECRET_BYTES, "little")


# -- On the wire -------------------------------------------------------------------------------------------------------


def encode_shares(shares: UintArray) -> bytes:
    """Shares, uint64 of shape (m, 5) or (5,), as 40 bytes each: five little-endian uint64."""
    return shares.astype(_WIRE, copy=False).tobytes()


def bad_shares(data: bytes | memoryview) -> BoolArray:
    """Which of many encoded shares have an element that is not below p, so that their sender is to blame.

    Returns:
        bool, shape (m,).

    Raises:
        ShareError: the length is no multiple of 40 bytes.
    """
    bad: BoolArray = np.any(_elements(data) >= _PRIME, axis=1)
    return bad


def decode_shares(data: bytes | memoryview) -> UintArray:
    """Undo ``encode_shares`` for many shares: canonical uint64, shape (m, 5).

    Raises:
        ShareError: the length is no multiple of 40 bytes, or an element is not below p; the first such is named.
    """
    shares = _elements(data).astype(np.uint64)
    outside = np.argwhere(shares >= _PRIME)
    if len(outside):
        number, element = outside[0].tolist()
        raise ShareError(f"element {element} of share {number} is not below 2^61 - 1")
    return shares


def _elements(data: bytes | memoryview) -> UintArray:
    if len(data) % SHARE_BYTES:
        raise ShareError(f"{counted(len(data), 'byte')} of shares: each has {SHARE_BYTES}")
    return np.frombuffer(data, dtype=_WIRE).reshape(-1, LIMBS)


# -- Sharing -----------------------------------------------------------------------------------------------------------


@overload
def share(secrets: bytes, holders: npt.ArrayLike, threshold: int, coefficients: UintArray) -> UintArray: ...


@overload
def share(secrets: Sequence[bytes], holders: npt.ArrayLike, threshold: int, coefficients: UintArray) -> UintArray: ...


def share(
    secrets: bytes | Sequence[bytes], holders: npt.ArrayLike, threshold: int, coefficients: UintArray
) -> UintArray:
    """Share a secret, or several of them in one pass, among holders.

    Args:
        secrets: 32 bytes, or a sequence of s times 32 bytes.
        holders: cohort indices, distinct, at least ``threshold`` of them.
        threshold: t, how many shares reconstruct.
        coefficients: uint64, uniform below p and used for nothing else: shape (5, t - 1) for one secret, (s, 5, t - 1)
            for several.  The last index j belongs to x^(j + 1).

    Returns:
        uint64, canonical: shape (len(holders), 5), or (s, len(holders), 5).

    Raises:
        ParameterError: an argument is not as above.
    """
    from secagg.arithmetic.kernels import mersenne61

    single = isinstance(secrets, bytes)
    several = [secrets] if isinstance(secrets, bytes) else list(secrets)
    indices = _holder_indices(holders)
    if not 1 <= threshold <= len(indices):
        raise ParameterError(f"threshold = {threshold}: with {len(indices)} holders it must lie in 1 .. {len(indices)}")
    rows = len(several) * LIMBS
    expected = (LIMBS, threshold - 1) if single else (len(several), LIMBS, threshold - 1)
    if coefficients.shape != expected or coefficients.dtype != np.uint64:
        raise ParameterError(f"coefficients of {coefficients.shape} {coefficients.dtype}: must be {expected} uint64")
    if np.any(coefficients >= _PRIME):
        raise ParameterError("a coefficient is not below 2^61 - 1")
    polynomials = np.empty((rows, threshold), dtype=np.uint64)
    polynomials[:, 0] = np.array([split_secret(secret) for secret in several], dtype=np.uint64).reshape(rows)
    polynomials[:, 1:] = coefficients.reshape(rows, threshold - 1)
    values = np.empty((len(indices), rows), dtype=np.uint64)
    mersenne61.evaluate(polynomials, points(indices), values)
    polynomials.fill(0)
    if single:
        return values
    return np.ascontiguousarray(values.reshape(len(indices), len(several), LIMBS).transpose(1, 0, 2))


def points(holders: npt.ArrayLike) -> UintArray:
    """R-SHARE-3: the points of holders, uint64: cohort index + 1, so that nobody holds the secret, which lies at 0."""
    return np.asarray(holders, dtype=np.int64).astype(np.uint64) + np.uint64(1)


def _holder_indices(holders: npt.ArrayLike) -> IntArray:
    indices = np.asarray(holders)
    if indices.ndim != 1 or indices.dtype.kind not in "iu":
        raise ParameterError(f"holders of shape {indices.shape} and {indices.dtype}: must be a list of cohort indices")
    if len(indices) and not (indices.min() >= 0 and indices.max() < _HOLDER_LIMIT):
        raise ParameterError(f"holders from {indices.min()} to {indices.max()}: must lie in 0 .. 2^31 - 1")
    if len(np.unique(indices)) != len(indices):
        raise ParameterError("a holder is listed twice: each holds one share")
    return indices.astype(np.int64)


# -- Reconstruction ----------------------------------------------------------------------------------------------------


def lagrange_at_zero(xs: UintArray) -> UintArray:
    """The weights that interpolate at zero: f(0) = sum of weights[i] f(xs[i]) for every f of degree below len(xs).

    Args:
        xs: uint64, shape (t,): distinct points in 1 .. p - 1.

    Returns:
        uint64, shape (t,), canonical.  O(t^2) multiplications, one inversion.

    Raises:
        ParameterError: points repeat or are out of range.
    """
    from secagg.arithmetic.kernels import mersenne61

    xs = np.require(xs, np.uint64, ["C", "W"])
    if xs.ndim != 1 or (xs == 0).any() or (xs >= _PRIME).any() or len(np.unique(xs)) != len(xs):
        raise ParameterError("points to interpolate from must be distinct and lie in 1 .. 2^61 - 2")
    weights = np.empty_like(xs)
    mersenne61.lagrange_at_zero(xs, weights, np.empty_like(xs), np.empty_like(xs))
    return weights


def reconstruct(weights: UintArray, shares: UintArray) -> UintArray:
    """R-UNMASK-6: the five limbs of a secret: uint64, shape (5,), canonical, perhaps out of range, see ``join_limbs``.

    Args:
        weights: uint64, shape (t,), from ``lagrange_at_zero`` of the holders' points.
        shares: uint64, shape (t, 5), canonical, in the same order.

    Raises:
        ParameterError: the shapes do not fit, or an element is not below p.
    """
    from secagg.arithmetic.kernels import mersenne61

    if weights.ndim != 1 or shares.shape != (len(weights), LIMBS):
        raise ParameterError(f"weights of shape {weights.shape} do not fit shares of shape {shares.shape}")
    if (weights >= _PRIME).any() or (shares >= _PRIME).any():
        raise ParameterError("a weight or a share element is not below 2^61 - 1")
    limbs = np.empty(LIMBS, dtype=np.uint64)
    weights, shares = np.require(weights, np.uint64, ["C", "W"]), np.require(shares, np.uint64, ["C", "W"])
    mersenne61.combine_rows(weights, np.arange(len(weights)), shares, limbs)
    return limbs


@final
class Reconstructor:
    """Reconstructs many secrets, each from any t of the shares that are there for it.

    The t + 1 holders that answered for most dealers are the base, and one set of weights is computed for them.  A
    secret for which all of them answered, or all but one, is taken from t of them, whose weights follow from the base's
    in O(t).  On a complete graph that is every secret: a dealer holds no share of its own.  Where more are missing, as
    on a sparse graph, a secret gets weights of its own, in O(t^2).

    Memory beyond the shares is 16 bytes a share and O(n + t).

    Args:
        threshold: t.
        shares: uint64, shape (r, 5): all shares that came back, canonical.  They are not copied.
    """

    __slots__ = ("_holders", "_rows", "_shares", "_threshold")

    def __init__(self, threshold: int, shares: UintArray) -> None:
        if isinstance(threshold, bool) or not isinstance(threshold, int) or threshold < 1:
            raise ParameterError(f"threshold = {threshold!r}: it must be a whole number of at least 1")
        if shares.ndim != 2 or shares.shape[1] != LIMBS or shares.dtype != np.uint64:
            raise ParameterError(f"shares of shape {shares.shape} and {shares.dtype}: must be (r, {LIMBS}) uint64")
        self._threshold = threshold
        self._shares = np.require(shares, np.uint64, ["C", "A"])
        self._holders: list[IntArray] = []
        self._rows: list[IntArray] = []

    def add(self, holders: npt.ArrayLike, rows: npt.ArrayLike) -> None:
        """Put one more secret on the list.

        Args:
            holders: ascending cohort indices of those who answered, at least t.
            rows: where their answers stand among the shares, in the same order.

        Raises:
            ParameterError: the shapes do not fit, or there are fewer than t.
        """
        holders, rows = np.asarray(holders, dtype=np.int64), np.asarray(rows, dtype=np.int64)
        if holders.ndim != 1 or rows.shape != holders.shape:
            raise ParameterError(f"holders of shape {holders.shape} do not fit rows of shape {rows.shape}")
        if len(holders) < self._threshold:
            raise ParameterError(f"a secret with {counted(len(holders), 'share')}: {self._threshold} are needed")
        self._holders.append(holders)
        self._rows.append(rows)

    def limbs(self) -> UintArray:
        """The limbs of all secrets added, in that order: uint64, shape (d, 5), perhaps out of range.

        Raises:
            ParameterError: the holders of a secret are no cohort indices or not ascending, a row does not exist, or a
                share element is not below p.
        """
        found = [part.limbs() for part in self.parts(_BATCH)]
        return np.concatenate(found) if found else np.empty((0, LIMBS), dtype=np.uint64)

    def secrets(self) -> list[bytes | None]:
        """All secrets added, in that order: 32 bytes, or None where a limb is out of range and the dealer to blame.

        Raises:
            ParameterError: as ``limbs``.
        """
        return [secret for part in self.parts(_BATCH) for secret in part.secrets()]

    def parts(self, size: int, *, apart: bool = False) -> Iterator[Part]:
        """All secrets added, in that order, so many at a time; each part can be reconstructed by somebody else.

        With ``apart``, a part has copies of its own shares, and not a view of all, for a job that goes elsewhere.

        Raises:
            ParameterError: a row does not exist, or holders are no cohort indices.
        """
        if not self._holders:
            return
        base = self._base()
        for first in range(0, len(self._holders), size):
            batch = slice(first, first + size)
            offsets = np.cumsum([0, *map(len, self._holders[batch])])
            holders, rows = np.concatenate(self._holders[batch]), np.concatenate(self._rows[batch])
            if rows.min() < 0 or rows.max() >= len(self._shares):
                raise ParameterError(
                    f"rows from {rows.min()} to {rows.max()}: there are {counted(len(self._shares), 'share')}"
                )
            shares = self._shares
            if apart:
                shares, rows = shares[rows], np.arange(len(rows))
            yield Part(self._threshold, base, offsets, holders, rows, shares)

    def _base(self) -> Base:
        answers = np.zeros(0, dtype=np.int64)
        for first in range(0, len(self._holders), _BATCH):
            holders = np.concatenate(self._holders[first : first + _BATCH])
            if holders.min() < 0 or holders.max() >= _HOLDER_LIMIT:
                raise ParameterError(f"holders from {holders.min()} to {holders.max()}: must lie in 0 .. 2^31 - 1")
            counts = np.bincount(holders, minlength=len(answers))
            counts[: len(answers)] += answers
            answers = counts
        most = np.argsort(-answers, kind="stable")[: min(self._threshold + 1, np.count_nonzero(answers))]
        places = np.full(len(answers), -1, dtype=np.int64)
        places[most] = np.arange(len(most))
        return Base(points(most), lagrange_at_zero(points(most)), places)


class Base(NamedTuple):
    """The holders that most secrets have in common.

    Attributes:
        points: uint64, shape (t + 1,), or (t,) where no more answered.
        weights: theirs, in the same order.
        places: int64, shape (largest holder + 1,): a holder's place among them, or -1.
    """

    points: UintArray
    weights: UintArray
    places: IntArray


@final
class Part(NamedTuple):
    """Some secrets and all that it takes to reconstruct them: plain arrays, which any executor carries.

    Attributes:
        threshold: t.
        base: what all parts have in common.
        offsets: int64, shape (d + 1,): where each secret's holders begin and end.
        holders: int64: their cohort indices, ascending for each secret.
        rows: int64, the same shape: where the shares stand.
        shares: uint64, shape (r, 5).
    """

    threshold: int
    base: Base
    offsets: IntArray
    holders: IntArray
    rows: IntArray
    shares: UintArray

    def __repr__(self) -> str:
        return f"<Part of {len(self.offsets) - 1}>"

    def limbs(self) -> UintArray:
        """The limbs of these secrets; else as ``Reconstructor.limbs``."""
        from secagg.arithmetic.kernels import mersenne61

        ascending = self.holders[1:] > self.holders[:-1]
        ascending[self.offsets[1:-1] - 1] = True
        if not ascending.all():
            raise ParameterError("the holders of a secret must be distinct cohort indices in ascending order")
        limbs = np.empty((len(self.offsets) - 1, LIMBS), dtype=np.uint64)
        # A kernel is compiled once for arrays that may be written to and once for others; a pickle brings either.
        offsets, holders, rows = map(_writable, (self.offsets, self.holders, self.rows))
        points, weights, places = map(_writable, self.base)
        shares = self.shares.view()
        shares.flags.writeable = False
        met = mersenne61.reconstruct_batch(
            offsets, holders, rows, shares, self.threshold, points, weights, places, limbs
        )
        if met >= MERSENNE_61:
            raise ParameterError("a share element is not below 2^61 - 1")
        return limbs

    def secrets(self) -> list[bytes | None]:
        """These secrets; else as ``Reconstructor.secrets``."""
        limbs = self.limbs()
        outside = limbs_out_of_range(limbs).tolist()
        return [None if bad else join_limbs(row) for bad, row in zip(outside, limbs, strict=True)]


def _writable(array: npt.NDArray[Any]) -> npt.NDArray[Any]:
    return np.require(array, requirements=["C", "A", "W"])
