"""The bytes that a client sends and gets in each phase when everybody is there, from the messages themselves."""

from __future__ import annotations

import random
from collections.abc import Collection

import msgspec

from secagg.pairwise import records
from secagg.pairwise.config import RoundConfig
from secagg.pairwise.messages import (
    ID_BYTES,
    Advertise,
    Confirm,
    Confirmations,
    Invitation,
    MaskedInput,
    Roster,
    Share,
    Shares,
    Survivors,
    Unmask,
)
from secagg.pairwise.transcript import DIGEST_BYTES, VERSION

__all__ = ["traffic"]

_ID = bytes(DIGEST_BYTES)


def traffic(config: RoundConfig) -> dict[str, tuple[int, int]]:
    """By phase: bytes up, bytes down.  Exact, but for the proof in an ``active`` roster: a mean over graphs."""
    active, near = config.is_active, config.neighbours
    bitmap = bytes((config.clients + 7) // 8)
    survivors = _size(Survivors(VERSION, _ID, bitmap))
    confirmations = _size(Confirmations(VERSION, _ID, bitmap, bytes(config.quorum * records.SIGNATURE_BYTES)))
    sealed, commitments = bytes(near * records.SEALED_BYTES), bytes(near * records.COMMITMENTS_BYTES)
    roster = Roster(
        VERSION,
        _ID,
        _ID,
        bytes(records.KEYS_BYTES),
        bytes(near * ID_BYTES),
        bytes(near * records.KEYS_BYTES),
        b"",
        bytes(near * records.SIGNATURE_BYTES if active else 0),
        bytes(_proof_hashes(config) * DIGEST_BYTES if active else 0),
    )
    advertise = Advertise(VERSION, _ID, _ID, _ID, bytes(records.SIGNATURE_BYTES if active else 0))
    shares = Shares(VERSION, _ID, bytes(near * ID_BYTES), sealed, commitments)
    return {
        "ADVERTISE": (_size(advertise), _size(Invitation(VERSION, _ID, config.to_bytes(), _ID))),
        "SHARE": (_size(Share(VERSION, _ID, _ID, sealed, commitments)), _size(roster)),
        "MASK": (_masked_size(config), _size(shares)),
        "CONFIRM": (_size(Confirm(VERSION, _ID, bytes(records.SIGNATURE_BYTES))), survivors) if active else (0, 0),
        "UNMASK": (
            _size(Unmask(VERSION, _ID, bytes(near * records.OPENING_BYTES))),
            confirmations if active else survivors,
        ),
    }


def _size(message: msgspec.Struct) -> int:
    return len(msgspec.msgpack.encode(message))


def _masked_size(config: RoundConfig) -> int:
    """Without making the vector, which may be large: MessagePack's header of it has 2, 3 or 5 bytes."""
    packed = config.modulus.packed_bytes(config.length)
    header = 2 if packed < 1 << 8 else 3 if packed < 1 << 16 else 5
    return _size(MaskedInput(VERSION, _ID, memoryview(b""))) - 2 + header + packed


def _proof_hashes(config: RoundConfig, samples: int = 20) -> int:
    """How many Merkle hashes prove a client's leaf and its neighbours': the mean over random neighbours."""
    draw = random.Random(0)
    found = [
        _hashes_beside(draw.sample(range(config.clients), config.neighbours + 1), config.clients)
        for _ in range(samples)
    ]
    return round(sum(found) / samples)


def _hashes_beside(leaves: Collection[int], clients: int) -> int:
    known, width, hashes = set(leaves), clients, 0
    while width > 1:
        hashes += sum(place ^ 1 not in known and place ^ 1 < width for place in known)
        known, width = {place >> 1 for place in known}, (width + 1) >> 1
    return hashes
