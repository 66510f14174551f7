"""What a server refuses of what a client sends it, in the order of the protocol.

A refused message changes nothing, so that its sender can still send the right one (R-WIRE-10).
"""

from __future__ import annotations

import itertools
from collections.abc import Collection, Mapping, Sequence
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from secagg import arithmetic
from secagg.arithmetic import Modulus
from secagg.envelopes import scheme
from secagg.envelopes.parameters import EnvelopeParameters
from secagg.errors import ErrorCode, PeerError
from secagg.events import Misbehaved
from secagg.pairwise.phases import Phase
from secagg.primitives import aead, agreement, kem, signing, suites
from secagg.primitives.suites import Suite
from secagg.wording import counted, was

_PACKED_FAULTS: Final[Mapping[type[arithmetic.PackedError], ErrorCode]] = {
    arithmetic.PackedLengthError: ErrorCode.WRONG_LENGTH,
    arithmetic.PackedPaddingError: ErrorCode.PADDING,
    arithmetic.PackedElementError: ErrorCode.ELEMENT_RANGE,
}


# Every message.


def sender_invited(sender: object, clients: int) -> None:
    """R-WIRE-10: the sender that the host's channel names is of the cohort."""
    if isinstance(sender, bool) or not isinstance(sender, int) or not 0 <= sender < clients:
        raise PeerError(ErrorCode.UNKNOWN_SENDER, f"sender {sender!r}; this round's clients are 0 to {clients - 1}")


# ADVERTISE: what a neighbour would refuse never gets into the roster.


def signature_sized(length: int, expected: int, threat_model: str) -> None:
    """R-ADVERTISE-4: the signature is as long as one is, or empty where nothing is signed."""
    if length != expected:
        raise PeerError(ErrorCode.MALFORMED, f"a signature of {counted(length, 'byte')} in {threat_model}")


def advertised_keys_usable(suite: Suite, keys: Collection[bytes]) -> None:
    """R-ADVERTISE-4: no key has low order; a hybrid one's other half passes its check (R-HYBRID-3)."""
    if any(agreement.has_low_order(suite, key) for key in keys):
        raise PeerError(ErrorCode.KEY_UNUSABLE, "a public key of low order")
    if suite.is_hybrid and not kem.are_encapsulation_keys([key[agreement.PUBLIC_KEY_BYTES :] for key in keys]):
        raise PeerError(ErrorCode.KEY_UNUSABLE, "a public key that is no ML-KEM-768 encapsulation key")


def advertised_keys_new(keys: Collection[bytes], known: Collection[bytes]) -> None:
    """R-ADVERTISE-4: the keys differ from each other, and from all ``known``: those that were taken before.

    In a hybrid suite (R-HYBRID-3) these are the halves of the keys, each by itself.
    """
    if len(set(keys)) != len(keys) or any(key in known for key in keys):
        raise PeerError(ErrorCode.KEY_REPEATED, "a public key that was advertised before")


def advertisement_signed(identity_key: bytes, signed: bytes, signature: bytes, sender: int) -> None:
    """R-ADVERTISE-4: the sender's identity signed its keys."""
    _signed_by(identity_key, signed, signature, sender)


# SHARE.


def shares_sized(what: str, length: int, size: int, neighbours: int) -> None:
    """R-SHARE-8, R-HYBRID-9: ``length`` bytes are a record of ``size`` bytes for each of these neighbours."""
    if length != neighbours * size:
        raise PeerError(
            ErrorCode.WRONG_LENGTH,
            f"{counted(length, 'byte')} of {what}; {neighbours * size:,} are needed, for "
            f"{counted(neighbours, 'neighbour')}",
        )


# COMPLAIN and ANSWER.


def complaint_sized(dealers: Sequence[int], sent: Collection[int], most: int, signatures: int, size: int) -> None:
    """R-COMPLAIN-5: up to r of the dealers whose shares this holder was sent, ascending, and a signature for each.

    ``signatures`` has so many bytes, ``size`` for each dealer.
    """
    ascending = all(earlier < later for earlier, later in itertools.pairwise(dealers))
    if not ascending or len(dealers) > most or not set(dealers) <= set(sent):
        raise PeerError(
            ErrorCode.COMPLAINT_DEALERS,
            f"a complaint about {counted(len(dealers), 'dealer')}; it must be about at most {most} whose shares were "
            "sent, ascending",
        )
    if signatures != size * len(dealers):
        raise PeerError(
            ErrorCode.WRONG_LENGTH,
            f"{counted(signatures, 'byte')} of signatures; {size * len(dealers):,} are needed",
        )


