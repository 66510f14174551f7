"""The least that a round can cost on this machine: primitives counted, times what each of them takes here.

    costs = measure(config)
    client_work(config).seconds(costs)

A round's floor is its keystream at the speed of ``cryptography``'s AES-CTR, its key agreements (of a hybrid suite also
what ML-KEM encapsulates and decapsulates), the signatures made and verified, and one NumPy addition for every vector
sent or received.  What else a round needs (hashing, sealing, secret sharing, packing) is overhead by this measure, so
that time over floor shows how much of it there is.

The primitives are called as the libraries offer them, not through ``secagg.primitives``, and where both have one, the
faster counts: a floor must not move with the code that is held against it.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final, TypeAlias, assert_never

import nacl.bindings
import numpy as np
import numpy.typing as npt
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey
from cryptography.hazmat.primitives.ciphers import Cipher
from cryptography.hazmat.primitives.ciphers.algorithms import AES
from cryptography.hazmat.primitives.ciphers.modes import CTR

from secagg.pairwise.config import RoundConfig
from secagg.pairwise.phases import Phase
from secagg.primitives.suites import Cipher as MaskCipher
from secagg.primitives.suites import Suite
from secagg.simulation.rounds import Outcome

__all__ = ["UnitCosts", "Work", "client_work", "mask_bytes", "measure", "server_work", "work_of"]

Flags: TypeAlias = npt.NDArray[np.bool_]

_BLOCK_BYTES: Final = 1 << 18  # of keystream at a time
_LEAST_SAMPLE_S: Final = 1e-3  # a sample is repeated until it takes this long: clocks tick
_SAMPLES: Final = 7
"""The least of them counts: what else the machine does only ever adds time."""


@dataclass(frozen=True, slots=True, kw_only=True)
class UnitCosts:
    """CPU seconds of one primitive each, the best of several samples.

    Attributes:
        keystream_s_per_byte: AES-CTR keystream, in blocks of 256 KiB.
        agreement_s: an X25519 exchange.
        encapsulation_s, decapsulation_s: of ML-KEM-768 under a key that is at hand; 0 where the suite has none.
        sign_s, verify_s: an Ed25519 signature of a short message.
        add_s: a NumPy addition of one ring vector to another, in place.
    """

    keystream_s_per_byte: float
    agreement_s: float
    encapsulation_s: float = 0.0
    decapsulation_s: float = 0.0
    sign_s: float
    verify_s: float
    add_s: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Work:
    """How often one party needs each primitive."""

    keystream_bytes: int = 0
    agreements: int = 0
    encapsulations: int = 0
    decapsulations: int = 0
    signed: int = 0
    verified: int = 0
    vectors: int = 0
    """Sent or received."""

    def seconds(self, costs: UnitCosts) -> float:
        """The floor of this work, in CPU seconds."""
        return (
            self.keystream_bytes * costs.keystream_s_per_byte
            + self.agreements * costs.agreement_s
            + self.encapsulations * costs.encapsulation_s
            + self.decapsulations * costs.decapsulation_s
            + self.signed * costs.sign_s
            + self.verified * costs.verify_s
            + self.vectors * costs.add_s
        )


def measure(config: RoundConfig) -> UnitCosts:
    """Time the primitives of a round in this thread; takes a tenth of a second, more for very long vectors."""
    message = os.urandom(64)
    total, vector = (np.ones(config.length, config.modulus.dtype) for _ in range(2))
    encapsulation_s, decapsulation_s = map(_seconds, _encapsulations()) if config.suite.is_hybrid else (0.0, 0.0)
    return UnitCosts(
        keystream_s_per_byte=_seconds(_keystream_block(config.suite)) / _BLOCK_BYTES,
        agreement_s=min(map(_seconds, _agreements())),
        encapsulation_s=encapsulation_s,
        decapsulation_s=decapsulation_s,
        sign_s=min(map(_seconds, _signings(message))),
        verify_s=min(map(_seconds, _verifications(message))),
        add_s=_seconds(lambda: np.add(total, vector, out=total)),
    )


# One call each: the keystream's next block, and what both libraries offer.


def _keystream_block(suite: Suite) -> Callable[[], object]:
    if suite.cipher is not MaskCipher.AES_CTR:
        assert_never(suite.cipher)
    encryptor = Cipher(AES(os.urandom(suite.key_bytes)), CTR(bytes(16))).encryptor()
    zeros, out = bytes(_BLOCK_BYTES), bytearray(_BLOCK_BYTES)
    return lambda: encryptor.update_into(zeros, out)


def _agreements() -> list[Callable[[], object]]:
    key, peer = X25519PrivateKey.generate(), X25519PrivateKey.generate().public_key()
    private, public = key.private_bytes_raw(), peer.public_bytes_raw()
    return [lambda: key.exchange(peer), lambda: nacl.bindings.crypto_scalarmult(private, public)]


def _encapsulations() -> list[Callable[[], object]]:
    from cryptography.hazmat.primitives.asymmetric.mlkem import MLKEM768PrivateKey  # 47 and newer

    private = MLKEM768PrivateKey.from_seed_bytes(os.urandom(64))
    public = private.public_key()
    _, ciphertext = public.encapsulate()
    return [public.encapsulate, lambda: private.decapsulate(ciphertext)]


def _signings(message: bytes) -> list[Callable[[], object]]:
    key = Ed25519PrivateKey.generate()
    _, secret = nacl.bindings.crypto_sign_seed_keypair(key.private_bytes_raw())
    return [lambda: key.sign(message), lambda: nacl.bindings.crypto_sign(message, secret)]


def _verifications(message: bytes) -> list[Callable[[], object]]:
    key = Ed25519PrivateKey.generate()
    public, signature = key.public_key(), key.sign(message)
    raw, signed = public.public_bytes_raw(), signature + message
    return [lambda: public.verify(signature, message), lambda: nacl.bindings.crypto_sign_open(signed, raw)]


def mask_bytes(config: RoundConfig) -> int:
    """Bytes of one mask's keystream: a lane an element."""
    return config.length * config.modulus.dtype.itemsize


