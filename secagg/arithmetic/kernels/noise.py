"""Trials of a sampler of integer noise, many at once: candidates, and what becomes of each.

What a trial computes is said in ``secagg.privacy.noise``: a candidate K = floor(s T / U + 1/2) from two random numbers,
accepted exactly if U^2 < f(K), where U, T and f(K) are real numbers.  Here they are known to 64 bits and in float64, so
that a trial has three verdicts: rejected, accepted, or too close to tell, which is left to exact arithmetic.

Margins.  It is supposed that ``exp`` and ``log`` are right to 2^-48, which is sixteen times worse than what the C
libraries in use promise.  With w for the 64 bits of U, the quotient x = s T / U is off by at most (|x| + s) / w for
the bits that were not drawn, and |x| 2^-50 for the roundings: twice that is allowed for.  U^2 and f(K) are each right
to 2^-37, relatively, where U^2 >= 2^-56, and 2^-32 is allowed for.  A trial with a smaller U is left to exact
arithmetic; all others with f(K) < 2^-58 are rejected by K alone.  So a verdict of rejected or accepted is that of the
real numbers, on every machine.  One trial in 10^9 is too close to tell.

The same instructions are carried out whatever the numbers are.
"""

from __future__ import annotations

from typing import Any, Final

import numpy as np

from secagg.arithmetic.kernels.jit import kernel

REJECTED: Final = np.uint8(0)
ACCEPTED: Final = np.uint8(1)
UNDECIDED: Final = np.uint8(2)

SHIFT: Final = 16
"""Stirling's series is used for (m + 16)! where m! is asked for, so that five of its terms are enough."""

_SMALLEST_U: Final = np.uint64(1 << 36)
_UNIT: Final = 2.0**-64
_ROUNDING: Final = 2.0**-48
_ABOVE: Final = 1 + 2.0**-32
_BELOW: Final = 1 - 2.0**-32
_LARGEST_EXPONENT: Final = 45.0
"""exp(-45) is below every U^2 that is decided here."""


@kernel
def _candidate(w: Any, t: Any, scale: float, limit: float) -> Any:
    """U, the candidate within -limit .. limit, whether it was there before, and whether it may be another integer."""
    u = np.float64(w) + 0.5
    inverse = np.reciprocal(u)
    x = scale * (np.float64(t) + 0.5) * inverse
    size = abs(x)
    candidate = np.floor(x + 0.5)
    above = x + 0.5 - candidate
    error = (size + scale) * inverse * 2.0 + size * _ROUNDING
    blurred = (above < error) | (above > 1.0 - error)
    return u * _UNIT, min(max(candidate, -limit), limit), size <= limit, blurred


@kernel
def _verdict(w: Any, square: float, density: float, possible: bool, blurred: bool) -> Any:
    close = (square * _ABOVE >= density) & (square * _BELOW <= density)
    undecided = (w < _SMALLEST_U) | (possible & (blurred | close))
    return UNDECIDED if undecided else np.uint8(possible & (square < density))


@kernel
def _exp_of_minus(exponent: Any) -> Any:
    """exp(-exponent) for 0 .. 45, right to 2^-42: a Taylor series of a 128th of it, squared seven times."""
    r = exponent * (1.0 / 128)
    e = 1.0 - r * (1.0 / 12)
    e = 1.0 - r * (1.0 / 11) * e
    e = 1.0 - r * (1.0 / 10) * e
    e = 1.0 - r * (1.0 / 9) * e
    e = 1.0 - r * (1.0 / 8) * e
    e = 1.0 - r * (1.0 / 7) * e
    e = 1.0 - r * (1.0 / 6) * e
    e = 1.0 - r * (1.0 / 5) * e
    e = 1.0 - r * (1.0 / 4) * e
    e = 1.0 - r * (1.0 / 3) * e
    e = 1.0 - r * (1.0 / 2) * e
    e = 1.0 - r * e
    e *= e
    e *= e
    e *= e
    e *= e
    e *= e
    e *= e
    return e * e


