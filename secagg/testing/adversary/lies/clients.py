"""What a malicious client can be told to do, as plain data; see ``ClientLie``."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from secagg.arithmetic.modulus import MERSENNE_61
from secagg.pairwise import messages
from secagg.pairwise.messages import Advertise
from secagg.pairwise.phases import Phase
from secagg.pairwise.records import PAIR_BYTES, Commitments, PublicKeys, SharePair
from secagg.pairwise.transcript import KEY_SHARE, SEED_SHARE
from secagg.testing.adversary.client import ClientLie, Dealing, Elements, MaliciousClient
from secagg.testing.adversary.lies.lie import turned


@dataclass(frozen=True, slots=True)
class WrongSecret(ClientLie):
    """It shares another secret than the one it announced."""

    kind: int = SEED_SHARE

    def secret(self, kind: int, secret: bytes) -> bytes:
        return bytes((secret[0] ^ 8,)) + secret[1:] if kind == self.kind else secret


@dataclass(frozen=True, slots=True)
class InconsistentPolynomial(ClientLie):
    """Its shares lie on no polynomial of degree t - 1, though each matches its commitment."""

    kind: int = SEED_SHARE

    def shares(self, client: MaliciousClient, kind: int, values: Elements) -> None:
        """Every holder gets another first element."""
        if kind == self.kind:
            noise = np.frombuffer(client.randomness(8 * len(values)), dtype="<u8")
            values[:, 0] = noise % np.uint64(MERSENNE_61)


@dataclass(frozen=True, slots=True)
class LimbOutOfRange(ClientLie):
    """Its shares reconstruct to a limb that no 256-bit secret has."""

    kind: int = SEED_SHARE

    def shares(self, client: MaliciousClient, kind: int, values: Elements) -> None:
        """Move the polynomial of the last limb, of 48 bits, up by 2^60."""
        if kind == self.kind:
            values[:, 4] = (values[:, 4] + np.uint64(2**60)) % np.uint64(MERSENNE_61)


@dataclass(frozen=True, slots=True)
class ShareOutOfRange(ClientLie):
    """It deals elements that are not below the field's prime, and commits to them."""

    holders: tuple[int, ...]
    kind: int = SEED_SHARE

    def deals(self, client: MaliciousClient, dealing: Dealing) -> None:
        """The last element of the share becomes p."""
        for holder in set(self.holders) & set(dealing.plain):
            openings = list(dealing.plain[holder])
            share = openings[self.kind].share[:-8] + MERSENNE_61.to_bytes(8, "little")
            openings[self.kind] = openings[self.kind]._replace(share=share)
            dealing.plain[holder] = SharePair(*openings)
            dealing.commit(client.config.labels, client.session, client.index, holder)


@dataclass(frozen=True, slots=True)
class BadCommitment(ClientLie):
    """It commits to something else than it deals."""

    holders: tuple[int, ...]

    def deals(self, client: MaliciousClient, dealing: Dealing) -> None:
        """Either commitment gets another first byte."""
        for holder in set(self.holders) & set(dealing.plain):
            dealing.commitments[holder] = Commitments(*(turned(digest) for digest in dealing.commitments[holder]))


@dataclass(frozen=True, slots=True)
class Unopenable(ClientLie):
    """What it sends some holders does not open; what it commits to are shares of zeros."""

    holders: tuple[int, ...]

    def deals(self, client: MaliciousClient, dealing: Dealing) -> None:
        for holder in set(self.holders) & set(dealing.plain):
            dealing.plain[holder] = SharePair.from_bytes(bytes(PAIR_BYTES))
            dealing.commit(client.config.labels, client.session, client.index, holder)

    def seals(self, client: MaliciousClient, dealing: Dealing) -> None:
        for holder in set(self.holders) & set(dealing.sealed):
            dealing.sealed[holder] = bytes(len(dealing.sealed[holder]))


@dataclass(frozen=True, slots=True)
class BrokenSecret(ClientLie):
    """One bit of the pair secrets that it sends is turned: of their "ciphertext", "sealed" or "commitment"."""

    holders: tuple[int, ...]
    part: str = "sealed"

    def seals(self, client: MaliciousClient, dealing: Dealing) -> None:
        """For those of the holders that it is the sealer for."""
        for holder in set(self.holders) & set(dealing.secrets):
            record = dealing.secrets[holder]
            dealing.secrets[holder] = record._replace(**{self.part: turned(getattr(record, self.part))})


@dataclass(frozen=True, slots=True)
class OtherSecret(ClientLie):
    """The pair secrets that it seals, and commits to, do not follow from its root."""

    holders: tuple[int, ...]

    def seals(self, client: MaliciousClient, dealing: Dealing) -> None:
        """For those of the holders that it is the sealer for."""
        for holder in sorted(set(self.holders) & set(dealing.secrets)):
            secret = client.randomness(32)
            record = client.pair_secrets.seal(secret, holder, client.present[holder].masking)
            dealing.secrets[holder] = record
            client.chosen[record.commitment] = secret


@dataclass(frozen=True, slots=True)
class FlipsSealed(ClientLie):
    """One bit of what it seals is turned, for some holders or, with None, for all of them."""

    holders: tuple[int, ...] | None = None

    def seals(self, client: MaliciousClient, dealing: Dealing) -> None:
        for holder in dealing.sealed if self.holders is None else self.holders:
            dealing.sealed[holder] = turned(dealing.sealed[holder])


@dataclass(frozen=True, slots=True)
class ComplainsFalsely(ClientLie):
    """In rounds with complaints it complains about dealers whose shares open."""

    dealers: tuple[int, ...]

    def complains(self, client: MaliciousClient, dealers: tuple[int, ...]) -> tuple[int, ...]:
        return self.dealers


