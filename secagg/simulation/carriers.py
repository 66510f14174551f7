"""What each carrier of the vectors would cost on this machine, and the cheaper one.

A mask, a polynomial's envelope, its addition and its opening are timed here, on vectors that are long enough for that,
and scaled by how many of them a round has.  What a round takes besides is the same with both carriers, and is left out.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import lru_cache
from statistics import median
from typing import Final

import numpy as np

from secagg.arithmetic import Modulus, add
from secagg.envelopes import scheme
from secagg.envelopes.parameters import EnvelopeParameters
from secagg.envelopes.randomness import SEED_BYTES, EnvelopeRandomness
from secagg.errors import ParameterError
from secagg.pairwise.carrier import LEAST_VERSION, Carrier
from secagg.pairwise.config import RoundConfig
from secagg.primitives import masking
from secagg.primitives.suites import Suite

AUTO: Final = "auto"
"""What ``with_carrier`` takes in the place of a carrier's name."""

_MASKS: Final = 8
_MASKED: Final = 1 << 18
_REPEATS: Final = 5


@dataclass(frozen=True, slots=True, kw_only=True)
class CarrierCosts:
    """CPU seconds of a carrier, and bytes.

    Attributes:
        client_s: to put a vector into what is sent.
        server_s: to add up what everybody sends, and to open the sum.
        upload_bytes: what a client sends in MASK.
    """

    client_s: float
    server_s: float
    upload_bytes: int

    def round_s(self, clients: int) -> float:
        """Of a whole round: every client, and the server."""
        return clients * self.client_s + self.server_s


def with_carrier(config: RoundConfig, choice: Carrier | str) -> RoundConfig:
    """The config with a carrier: ``"masks"``, ``"lattice"``, or ``"auto"`` for that of ``cheaper_carrier``.

    With envelopes its version is 2 at least; with masks it stays what it was.  Raises ParameterError for another
    choice, and when no envelope holds the sums of a round that shall have envelopes.
    """
    chosen, masks = checked_carrier(choice), config.replace(carrier=Carrier.MASKS)
    if chosen == Carrier.MASKS:
        return masks
    able = masks.replace(version=max(config.version, LEAST_VERSION))
    if chosen == Carrier.LATTICE:
        return able.replace(carrier=Carrier.LATTICE)
    found = cheaper_carrier(able)
    return masks if found.carrier is Carrier.MASKS else found


def checked_carrier(choice: Carrier | str) -> str:
    """What ``with_carrier`` may be asked for.  Raises ParameterError for anything else."""
    if choice not in (*Carrier, AUTO):
        raise ParameterError(f"carrier {choice!r:.80}: must be one of {', '.join((*Carrier, AUTO))}")
    return str(choice)


def cheaper_carrier(config: RoundConfig) -> RoundConfig:
    """The config with the carrier that takes less CPU time in a whole round: all clients, and the server.

    Masks where no envelope holds the round's sums.  Raises ParameterError for a config of version 1, which knows no
    envelopes.
    """
    if config.version < LEAST_VERSION:
        raise ParameterError(
            f"a config of version {config.version}: it has masks alone; ask for version = {LEAST_VERSION} first"
        )
    masks = config.replace(carrier=Carrier.MASKS)
    try:
        enveloped = config.replace(carrier=Carrier.LATTICE)
    except ParameterError:
        return masks
    return min((masks, enveloped), key=lambda one: costs_of(one).round_s(config.clients))


def load_envelope_kernels(config: RoundConfig) -> None:
    """Import, and compile or load, what the envelopes of a round need; nothing where it has none."""
    if config.envelope is not None:
        _envelope_seconds(config.suite, _one_polynomial(config.envelope))


def envelope_seconds(config: RoundConfig, parameters: EnvelopeParameters) -> tuple[float, float, float]:
    """CPU seconds to make an envelope, to add it to a sum, and to open the sum, in this round."""
    one = _one_polynomial(parameters)
    seal_s, add_s, open_s = _envelope_seconds(config.suite, one)
    share = parameters.sum_bytes / one.sum_bytes
    return seal_s * share, add_s * share, open_s * share


def costs_of(config: RoundConfig) -> CarrierCosts:
    """The costs of a config's own carrier, when as many are lost in MASK as may be.

    Takes some hundredths of a second, and where kernels are compiled first, some seconds.
    """
    survivors = config.clients - config.dropouts
    orphaned = round(config.dropouts * config.neighbours * survivors / (config.clients - 1))
    mask_s, add_s = _mask_seconds(config.suite, config.masked_modulus, min(config.masked_length, _MASKED))
    seal_s = envelope_add_s = open_s = 0.0
    if (parameters := config.envelope) is not None:
        seal_s, envelope_add_s, open_s = envelope_seconds(config, parameters)
    length = config.masked_length
    return CarrierCosts(
        client_s=seal_s + (config.neighbours + 1) * mask_s * length,
        server_s=survivors * (envelope_add_s + add_s * length)
        + config.groups * open_s
        + (survivors + orphaned) * mask_s * length,
        upload_bytes=config.masked_input_bytes,
    )


def _one_polynomial(parameters: EnvelopeParameters) -> EnvelopeParameters:
    return replace(parameters, length=min(parameters.length, parameters.degree * parameters.slots))


@lru_cache(maxsize=16)
def _mask_seconds(suite: Suite, modulus: Modulus, length: int) -> tuple[float, float]:
    """Of one mask, and of an addition, for each element."""
    keys = [os.urandom(suite.key_bytes) for _ in range(_MASKS)]
    vector, other = np.zeros(length, dtype=modulus.dtype), np.zeros(length, dtype=modulus.dtype)
    mask = _seconds(lambda: masking.apply_masks(suite, vector, keys, (), modulus))
    return mask / (_MASKS * length), _seconds(lambda: add(vector, other, modulus)) / length


@lru_cache(maxsize=16)
def _envelope_seconds(suite: Suite, parameters: EnvelopeParameters) -> tuple[float, float, float]:
    """To make an envelope, to add it to a sum, and to open the sum."""
    public = scheme.PublicPolynomials(suite, bytes(suite.key_bytes), parameters)
    vector = np.zeros(parameters.length, dtype=Modulus.ring(parameters.element_bits).dtype)
    total = scheme.empty_sum(parameters)

    def seal() -> bytearray:
        randomness = EnvelopeRandomness(bytes(SEED_BYTES))
        return scheme.encrypt(parameters, public, randomness.secret(parameters.degree), vector, randomness.errors)

    envelope = seal()
    scheme.add_envelope(parameters, total, envelope)
    secret = EnvelopeRandomness(bytes(SEED_BYTES)).secret(parameters.degree).astype(np.int64)
    opened = _seconds(lambda: scheme.open_sum(parameters, public, total, secret))
    return _seconds(seal), _seconds(lambda: scheme.add_envelope(parameters, total, envelope)), opened


def _seconds(work: Callable[[], object]) -> float:
    """CPU seconds of a call, after one that loads its kernels."""
    work()
    taken = []
    for _ in range(_REPEATS):
        started = time.thread_time()
        work()
        taken.append(time.thread_time() - started)
    return median(taken)
