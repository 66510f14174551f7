"""What the server takes from a client's message, phase by phase.

A fault is a PeerError, and then nothing has changed.
"""

from __future__ import annotations

from typing import Final

import numpy as np

from secagg import arithmetic, crypto, messages, secret_sharing, transcript
from secagg.errors import ErrorCode, PeerError
from secagg.events import Misbehaved
from secagg.messages import Abort, Advertise, Confirm, MaskedInput, Share, ToServer, Unmask
from secagg.server_round import Round
from secagg.server_state import Advert
from secagg.transcript import KEY_SHARE, SEED_SHARE

_PACKED_FAULTS: Final = {
    arithmetic.PackedLengthError: ErrorCode.WRONG_LENGTH,
    arithmetic.PackedPaddingError: ErrorCode.PADDING,
    arithmetic.PackedElementError: ErrorCode.ELEMENT_RANGE,
}


def take(round_: Round, sender: int, message: ToServer) -> Misbehaved | None:
    """Take a message of the current phase, the sender's first.

    Returns what was wrong with a part of a message whose other parts count.  Raises PeerError when nothing of it does.
    """
    match message:
        case Advertise():
            _take_advert(round_, sender, message)
        case Share():
            _take_share(round_, sender, message)
        case MaskedInput():
            _take_masked(round_, sender, message)
        case Confirm():
            _take_confirm(round_, sender, message)
        case Unmask():
            return _take_openings(round_, sender, message)
        case Abort():
            raise PeerError(ErrorCode.WRONG_PHASE, "an ABORT is no answer")
    return None


def _take_advert(round_: Round, sender: int, message: Advertise) -> None:
    """Two usable keys that nobody advertised before; in ``active`` signed by the sender's identity."""
    config, keys = round_.config, (message.channel_key, message.masking_key)
    if len(message.signature) != (messages.SIGNATURE_BYTES if config.is_active else 0):
        raise PeerError(ErrorCode.MALFORMED, f"a signature of {len(message.signature)} bytes in {config.threat_model}")
    # What a neighbour would refuse to share with never gets into the roster.
    if any(crypto.has_low_order(key) for key in keys):
        raise PeerError(ErrorCode.KEY_UNUSABLE, "a public key of low order")
    if keys[0] == keys[1] or not round_.keys_seen.isdisjoint(keys):
        raise PeerError(ErrorCode.KEY_REPEATED, "a public key that was advertised before")
    if config.is_active:
        signed = transcript.signed_advertisement(config.digest, round_.nonce, sender, *keys)
        _verify(round_, sender, signed, message.signature)
    round_.keys_seen.update(keys)
    round_.data.adverts[sender] = Advert(*keys, message.signature)


def _verify(round_: Round, sender: int, signed: bytes, signature: bytes) -> None:
    try:
        crypto.verify(round_.identities[sender], signed, signature)
    except crypto.CryptoError:
        raise PeerError(ErrorCode.BAD_SIGNATURE, f"a signature that is not client {sender}'s") from None


def _take_share(round_: Round, sender: int, message: Share) -> None:
    """Sealed shares and commitments go to the dealer's entries."""
    data, span = round_.data, round_.edges.span(sender)
    if data.sealed is None or data.commitments is None:
        raise RuntimeError("no place for shares")
    count = span.stop - span.start
    for name, blob, size in (
        ("sealed shares", message.sealed, messages.SEALED_BYTES),
        ("commitments", message.commitments, messages.COMMITMENTS_BYTES),
    ):
        if len(blob) != count * size:
            raise PeerError(
                ErrorCode.WRONG_LENGTH, f"{len(blob)} bytes of {name}; {count} neighbours need {count * size}"
            )
    data.sealed[span] = np.frombuffer(message.sealed, dtype=np.uint8).reshape(count, -1)
    data.commitments[span] = np.frombuffer(message.commitments, dtype=np.uint8).reshape(count, -1)
    data.seed_commitments[sender] = message.seed_commitment


def _take_masked(round_: Round, sender: int, message: MaskedInput) -> None:
    """Add it up; a vector that is refused leaves the sum as it was."""
    data = round_.data
    if data.accumulator is None:
        raise RuntimeError("no place for masked inputs")
    try:
        arithmetic.add_packed(data.accumulator, message.vector, round_.config.modulus)
    except arithmetic.PackedError as refused:
        raise PeerError(_PACKED_FAULTS[type(refused)], str(refused)) from None
    data.masked.append(sender)


def _take_confirm(round_: Round, sender: int, message: Confirm) -> None:
    """A signature over the very survivors that this server shows."""
    signed = transcript.signed_survivors(round_.data.session, round_.survivors_bitmap)
    _verify(round_, sender, signed, message.signature)
    round_.data.signatures[sender] = message.signature


def _take_openings(round_: Round, sender: int, message: Unmask) -> Misbehaved | None:
    """Shares that match their commitments count; bad ones are left out, and their sender is named."""
    data, edges = round_.data, round_.edges
    if data.openings is None or data.opened is None or data.commitments is None:
        raise RuntimeError("no place for shares")
    present = edges.neighbours(sender)
    shared = round_.shared[present]
    dealers = present[shared]
    if len(message.openings) != len(dealers) * messages.OPENING_BYTES:
        raise PeerError(
            ErrorCode.WRONG_LENGTH,
            f"{len(message.openings)} bytes of shares; {len(dealers)} neighbours need "
            f"{len(dealers) * messages.OPENING_BYTES}",
        )
    records = np.frombuffer(message.openings, dtype=np.uint8).reshape(len(dealers), messages.OPENING_BYTES)
    shares, salts = np.split(records, [messages.SHARE_BYTES], axis=1)
    blob = shares.tobytes()
    good = ~secret_sharing.bad_shares(blob)
    committed = data.commitments[edges.toward(sender)[shared]].reshape(-1, 2, 32)
    kinds = np.where(round_.survivors[dealers], SEED_SHARE, KEY_SHARE)
    returned = transcript.share_commitments(data.session, dealers, sender, kinds, salts, shares)
    good &= (np.frombuffer(returned, dtype=np.uint8).reshape(-1, 32) == committed[np.arange(len(dealers)), kinds]).all(
        axis=1
    )
    entries = np.arange(edges.span(sender).start, edges.span(sender).stop)[shared]
    data.openings[entries] = np.frombuffer(blob, dtype="<u8").reshape(len(dealers), -1)
    data.opened[entries] = good
    if good.all():
        return None
    bad = tuple(dealers[~good].tolist())
    detail = f"{len(bad)} of {len(dealers)} shares do not match their commitments; they are left out"
    return Misbehaved(sender, "UNMASK", ErrorCode.BAD_SHARE, detail, bad)