def client_work(config: RoundConfig, *, present: int | None = None, dealers: int | None = None) -> Work:
    """What a client does that stays to the end.

    Args:
        present: how many of its neighbours advertised; all when not given.
        dealers: how many of those dealt shares, so that it masks against them; all when not given.
    """
    present = config.neighbours if present is None else present
    dealers = present if dealers is None else dealers
    hybrid = config.suite.is_hybrid
    return Work(
        keystream_bytes=(dealers + 1) * mask_bytes(config),
        agreements=present + dealers,  # of the channel keys, and of the masking keys
        encapsulations=hybrid * (present + present // 2),  # to all channel keys, and to half of the masking keys
        decapsulations=hybrid * (dealers + dealers // 2),
        signed=config.threat_model.signs + config.threat_model.confirms,  # its keys, and the survivors
        verified=present * config.threat_model.signs + config.quorum,
        vectors=1,
    )


def server_work(
    config: RoundConfig,
    *,
    survivors: int,
    orphaned_pairs: int,
    advertised: int | None = None,
    confirmed: int | None = None,
) -> Work:
    """What the server does.

    Args:
        survivors: whose masked vectors came.
        orphaned_pairs: pairs of a survivor and a neighbour of its that was lost in MASK: their masks did not cancel.
        advertised: whose keys came; everybody's when not given.
        confirmed: ``active``: whose confirmations came; every survivor's when not given.
    """
    advertised = config.clients if advertised is None else advertised
    confirmed = survivors if confirmed is None else confirmed
    return Work(
        keystream_bytes=(survivors + orphaned_pairs) * mask_bytes(config),
        agreements=orphaned_pairs,
        decapsulations=config.suite.is_hybrid * (orphaned_pairs // 2),  # the lost client is the sealer of the others
        verified=advertised * config.threat_model.signs + confirmed * config.threat_model.confirms,
        vectors=survivors,
    )


def work_of(outcome: Outcome, config: RoundConfig) -> tuple[Work, Work]:
    """What the median client (of those in the sum) and the server did in a simulated round.

    Raises ValueError when the round was aborted.
    """
    if outcome.result is None or outcome.graph is None:
        raise ValueError("the round was aborted: there is no floor for work that was not done")

    def without(members: Flags, phase: Phase) -> Flags:
        remaining = members.copy()
        remaining[np.asarray(outcome.dropped.get(phase, ()), dtype=np.int64)] = False
        return remaining

    advertised = without(np.ones(config.clients, dtype=np.bool_), Phase.ADVERTISE)
    shared = without(advertised, Phase.SHARE)
    survivors = without(shared, Phase.MASK)
    present, dealers, surviving = (outcome.graph.count_within(members) for members in (advertised, shared, survivors))
    client = client_work(
        config, present=round(float(np.median(present[survivors]))), dealers=round(float(np.median(dealers[survivors])))
    )
    server = server_work(
        config,
        survivors=int(survivors.sum()),
        orphaned_pairs=int(surviving[shared & ~survivors].sum()),
        advertised=int(advertised.sum()),
        confirmed=int(survivors.sum()) - len(outcome.dropped.get(Phase.CONFIRM, ())),
    )
    return client, server


def _seconds(work: Callable[[], object]) -> float:
    """CPU seconds of one call: the best of several samples, each long enough for the clock."""
    calls = 1
    while (elapsed := _sample(work, calls)) < _LEAST_SAMPLE_S:
        calls *= 2
    return min(elapsed, *(_sample(work, calls) for _ in range(_SAMPLES))) / calls


def _sample(work: Callable[[], object], calls: int) -> float:
    started = time.thread_time()
    for _ in range(calls):
        work()
    return time.thread_time() - started
