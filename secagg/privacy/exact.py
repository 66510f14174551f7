"""The trials of ``secagg.privacy.noise`` in exact arithmetic: for the few that 64 bits and float64 cannot decide.

A real number is held as an interval that its bits leave open, and more bits are drawn until one answer is left.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from decimal import MAX_EMAX, MIN_EMIN, Context, Decimal, localcontext
from fractions import Fraction
from functools import cache
from typing import Final, Protocol, final

_WORD: Final = 64


class Law(Protocol):
    """A density f on the integers with f <= 1, and the scale s of its sampler: (|k| + 1/2) sqrt(f(k)) <= s / 2."""

    @property
    def scale(self) -> int:
        """s."""
        ...

    def exponent(self, k: int, digits: int) -> Decimal | None:
        """-ln f(k), off by less than 10^-digits; None where f(k) is 0."""
        ...


@final
class DiscreteGaussian:
    """f(k) = exp(-k^2 / 2 v)."""

    def __init__(self, variance: int) -> None:
        self._variance = variance
        self.scale: Final = 2 + _root_above(Fraction(29432 * variance, 10000))

    def exponent(self, k: int, digits: int) -> Decimal:
        """k^2 / 2 v.  The bound on s: k f(k)^(1/2) is at most sqrt(2 v / e), and f(k) at most 1."""
        with localcontext(_context(digits + len(str(k * k)))):
            return Decimal(k * k) / (2 * self._variance)


@final
class CentredPoisson:
    """f(k) = mean^k m! / (m + k)! for a mean of v / 2 and its mode m: a Poisson variable less m.

    The bound on s.  For k = j > 0, f(k) is at most the product of 1 / (1 + i / mean), i = 0 .. j - 1, and with
    ln(1 + x) >= 2 x / (2 + x) at most exp(-j (j - 1) / (2 mean + j - 1)); for k = -j at most
    exp(-j (j - 1) / (2 mean)), which is less.  What follows for (j + 1/2) sqrt(f) is below 1 + sqrt(0.3679 v) from
    v = 40 on, and the tests go through all smaller v.
    """

    def __init__(self, variance: int) -> None:
        self._mean: Final = Fraction(variance, 2)
        self.mode: Final = variance // 2
        self.scale: Final = 2 + _root_above(Fraction(14716 * variance, 10000))

    def exponent(self, k: int, digits: int) -> Decimal | None:
        """ln (m + k)! - ln m! - k ln mean."""
        if self.mode + k < 0:
            return None
        # Each of the three is below 2^(2 bits of it), and the differences lose that many digits.
        digits += len(str((self.mode + abs(k) + 2) ** 2))
        with localcontext(_context(digits)):
            log_mean = (Decimal(self._mean.numerator) / self._mean.denominator).ln()
            return _log_factorial(self.mode + k, digits) - _log_factorial(self.mode, digits) - k * log_mean


def decide(law: Law, w: int, t: int, more: Iterator[tuple[int, int]]) -> int | None:
    """The outcome of one trial: the accepted K, or None.

    Args:
        law: the density and its scale.
        w: the 64 bits of U.
        t: the whole part of T.
        more: the further 64 bits of each, in turn.
    """
    bits = _WORD
    while True:
        k = _candidate(law.scale, w, t)
        if k is not None:
            accepted = _is_below(w, bits, law, k)
            if accepted is not None:
                return k if accepted else None
        next_w, next_t = next(more)
        w, t, bits = w << _WORD | next_w, t << _WORD | next_t, bits + _WORD


def wrapped(number: int) -> int:
    """The int64 that is equal to ``number`` modulo 2^64: what it adds to a vector of at most 64 bits."""
    return (number + 2**63) % 2**64 - 2**63


def _candidate(scale: int, w: int, t: int) -> int | None:
    """floor(s T / (2^64 U) + 1/2), or None while the bits leave more than one open."""
    if w == 0:
        return None
    ends = [(t, w + 1), (t + 1, w)] if t >= 0 else [(t, w), (t + 1, w + 1)]
    least, largest = ((2 * scale * top + bottom) // (2 * bottom) for top, bottom in ends)
    return least if least == largest else None


def _is_below(w: int, bits: int, law: Law, k: int) -> bool | None:
    """Whether U^2 < f(k), or None while the bits leave both open."""
    digits = 2 * bits  # three times as many as the bits of U^2 are worth
    exponent = law.exponent(k, digits)
    if exponent is None or exponent > 2 * bits:  # f(k) < 2^(-2 bits) <= U^2
        return False
    with localcontext(_context(digits)):
        scaled = (-exponent).exp() * 2 ** (2 * bits)
        slack = scaled.scaleb(3 - digits)
        if (w + 1) ** 2 <= scaled - slack:
            return True
        if w**2 >= scaled + slack:
            return False
    return None


def _root_above(square: Fraction) -> int:
    """The smallest whole number whose square is at least ``square``."""
    return math.isqrt(math.ceil(square) - 1) + 1


def _context(digits: int) -> Context:
    return Context(prec=digits + 10, Emin=MIN_EMIN, Emax=MAX_EMAX)


def _log_factorial(n: int, digits: int) -> Decimal:
    """ln n! - ln(2 pi) / 2, off by less than 10^-digits: Stirling's series, from a z on where it reaches so far.

    The error is below the first term that is left out; the smallest term is about exp(-2 pi z).
    """
    z = max(n, digits)
    total = (z + Decimal("0.5")) * Decimal(z).ln() - z
    power, smallest = Decimal(z), Decimal(1).scaleb(-digits)
    for i in range(1, digits):
        number = _bernoulli(2 * i)
        term = Decimal(number.numerator) / (number.denominator * 2 * i * (2 * i - 1)) / power
        if abs(term) < smallest:
            break
        total += term
        power *= z * z
    if z > n:
        total -= Decimal(math.perm(z, z - n)).ln()
    return total


@cache
def _bernoulli(n: int) -> Fraction:
    """B_n, from the sum of binomial(n + 1, i) B_i over i = 0 .. n, which is 0."""
    if n < 2:
        return Fraction(1) if n == 0 else Fraction(-1, 2)
    if n % 2:
        return Fraction(0)
    return -sum((math.comb(n + 1, i) * _bernoulli(i) for i in range(n)), Fraction(0)) / (n + 1)
