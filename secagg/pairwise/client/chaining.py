"""A client's end of the chain of its cohort's rounds: what it answered, and what it asks of the next invitation.

A server can open a sum, tell its clients that the round was aborted, and invite them again without one of them: the
difference of the two sums is that client's vector.  A client that keeps a chain is not told, it is shown: the server's
certificate of the round that it answered in, or the statements of so many neighbours that they did not answer that this
client's own secrets cannot have been opened, and never will.

Why t statements are enough (R-CHAIN-10).  A client has k neighbours, of which c collude, and in ``active`` 2t > k + c.
Of t that signed, at least t - c are honest, and did not answer, and never will.  So at most k - (t - c) < t neighbours
answered or can: too few to open what this client shared.
"""

from __future__ import annotations

import itertools
import threading
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Protocol, final

import msgspec

from secagg.arithmetic.modular import Lanes
from secagg.errors import CertificateError, ParameterError, StateError
from secagg.pairwise.certificate import Certificate, check_follows
from secagg.pairwise.config import RoundConfig
from secagg.pairwise.receipt import Receipt, signed_receipt
from secagg.pairwise.records import SIGNATURE_BYTES, cut
from secagg.pairwise.rules import client as rules
from secagg.primitives import signing

if TYPE_CHECKING:
    from secagg.identity import Directory, Identity


class ChainStore(Protocol):
    """Where a client keeps the ends of its chains, one for each cohort; ``DurableChains`` does it in a file."""

    def load(self, cohort: bytes) -> bytes:
        """What was stored last for this cohort; no bytes at first."""

    def swap(self, cohort: bytes, before: bytes, after: bytes) -> bool:
        """Store ``after``, durably, if ``before`` is what is stored; whether it is stored now."""


@final
class MemoryChains:
    """Chains that are gone with the process: for tests, and for members that live no longer than their rounds."""

    def __init__(self) -> None:
        self._stored: dict[bytes, bytes] = {}
        self._lock = threading.Lock()

    def load(self, cohort: bytes) -> bytes:
        """What was stored last for this cohort; no bytes at first."""
        return self._stored.get(cohort, b"")

    def swap(self, cohort: bytes, before: bytes, after: bytes) -> bool:
        """Store ``after`` if ``before`` is what is stored; whether it is stored now."""
        with self._lock:
            if self.load(cohort) != before:
                return False
            self._stored[cohort] = after
            return True


class _Answered(msgspec.Struct, array_like=True, forbid_unknown_fields=True, frozen=True):
    """The round in which the client revealed its shares, and which no certificate has settled yet."""

    session: bytes
    survivors: bytes
    neighbours: tuple[int, ...]
    threshold: int
    received: bytes = b""
    """The digest of the certificate that the client signed a receipt for."""


class _End(msgspec.Struct, array_like=True, forbid_unknown_fields=True, frozen=True):
    head: bytes = b""
    answered: _Answered | None = None
    disclaimed: tuple[bytes, ...] = ()


_encode = msgspec.msgpack.Encoder().encode
_decode = msgspec.msgpack.Decoder(_End).decode