@kernel
def gaussian_trials(
    scale: float, limit: float, variance: float, unsigned: Any, signed: Any, candidates: Any, verdicts: Any
) -> None:
    """f(K) = exp(-K^2 / 2 variance).

    Args:
        scale: s.
        limit: f is below 2^-58 beyond it.
        variance: from 1 up.
        unsigned, signed: the same random bytes as uint64 and int64, two of each a trial: U and T in turn.
        candidates, verdicts: int64 and uint8, written.
    """
    halved = np.reciprocal(2 * variance)
    for i in range(len(candidates)):
        w = unsigned[2 * i]
        u, k, possible, blurred = _candidate(w, signed[2 * i + 1], scale, limit)
        density = _exp_of_minus(min(k * k * halved, _LARGEST_EXPONENT))
        candidates[i] = np.int64(k)
        verdicts[i] = _verdict(w, u * u, density, possible, blurred)


@kernel
def poisson_trials(
    scale: float, limit: float, mode: float, excess: float, unsigned: Any, signed: Any, candidates: Any, verdicts: Any
) -> None:
    """f(K) = mean^K mode! / (mode + K)!, mean = mode + excess, for a mode from 1,024 up; else as ``gaussian_trials``.

    With N = mode + K and y = K / (N + mode), ln(N / mode) is 2 atanh(y), and Stirling's series gives
    -ln f(K) = K y + y + (2 N + 1) (atanh(y) - y) - K ln(mean / mode) - K / (12 N mode), up to 2^-37.
    """
    per_step = np.log1p(excess / mode)
    for i in range(len(candidates)):
        w = unsigned[2 * i]
        u, k, possible, blurred = _candidate(w, signed[2 * i + 1], scale, limit)
        n = mode + k
        y = k * np.reciprocal(n + mode)
        q = y * y
        tail = 1 / 3 + q * (1 / 5 + q * (1 / 7 + q * (1 / 9 + q * (1 / 11 + q * (1 / 13 + q * (1 / 15))))))
        exponent = k * y + y + (2 * n + 1) * (y * q * tail) - k * per_step - k * (1 / 12) * np.reciprocal(n * mode)
        density = _exp_of_minus(min(exponent, _LARGEST_EXPONENT))
        candidates[i] = np.int64(k)
        verdicts[i] = _verdict(w, u * u, density, possible, blurred)


@kernel
def _shifted_factor(n: Any) -> Any:
    """(n + 16)! / n!."""
    product = 1.0
    for j in range(1, SHIFT + 1):
        product *= n + j
    return product


@kernel
def _stirling_rest(n: Any) -> Any:
    """What Stirling's formula for ln n! lacks: four terms of its series, right to 2^-43 for n from 16 up."""
    r = np.reciprocal(n)
    q = r * r
    return r * (1 / 12 - q * (1 / 360 - q * (1 / 1260 - q * (1 / 1680))))


@kernel
def small_poisson_trials(
    scale: float, limit: float, mode: float, excess: float, unsigned: Any, signed: Any, candidates: Any, verdicts: Any
) -> None:
    """As ``poisson_trials``, for a mode below 1,024.

    With M = mode + 16, N = M + K: f(K) = mean^K (M! / N!) (N! / (mode + K)!) (mode! / M!).
    """
    lifted = mode + SHIFT
    inverse, per_step = np.reciprocal(lifted), np.log((mode + excess) / lifted)
    own_factor, own_rest = np.reciprocal(_shifted_factor(mode)), _stirling_rest(lifted)
    for i in range(len(candidates)):
        w = unsigned[2 * i]
        u, k, possible, blurred = _candidate(w, signed[2 * i + 1], scale, limit)
        is_count = k >= -mode
        k = max(k, -mode)
        n = lifted + k
        exponent = (n + 0.5) * np.log(n * inverse) - k - k * per_step + _stirling_rest(n) - own_rest
        density = np.exp(-exponent) * (_shifted_factor(mode + k) * own_factor) * np.float64(is_count)
        candidates[i] = np.int64(k)
        verdicts[i] = _verdict(w, u * u, density, possible, blurred)


@kernel
def take(candidates: Any, verdicts: Any, position: int, out: Any, filled: Any) -> Any:
    """Move accepted candidates from ``position`` on to ``out`` from ``filled`` on; both places afterwards."""
    while position < len(candidates) and filled < len(out):
        out[filled] = candidates[position]
        filled += np.int64(verdicts[position])
        position += 1
    return position, filled
