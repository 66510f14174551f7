"""Where things stand in an envelope: which elements a polynomial carries, in which bits, and its bytes on the wire.

A polynomial l carries the elements from l N f on, N f of them, and the last polynomial the rest.  Of all but the last,
r = N coefficients are sent; of the last, as many as its elements need, rounded up to a multiple of 64.  That the others
are left out changes nothing: a sum is opened coefficient by coefficient.  Element i r + j of a polynomial's own
elements stands in bits i b .. (i + 1) b - 1 of coefficient j, so that each of the f *slots* is a run of elements.

On the wire follow one another, polynomial by polynomial and for each of them prime by prime, r residues of exactly the
prime's bits, packed as R-MASK-4 has it.  r is a multiple of 64: no bit is left over.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import cache
from typing import Final, NamedTuple, Protocol

SENT_TOGETHER: Final = 64
"""The coefficients sent of a polynomial are a multiple of this, so that residues of any width fill whole bytes."""


class Parameters(Protocol):
    """What this package reads of an envelope's parameters."""

    @property
    def degree(self) -> int: ...
    @property
    def primes(self) -> tuple[int, ...]: ...
    @property
    def element_bits(self) -> int: ...
    @property
    def slots(self) -> int: ...
    @property
    def length(self) -> int: ...
    @property
    def noise_bound(self) -> int: ...
    @property
    def error_bound(self) -> int: ...


class Polynomial(NamedTuple):
    """One polynomial of an envelope.

    Attributes:
        number: l.
        start, stop: the elements that it carries.
        sent: r, the coefficients that are sent.
    """

    number: int
    start: int
    stop: int
    sent: int


def polynomials(parameters: Parameters) -> Iterator[Polynomial]:
    """The polynomials of an envelope, in order; none for an empty vector."""
    length, slots = parameters.length, parameters.slots
    whole = parameters.degree * slots
    for number, start in enumerate(range(0, length, whole)):
        stop = min(start + whole, length)
        needed = -(-(stop - start) // slots)
        yield Polynomial(number, start, stop, needed + -needed % SENT_TOGETHER)


def sent_coefficients(parameters: Parameters) -> int:
    """How many coefficients an envelope has."""
    return coefficients_for(parameters.length, parameters.degree, parameters.slots)


def coefficients_for(length: int, degree: int, slots: int) -> int:
    """The same, of parameters that are still looked for."""
    whole, rest = divmod(length, degree * slots)
    return whole * degree + -(-rest // (SENT_TOGETHER * slots)) * SENT_TOGETHER


def envelope_bytes(parameters: Parameters) -> int:
    """The size of an envelope on the wire."""
    return sent_coefficients(parameters) // 8 * sum(prime.bit_length() for prime in parameters.primes)


class Digits(NamedTuple):
    """How a coefficient's message is cut into digits of 28 bits at most, for products with residues to fit 64 bits.

    Attributes:
        parts: digits of an element.
        part_bits: of each of them but the last, which has the rest.
        widths: the bits of every digit of a coefficient.
    """

    parts: int
    part_bits: int
    widths: tuple[int, ...]


_WIDEST_DIGIT: Final = 28


@cache
def digits(element_bits: int, slots: int) -> Digits:
    """The digits of a coefficient with so many elements."""
    parts = -(-element_bits // _WIDEST_DIGIT)
    part_bits = -(-element_bits // parts)
    element = (*(part_bits for _ in range(parts - 1)), element_bits - (parts - 1) * part_bits)
    return Digits(parts, part_bits, element * slots)
