"""The bytes that a client sends and gets in each phase when everybody is there, from the messages themselves."""

from __future__ import annotations

import random
from collections.abc import Collection

import msgspec

from secagg.pairwise import messages, records
from secagg.pairwise.config import RoundConfig
from secagg.pairwise.messages import (
    EXCHANGES,
    ID_BYTES,
    Advertise,
    Complaint,
    Confirm,
    Confirmations,
    Invitation,
    MaskedInput,
    Roster,
    Settled,
    Share,
    Shares,
    Survivors,
    Unmask,
    unmask,
)
from secagg.pairwise.phases import WITHOUT_COMPLAINTS, Phase, phases
from secagg.pairwise.transcript import DIGEST_BYTES

__all__ = ["traffic"]

_ID = bytes(DIGEST_BYTES)


def traffic(config: RoundConfig) -> dict[Phase, tuple[int, int]]:
    """By phase: bytes up, bytes down; none in a phase that the threat model does not have.

    Exact, but for the proof in a signed roster, a mean over graphs, and for the pair secrets of a hybrid suite: a
    client sends and gets half as many as it has neighbours, or one more.
    """
    model, neighbours, version = config.threat_model, config.neighbours, config.version
    bitmap = bytes((config.clients + 7) // 8)
    suite, key = config.suite, bytes(config.suite.public_key_bytes)
    sealed, commitments = bytes(neighbours * records.sealed_bytes(suite)), bytes(neighbours * records.COMMITMENTS_BYTES)
    secrets = bytes(neighbours // 2 * records.SEALED_SECRET_BYTES * suite.is_hybrid)
    signature = bytes(records.SIGNATURE_BYTES)
    roster = messages.roster(
        suite,
        version,
        _ID,
        _ID,
        bytes(records.keys_bytes(suite)),
        bytes(neighbours * ID_BYTES),
        bytes(neighbours * records.keys_bytes(suite)),
        b"",
        bytes(neighbours * records.SIGNATURE_BYTES * model.signs),
        bytes(_proof_hashes(config) * DIGEST_BYTES if model.signs else 0),
    )
    size_of = {
        Advertise: _size(messages.advertise(suite, version, _ID, key, key, signature if model.signs else b"")),
        Roster: _size(roster),
        Share: _size(messages.share(suite, version, _ID, _ID, sealed, commitments, pair_secrets=secrets)),
        Shares: _size(
            messages.shares(
                suite, version, _ID, bytes(neighbours * ID_BYTES), sealed, commitments, pair_secrets=secrets
            )
        ),
        MaskedInput: _masked_size(config),
        Survivors: _size(Survivors(version, _ID, bitmap)),
        Confirm: _size(Confirm(version, _ID, signature)),
        Confirmations: _size(Confirmations(version, _ID, bitmap, signature * config.quorum)),
        Unmask: _size(unmask(version, _ID, bytes(neighbours * records.OPENING_BYTES), bytes(config.attachment_bytes))),
    }
    if config.complaints:  # when nobody complains, and nobody is asked for an answer
        size_of |= {
            Complaint: _size(Complaint(version, _ID, b"", b"")),
            Settled: _size(Settled(version, _ID, bytes(neighbours * ID_BYTES), b"", b"")),
        }
    sizes = dict.fromkeys(Phase if config.complaints else WITHOUT_COMPLAINTS, (0, 0))
    down = _size(Invitation(version, _ID, config.to_bytes(), _ID))
    for phase in phases(model, complaints=config.complaints > 0):
        if phase is Phase.ANSWER:
            continue
        closing = EXCHANGES[Phase.ANSWER if phase is Phase.COMPLAIN else phase].closing
        sizes[phase] = size_of[EXCHANGES[phase].answer], down
        down = size_of[closing] if closing is not None else 0
    return sizes


def _size(message: msgspec.Struct) -> int:
    return len(msgspec.msgpack.encode(message))


def _masked_size(config: RoundConfig) -> int:
    """Without making the vector, which may be large: MessagePack's header of it has 2, 3 or 5 bytes."""
    packed = config.masked_input_bytes
    header = 2 if packed < 1 << 8 else 3 if packed < 1 << 16 else 5
    return _size(MaskedInput(config.version, _ID, memoryview(b""))) - 2 + header + packed


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