def complaint_signed(identity_key: bytes, signed: bytes, signature: bytes, sender: int) -> None:
    """R-COMPLAIN-5: the holder signed over the bytes that this server sent it."""
    _signed_by(identity_key, signed, signature, sender)


def answer_sized(pairs: int, signatures: int, expected: tuple[int, int]) -> None:
    """R-COMPLAIN-9: a pair, and a signature, for each complaint; ``expected`` has the bytes of both."""
    if (pairs, signatures) != expected:
        raise PeerError(
            ErrorCode.WRONG_LENGTH,
            f"an answer of {counted(pairs, 'byte')} of pairs and {signatures:,} of signatures; {expected[0]:,} and "
            f"{expected[1]:,} are needed",
        )


def answer_committed(good: bool, holder: int) -> None:
    """R-COMPLAIN-9: the pair is in the field, and is what its dealer committed to."""
    if not good:
        raise PeerError(
            ErrorCode.BAD_ANSWER, f"the pair that is opened for client {holder} is not what was committed to"
        )


def answer_signed(identity_key: bytes, signed: bytes, signature: bytes, sender: int) -> None:
    """R-COMPLAIN-9: the dealer signed the pair that it opens."""
    _signed_by(identity_key, signed, signature, sender)


def conflicts_few(member: int, others: Collection[int], most: int) -> Misbehaved | None:
    """R-COMPLAIN-10: whoever is in conflict with more than r others lied to some of them."""
    if len(others) <= most:
        return None
    detail = f"in conflict over shares with {counted(len(others), 'client')}; more than {most} of them do not lie"
    return Misbehaved(member, Phase.COMPLAIN, ErrorCode.DISPUTED, detail, tuple(sorted(others)))


# MASK.


def vector_added(total: npt.NDArray[np.unsignedinteger[Any]], packed: memoryview, modulus: Modulus) -> None:
    """R-MASK-6: the vector has the round's length, no bit behind its end, and no element outside of the modulus.

    Adds it to ``total``; a vector that is refused leaves that as it was.
    """
    try:
        arithmetic.add_packed(total, packed, modulus)
    except arithmetic.PackedError as refused:
        raise PeerError(_PACKED_FAULTS[type(refused)], str(refused)) from None


def masked_input_sized(length: int, expected: int) -> None:
    """R-ENV-7: masked key and envelope together have the round's length."""
    if length != expected:
        raise PeerError(
            ErrorCode.WRONG_LENGTH,
            f"{counted(length, 'byte')} of masked key and envelope; this round's have {expected:,}",
        )


def envelope_added(
    total: npt.NDArray[np.unsignedinteger[Any]], envelope: memoryview, parameters: EnvelopeParameters
) -> None:
    """R-ENV-7: every residue of the envelope is below its prime.

    Adds it to ``total``; an envelope that is refused leaves that as it was.
    """
    try:
        scheme.add_envelope(parameters, total, envelope)
    except scheme.EnvelopeError as refused:
        raise PeerError(ErrorCode.ELEMENT_RANGE, str(refused)) from None


# CONFIRM.


def confirmation_signed(identity_key: bytes, signed: bytes, signature: bytes, sender: int) -> None:
    """R-CONFIRM-2: the sender's identity signed the survivors that this server showed."""
    _signed_by(identity_key, signed, signature, sender)


# UNMASK.


def openings_sized(length: int, size: int, dealers: int) -> None:
    """R-UNMASK-4: ``length`` bytes are an opening of ``size`` bytes for each of the sender's dealers."""
    if length != dealers * size:
        raise PeerError(
            ErrorCode.WRONG_LENGTH,
            f"{counted(length, 'byte')} of shares; {dealers * size:,} are needed, for {counted(dealers, 'neighbour')}",
        )


def attachment_sized(length: int, expected: int) -> None:
    """R-ATTACH-4: what the sender's host attached is as long as the config says; in version 1, nothing."""
    if length != expected:
        raise PeerError(
            ErrorCode.WRONG_LENGTH, f"an attachment of {counted(length, 'byte')}; this round's have {expected:,}"
        )