@final
class Chain:
    """What a client knows of the chain that one server signs; give the same one to every round of the cohort."""

    def __init__(self, server: bytes, store: ChainStore | None = None) -> None:
        """``server`` is the public key of the server's identity, known beforehand; ``store`` is a MemoryChains if none
        is given.

        Raises ParameterError for bytes that are no Ed25519 public key.
        """
        if not signing.is_signing_key(server):
            raise ParameterError(f"server = {server.hex()}: no canonical Ed25519 public key; give Identity.public_key")
        self.server = server
        self._store: ChainStore = MemoryChains() if store is None else store

    def __repr__(self) -> str:
        return f"<Chain of the server {self.server.hex()}>"

    def head(self, cohort: bytes) -> bytes:
        """The digest of the last certificate of a cohort that this client knows; no bytes before its first round."""
        return self._load(cohort)[1].head

    def is_unsettled(self, cohort: bytes) -> bool:
        """Whether the client answered in a round whose certificate it has not seen."""
        return self._load(cohort)[1].answered is not None

    def answered(self, cohort: bytes) -> tuple[bytes, bytes]:
        """The session in which the client answered, and which no certificate has settled; and the digest of the
        certificate of it that the client signed a receipt for.  Either is empty where there is none.
        """
        answered = self._load(cohort)[1].answered
        return (b"", b"") if answered is None else (answered.session, answered.received)

    # What a client calls.

    def admit(
        self, config: RoundConfig, index: int, certificates: Sequence[bytes], keys: Sequence[bytes]
    ) -> Callable[[], None]:
        """Ask R-CHAIN-8 to R-CHAIN-10 of an invitation; the function that is returned moves the head.

        ``index`` is this client's, ``keys`` are the cohort's identity keys by index.  Raises PeerError.
        """
        before, end = self._load(config.cohort)
        brought = [
            rules.chain_certificate(Certificate.from_bytes, data, self.server, config.cohort) for data in certificates
        ]
        rules.certified_once([(certificate.config, certificate.nonce) for certificate in brought])
        new = _behind(end.head, brought)
        rules.chain_linked(_gap(end.head, new, config.chain), end.head, config.chain)
        if end.answered is not None:
            _settle(end.answered, index, new, keys)
        after = _encode(msgspec.structs.replace(end, head=config.chain, answered=None))
        return lambda: self._swap(config.cohort, before, after)

    def answer(self, config: RoundConfig, session: bytes, survivors: bytes, neighbours: Sequence[int]) -> None:
        """R-CHAIN-11: remember, before the answer leaves, that this client answers in a round.  Raises PeerError."""
        before, end = self._load(config.cohort)
        rules.not_disclaimed(end.disclaimed, session)
        received = end.answered.received if end.answered and end.answered.session == session else b""
        answered = _Answered(session, survivors, tuple(neighbours), config.threshold, received)
        # The same answer again is that of a host that broke down before it had stored the rest of the step.
        rules.answered_in_turn(end.answered not in (None, answered), config.chain == end.head)
        self._swap(config.cohort, before, _encode(msgspec.structs.replace(end, answered=answered)))

    def disclaim(self, cohort: bytes, session: bytes) -> None:
        """R-CHAIN-12: remember that this client will never answer in a round.  Raises StateError when it has."""
        before, end = self._load(cohort)
        if end.answered is not None and end.answered.session == session:
            raise StateError("disclaim: this client has answered in this round; only its certificate settles that")
        if session not in end.disclaimed:
            after = msgspec.structs.replace(end, disclaimed=(*end.disclaimed, session))
            self._swap(cohort, before, _encode(after))

    def receive(
        self, certificate: bytes, total: Lanes, *, identity: Identity, directory: Directory, number: int = 0
    ) -> Receipt:
        """R-CHAIN-14: sign that this client was handed a total, in the round that it answered in last.

        The server hands out the round's certificate with the total.  From here on, this certificate alone settles the
        round.  Keep its bytes beside the receipt: with another certificate of the round, they prove the server's lie.

        Args:
            certificate: as the server handed it out.
            total: shape (config.length,), dtype ``config.modulus.dtype``, as ``Result.sum``.
            identity: this client's.
            directory: vouches for the cohort, as it does in the round.
            number: of the total's group; 0 in a round without groups.

        Raises CertificateError when the certificate does not hold, is another server's or another round's, or is not
        of this total, ParameterError when the identity is not of the certificate's cohort, and StateError when the
        client has no unsettled answer, or signed a receipt for another certificate of the round.
        """
        handed = Certificate.from_bytes(certificate)
        if handed.server != self.server:
            raise CertificateError(
                f"the server {handed.server.hex()} signed the certificate; this chain is of {self.server.hex()}"
            )
        cohort = handed.round_config.cohort
        before, end = self._load(cohort)
        if end.answered is None:
            raise StateError(
                "receive: this client waits for no certificate; it answered in no round since the last one was settled"
            )
        if (handed.session, handed.survivors) != (end.answered.session, end.answered.survivors):
            raise CertificateError("the certificate is not of the round and the survivors that this client confirmed")
        keys = directory.cohort(cohort) or ()
        if identity.public_key not in keys:
            raise ParameterError(
                f"the directory has no cohort {cohort.hex()} with the key {identity.public_key.hex()} in it; give the "
                "identity and the directory that this client joined with"
            )
        handed.check_members(keys)
        handed.check_sum(total, number)
        if end.answered.received not in (b"", handed.digest):
            raise StateError(
                "receive: this client has signed a receipt for another certificate of this round; compare the two "
                "(secagg.audit.prove_contradiction)"
            )
        answered = msgspec.structs.replace(end.answered, received=handed.digest)
        self._swap(cohort, before, _encode(msgspec.structs.replace(end, answered=answered)))
        return signed_receipt(handed, number, list(keys).index(identity.public_key), identity)

    # The store.

    def _load(self, cohort: bytes) -> tuple[bytes, _End]:
        stored = self._store.load(cohort)
        try:
            return stored, _decode(stored) if stored else _End()
        except msgspec.DecodeError:
            raise ParameterError("the stored end of a chain does not decode: the file is damaged") from None

    def _swap(self, cohort: bytes, before: bytes, after: bytes) -> None:
        if not self._store.swap(cohort, before, after):
            raise StateError("another process of this client changed the chain meanwhile; join again")


def _behind(head: bytes, brought: Sequence[Certificate]) -> list[Certificate]:
    """Those that come after the one that the client knows; all of them when that one is not among them."""
    known = [place for place, certificate in enumerate(brought) if certificate.digest == head]
    return list(brought[known[0] + 1 :] if known else brought)


def _gap(head: bytes, new: Sequence[Certificate], chain: bytes) -> str:
    """Why the certificates do not lead from the head to the config's chain; empty where they do.

    A client without a head takes any beginning.
    """
    if not chain and (head or new):
        return "the round is not chained"
    if head and new and new[0].previous != head:
        return f"the first certificate that is new stands behind {new[0].previous.hex()}"
    try:
        for before, after in itertools.pairwise(new):
            check_follows(after, before, before.digest)
    except CertificateError as wrong:
        return f"of a certificate: {wrong}"
    last = new[-1].digest if new else head or chain
    return "" if last == chain else f"the certificates end with {last.hex()}"


def _settle(answered: _Answered, index: int, new: Sequence[Certificate], keys: Sequence[bytes]) -> None:
    """R-CHAIN-10: the round that the client answered in is among the certificates, and ended as it can have ended.

    R-CHAIN-15: it is the certificate that the client signed a receipt for, if it signed one.

    A round with groups has a sum of this client only if it has one of its group.
    """
    found = next((certificate for certificate in new if certificate.session == answered.session), None)
    agrees = found is not None and (found.ended is not None or found.survivors == answered.survivors)
    rules.round_settled(found is not None, agrees)
    if found is not None:
        rules.one_certificate(answered.received, found.digest)
    if found is None or any(index in found.members(opened.members) for opened in found.sums):
        return
    silent = found.members(found.silent)
    signed = found.round_config.labels.signed_silence(answered.session)
    near = [
        (member, signature)
        for member, signature in zip(silent, cut(found.statements, SIGNATURE_BYTES), strict=True)
        if member in answered.neighbours
    ]
    rules.silent_enough(len(near), answered.threshold)
    for member, signature in near:
        rules.silence_signed(keys[member], signed, signature, member)
