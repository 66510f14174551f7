"""How a client's vector gets to the server: under masks, or in a lattice envelope whose secret is under masks.

With envelopes (section 11 of specs/secagg-v2.md) the vector that is masked is the envelope's secret, shifted so that no
coefficient is negative: N elements modulo 2^w, where there were m modulo M.  Everything between the two ends of the
round is as with masks: whose masks there are, what is shared, confirmed and revealed.
"""

from __future__ import annotations

from enum import StrEnum
from typing import TYPE_CHECKING, Any, Final

import numpy as np
import numpy.typing as npt

from secagg.envelopes import scheme
from secagg.envelopes.randomness import EnvelopeRandomness
from secagg.errors import ParameterError

if TYPE_CHECKING:
    from secagg.envelopes.parameters import EnvelopeParameters
    from secagg.pairwise.config import RoundConfig

Lanes = npt.NDArray[np.unsignedinteger[Any]]

ANY_CARRIER: Final = "any"
"""What a policy says that takes every carrier."""
LEAST_VERSION: Final = 2
"""Of the wire, for envelopes."""


class Carrier(StrEnum):
    """What carries the vectors of a round."""

    MASKS = "masks"
    """AES masks over every element."""
    LATTICE = "lattice"
    """One lattice envelope, and masks over its short secret."""

    @property
    def number(self) -> int:
        """Its value in a config's extension (R-ENV-1)."""
        return _NUMBERS[self]

    @classmethod
    def of_number(cls, number: int) -> Carrier:
        """R-ENV-1.  Raises ParameterError for a number that stands for none."""
        for carrier, known in _NUMBERS.items():
            if number == known:
                return carrier
        raise ParameterError(f"carrier {number}: this library knows {', '.join(map(str, _NUMBERS.values()))}")


_NUMBERS: Final = {Carrier.MASKS: 0, Carrier.LATTICE: 1}


def as_carrier(value: Carrier | str) -> Carrier:
    """A carrier, given as such or by name.  Raises ParameterError."""
    try:
        return Carrier(value)
    except ValueError:
        told = f"must be one of {', '.join(Carrier)}"
        if isinstance(value, str) and value == "auto":
            told = "a config measures nothing; take the one that secagg.simulation.cheaper_carrier(config) returns"
        raise ParameterError(f"carrier {value!r:.80}: {told}") from None


def seal(
    config: RoundConfig, parameters: EnvelopeParameters, session: bytes, seed: bytes, lanes: Lanes
) -> tuple[Lanes, bytearray]:
    """R-ENV-5, R-ENV-6, R-ENV-10: the shifted secret in lanes of ``config.masked_modulus``, to be masked; the envelope.

    Args:
        config: the round's.
        parameters: ``config.envelope``.
        session: the session id.
        seed: fresh random bytes, ``EnvelopeRandomness``'.
        lanes: the vector, shape (m,).
    """
    randomness = EnvelopeRandomness(seed)
    secret = randomness.secret(parameters.degree)
    public = public_polynomials(config, parameters, session)
    envelope = scheme.encrypt(parameters, public, secret, lanes, randomness.errors)
    secret += parameters.secret_bound
    shifted: Lanes = secret.astype(config.masked_modulus.dtype)
    secret[:] = 0
    return shifted, envelope


def empty_sums(parameters: EnvelopeParameters, groups: tuple[int, ...]) -> Lanes:
    """The sum of no envelopes; one for each group, when ``groups`` says how many."""
    one = scheme.empty_sum(parameters)
    return np.zeros((*groups, *one.shape), dtype=one.dtype)


def sum_of_secrets(parameters: EnvelopeParameters, keys: Lanes, members: int) -> npt.NDArray[np.int64]:
    """R-ENV-8: of the sum of so many shifted secrets, without masks, the sum of the secrets; shape (N,)."""
    return keys.astype(np.int64) - members * parameters.secret_bound


def in_ring(total: Lanes, config: RoundConfig) -> Lanes:
    """R-ENV-8: a sum over the integers in lanes of ``config.modulus``, modulo which it is taken."""
    if int(config.clients * config.input_max) >= config.modulus.value:  # every element is allowed
        total = total % np.array(config.modulus.value, dtype=total.dtype)
    return total.astype(config.modulus.dtype, copy=False)


def public_polynomials(config: RoundConfig, parameters: EnvelopeParameters, session: bytes) -> scheme.PublicPolynomials:
    """R-ENV-4: those of a session."""
    key = config.labels.envelope_polynomials(session)[: config.suite.key_bytes]
    return scheme.PublicPolynomials(config.suite, key, parameters)
