"""Parts of a round through libraries that run a round in another way: a client's masks, and secret sharing.

- declearn's clients quantise and mask an update by ``MaskingEncrypter.encrypt_vector``; ours by an ``Encoder``, the
  masks of as many neighbours, and packing.  Both get float32 values and 32 bits an element, and agree on no keys.
- A secret of 256 bits shared among some holders, and reconstructed from as few as can, by ``declearn.secagg.shamir``,
  by ``shamirs``, and by ``secagg.primitives.secret_sharing``; theirs modulo 2^256 + 297, ours in five elements modulo
  2^61 - 1.

CPU is the process's; the median of some calls after a first one, or that one
where it takes seconds.  What each library gives is checked before.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from importlib.metadata import version
from importlib.util import find_spec
from statistics import median
from typing import Any

import numpy as np

from secagg import Encoder, Modulus, Suite, arithmetic
from secagg.arithmetic.modulus import MERSENNE_61
from secagg.encoding import Template
from secagg.primitives import masking, secret_sharing

from .measured import CLIP

PEERS = ("declearn", "shamirs")
_PRIME = 2**256 + 297
_BITS = 32
_CALLS = 3
_LONG_S = 2.0


@dataclass(frozen=True, slots=True)
class Part:
    """One line: CPU seconds of a peer, and ours for the same."""

    what: str
    peer: str
    peer_s: float
    ours_s: float


def missing() -> list[str]:
    """The peers that are not installed."""
    return [name for name in PEERS if find_spec(name) is None]


def measure(quick: bool) -> Iterator[Part]:
    """The parts through whichever peers are installed."""
    here = [name for name in PEERS if name not in missing()]
    if "declearn" in here:
        for dim, neighbours in ((1_000, 5),) if quick else ((100_000, 20), (100_000, 99), (1_000_000, 99)):
            yield _masking(dim, neighbours)
    for threshold, holders in ((5, 9),) if quick else ((51, 100), (334, 500)):
        yield from _sharing(threshold, holders, here)


def _masking(dim: int, neighbours: int) -> Part:
    from declearn.model.sklearn import NumpyVector

    values = np.random.default_rng(dim).uniform(-1, 1, dim).astype(np.float32)
    update = NumpyVector({"update": values})
    _check_declearn(update)
    half, seeds = neighbours // 2, list(range(neighbours))
    theirs = _declearn(seeds[:half], seeds[half:])
    encoder = Encoder(Template.from_shapes((dim,)), clip=CLIP, bits=_BITS - (neighbours + 1).bit_length())
    keys, modulus = [os.urandom(16) for _ in range(neighbours)], Modulus.ring(_BITS)

    def ours() -> bytes:
        vector = encoder.encode(values).astype(modulus.dtype, copy=False)
        masking.apply_masks(Suite.AES_128, vector, keys[:half], keys[half:], modulus)
        return arithmetic.pack(vector, modulus)

    what = f"a client's masks, m = {dim:,}, {neighbours} neighbours"
    return Part(what, _named("declearn"), _seconds(lambda: theirs.encrypt_vector(update)), _seconds(ours))


def _declearn(add: list[int], subtract: list[int]) -> Any:
    from declearn.secagg.masking import MaskingEncrypter

    return MaskingEncrypter(add, subtract, bitsize=_BITS, clipval=CLIP)


def _check_declearn(update: Any) -> None:
    """Two clients' masks cancel."""
    from declearn.secagg.masking import MaskingDecrypter

    one, shape = _declearn([7], []).encrypt_vector(update)
    other, _ = _declearn([], [7]).encrypt_vector(update)
    decrypter = MaskingDecrypter(2, bitsize=_BITS, clipval=CLIP)
    both = [decrypter.sum_encrypted([a, b]) for a, b in zip(one, other, strict=True)]
    total = decrypter.decrypt_vector(both, shape).coefs["update"]
    if not np.allclose(total, 2 * update.coefs["update"], atol=1e-4):
        raise SystemExit("declearn: the masks of two clients do not cancel")


def _sharing(threshold: int, holders: int, peers: list[str]) -> Iterator[Part]:
    secret, ids = os.urandom(32), np.arange(holders)

    def share() -> Any:
        drawn = masking.expand(Suite.AES_128, os.urandom(16), 0, 5 * (threshold - 1), Modulus(MERSENNE_61))
        return secret_sharing.share(secret, ids, threshold, drawn.reshape(5, threshold - 1))

    def reconstruct() -> bytes | None:
        reconstructor = secret_sharing.Reconstructor(threshold, shares)
        reconstructor.add(ids[:threshold], range(threshold))
        return reconstructor.secrets()[0]

    shares = share()
    if reconstruct() != secret:
        raise SystemExit("secagg: the shares do not give the secret")
    share_s, reconstruct_s = _seconds(share), _seconds(reconstruct)
    makers = {"declearn": _declearn_shamir, "shamirs": _shamirs}
    for name in peers:
        deal, recover = makers[name](int.from_bytes(secret, "big"), threshold, holders)
        if recover() != int.from_bytes(secret, "big"):
            raise SystemExit(f"{name}: the shares do not give the secret")
        what = f"256 bits among {holders}, {threshold} of them suffice"
        yield Part(f"share {what}", _named(name), _seconds(deal), share_s)
        yield Part(f"reconstruct {what}", _named(name), _seconds(recover), reconstruct_s)


def _declearn_shamir(secret: int, threshold: int, holders: int) -> tuple[Callable[[], Any], Callable[[], int]]:
    from declearn.secagg.shamir import generate_secret_shares, recover_shared_secret

    shares = generate_secret_shares(secret, holders, threshold, mprime=_PRIME)
    return (
        lambda: generate_secret_shares(secret, holders, threshold, mprime=_PRIME),
        lambda: recover_shared_secret(shares[:threshold], mprime=_PRIME),
    )


def _shamirs(secret: int, threshold: int, holders: int) -> tuple[Callable[[], Any], Callable[[], int]]:
    import shamirs

    shares = shamirs.shares(secret, holders, modulus=_PRIME, threshold=threshold)
    return (
        lambda: shamirs.shares(secret, holders, modulus=_PRIME, threshold=threshold),
        lambda: shamirs.interpolate(shares[:threshold], threshold=threshold),
    )


def _named(peer: str) -> str:
    return f"{peer} {version(peer)}"


def _seconds(work: Callable[[], object]) -> float:
    first = _once(work)
    return first if first > _LONG_S else median(_once(work) for _ in range(_CALLS))


def _once(work: Callable[[], object]) -> float:
    started = time.process_time()
    work()
    return time.process_time() - started