def openings_committed(
    canonical: npt.NDArray[np.bool_], commitments: npt.NDArray[np.uint8], expected: npt.NDArray[np.uint8]
) -> npt.NDArray[np.bool_]:
    """R-UNMASK-4: which openings count: canonical shares that match their dealers' commitments.

    ``commitments`` are those of the opened shares, ``expected`` the dealers', both of shape (dealers, 32).
    """
    matching: npt.NDArray[np.bool_] = canonical & (commitments == expected).all(axis=1)
    return matching


def bad_openings(sender: int, dealers: npt.NDArray[Any], good: npt.NDArray[np.bool_]) -> Misbehaved | None:
    """R-UNMASK-4: whoever returns a share that does not count is named; its other shares count all the same.

    Returns what to tell the host, with the dealers of the bad shares; None when all shares are good.
    """
    if good.all():
        return None
    bad = tuple(dealers[~good].tolist())
    detail = f"{counted(len(bad), 'share')} of {len(dealers)} {was(len(bad))} left out: not what was committed to"
    return Misbehaved(sender, Phase.UNMASK, ErrorCode.BAD_SHARE, detail, bad)


# COMPUTE: what the shares of one dealer open to; every one of them matched what it had committed to.


def secret_in_range(secret: bytes | None, dealer: int) -> bytes:
    """R-UNMASK-7: no limb is too large for the secret's 256 bits; ``secret`` is None where one is."""
    if secret is None:
        raise _bad_dealer(dealer, "its shares reconstruct to a number out of range")
    return secret


def seed_committed(commitment: bytes, expected: bytes, dealer: int) -> None:
    """R-UNMASK-7: the seed is the one that its dealer committed to."""
    if commitment != expected:
        raise _bad_dealer(dealer, "its self-mask seed is not the one that it committed to")


def envelopes_opened(
    parameters: EnvelopeParameters,
    public: scheme.PublicPolynomials,
    total: npt.NDArray[np.uint32],
    secrets: npt.NDArray[np.int64],
) -> npt.NDArray[np.unsignedinteger[Any]]:
    """R-ENV-8: a sum of envelopes holds no more noise than well-formed ones have; whose fault more is, nothing shows.

    Returns the sum of the vectors, as ``scheme.open_sum`` does.
    """
    try:
        return scheme.open_sum(parameters, public, total, secrets)
    except scheme.NoiseError as refused:
        raise PeerError(ErrorCode.BAD_ENVELOPE, f"the sum cannot be opened: {refused}", phase=Phase.UNMASK) from None


def masking_key_advertised(public_key: bytes, advertised: bytes, dealer: int) -> None:
    """R-UNMASK-7, R-HYBRID-4: the masking key is the private half of the one that its dealer advertised."""
    if public_key != advertised:
        raise _bad_dealer(dealer, "its masking key is not the private half of the one that it advertised")


def secret_recovered(suite: Suite, key: bytes, sealed: bytes, context: bytes, sealer: int) -> bytes:
    """R-HYBRID-14: what the sealer sealed for a lost holder opens with the holder's root.  Returns the pair secret."""
    try:
        return aead.unseal(suite, key, sealed, context)
    except suites.CryptoError:
        raise _bad_dealer(sealer, "a pair secret that it sealed for a lost client does not open") from None


def secret_committed(commitment: bytes, expected: bytes, sealer: int) -> None:
    """R-HYBRID-14: a recovered pair secret is the one that its sealer committed to."""
    if commitment != expected:
        raise _bad_dealer(sealer, "a pair secret of its own is not the one that it committed to")


def _signed_by(identity_key: bytes, signed: bytes, signature: bytes, sender: int) -> None:
    try:
        signing.verify(identity_key, signed, signature)
    except suites.CryptoError:
        raise PeerError(ErrorCode.BAD_SIGNATURE, f"a signature that is not client {sender}'s") from None


def _bad_dealer(dealer: int, what: str) -> PeerError:
    return PeerError(
        ErrorCode.BAD_DEALER,
        f"the round cannot be finished: client {dealer} dealt bad shares: {what}",
        phase=Phase.UNMASK,
        culprit=(dealer,),
    )