@dataclass(frozen=True, slots=True)
class AnswersWrongly(ClientLie):
    """In rounds with complaints it opens other pairs than it committed to: one bit of the byte ``at`` is turned.

    In a hybrid suite the last 32 bytes are the pair secret, and zeros where it is not the sealer.
    """

    at: int = 0

    def answers(self, client: MaliciousClient, pairs: list[bytes]) -> list[bytes]:
        return [turned(pair, self.at) for pair in pairs]


@dataclass(frozen=True, slots=True)
class WeakKeys(ClientLie):
    """It advertises public keys of low order, or, of a hybrid suite, with an ML-KEM half that is none."""

    channel: bool = True
    masking: bool = False
    encapsulation: bool = False

    def advertises(self, client: MaliciousClient, message: Advertise) -> Advertise:
        """The channel key becomes zero, the masking key one; every number of the ML-KEM half of it is out of range."""
        if self.encapsulation:
            beyond = message.masking_key[:32] + b"\xff" * len(message.masking_key[32:])
            return client.signed_advertisement(PublicKeys(message.channel_key, beyond))
        channel = bytes(32) + message.channel_key[32:] if self.channel else message.channel_key
        masking = b"\x01" + bytes(31) + message.masking_key[32:] if self.masking else message.masking_key
        return client.signed_advertisement(PublicKeys(channel, masking))


@dataclass(frozen=True, slots=True)
class KeysOf(ClientLie):
    """It advertises the public keys that another member advertised."""

    keys: PublicKeys

    def advertises(self, client: MaliciousClient, message: Advertise) -> Advertise:
        return client.signed_advertisement(self.keys)


@dataclass(frozen=True, slots=True)
class BadShares(ClientLie):
    """In UNMASK it returns a share that is not the one it was dealt, for some dealers."""

    dealers: tuple[int, ...]
    out_of_range: bool = False

    def opens(self, client: MaliciousClient, openings: list[bytes]) -> list[bytes]:
        """One bit of the share is turned, or its first element becomes all ones."""
        bad = b"\xff" * 8 if self.out_of_range else None
        return [
            (bad or bytes((opening[0] ^ 1, *opening[1:8]))) + opening[8:] if dealer in self.dealers else opening
            for dealer, opening in zip(client.dealers, openings, strict=True)
        ]


@dataclass(frozen=True, slots=True)
class OtherKind(ClientLie):
    """In UNMASK it returns the other kind of share than it is asked for."""

    def opens(self, client: MaliciousClient, openings: list[bytes]) -> list[bytes]:
        return [
            client.opening(dealer, KEY_SHARE if dealer in client.survivors else SEED_SHARE).to_bytes()
            for dealer in client.dealers
        ]


@dataclass(frozen=True, slots=True)
class FirstElement(ClientLie):
    """The first element of its masked vector, on the wire, is all ones; of a prime modulus that is out of range."""

    def masks(self, client: MaliciousClient, packed: bytes) -> bytes:
        bits = client.config.modulus.bits
        return (int.from_bytes(packed, "little") | ((1 << bits) - 1)).to_bytes(len(packed), "little")


@dataclass(frozen=True, slots=True)
class DirtyPadding(ClientLie):
    """The last bit of its packed vector, behind the last element, is set."""

    def masks(self, client: MaliciousClient, packed: bytes) -> bytes:
        return packed[:-1] + bytes((packed[-1] | 0x80,))


@dataclass(frozen=True, slots=True)
class SecondVector(ClientLie):
    """It sends a second masked vector, of other elements, right behind the first."""

    def wire(self, client: MaliciousClient, phase: str, data: bytes) -> Sequence[bytes]:
        return (data, data[:-1] + bytes((data[-1] ^ 1,))) if phase == Phase.MASK else (data,)


@dataclass(frozen=True, slots=True)
class WrongLength(ClientLie):
    """The list or vector in its message of one phase is longer by some bytes, or shorter."""

    phase: str
    by: int = 1

    def wire(self, client: MaliciousClient, phase: str, data: bytes) -> Sequence[bytes]:
        """Decode the message, change its last field, and encode it again."""
        if phase != self.phase:
            return (data,)
        form = client.config.version, client.config.suite.agreement
        message: Any = messages.to_server.decode(data, len(data), *form)
        name = message.__struct_fields__[-1]
        content = bytes(getattr(message, name))
        content = content + bytes(self.by) if self.by > 0 else content[: self.by]
        values = {key: getattr(message, key) for key in message.__struct_fields__}
        return (messages.encode(type(message)(**{**values, name: content})),)


@dataclass(frozen=True, slots=True)
class FalseSignature(ClientLie):
    """It signs one phase's message (ADVERTISE or CONFIRM) with one bit turned."""

    phase: str

    def wire(self, client: MaliciousClient, phase: str, data: bytes) -> Sequence[bytes]:
        """The signature is the last field of either message."""
        return (data[:-1] + bytes((data[-1] ^ 1,)),) if phase == self.phase else (data,)


@dataclass(frozen=True, slots=True)
class Garbage(ClientLie):
    """It sends bytes of its own before its message of a phase, or in its place."""

    phase: str
    data: bytes = b""
    instead: bool = False

    def wire(self, client: MaliciousClient, phase: str, data: bytes) -> Sequence[bytes]:
        if phase != self.phase:
            return (data,)
        return (self.data,) if self.instead else (self.data, data)


@dataclass(frozen=True, slots=True)
class Leaves(ClientLie):
    """It falls silent from a phase on."""

    phase: str

    def wire(self, client: MaliciousClient, phase: str, data: bytes) -> Sequence[bytes]:
        return () if Phase(phase).place >= Phase(self.phase).place else (data,)
