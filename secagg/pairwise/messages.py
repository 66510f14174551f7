"""What goes over the wire: one typed struct a message, its encoding, and strict decoding.

MessagePack arrays ``[type, version, session, ...]`` of a fixed number of fields.  Lists of fixed-size records travel
as one ``bytes``.  Nothing that is hashed or signed is taken from received bytes as they stand: it is rebuilt from the
fields (R-WIRE-11).  A message that does not decode is a PeerError(MALFORMED), never another exception.

A message is of the version that its round's config names.  The versions differ in UNMASK alone, which has a field more
from version 2 on.  In a round of a hybrid suite keys are longer, and SHARE has a field more in either direction.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from itertools import pairwise
from types import MappingProxyType
from typing import TYPE_CHECKING, Annotated, Any, Final, Generic, NamedTuple, TypeAlias, TypeVar

import msgspec
import numpy as np
import numpy.typing as npt
from msgspec import Meta

from secagg.errors import AbortCode
from secagg.pairwise.phases import Phase, ThreatModel, phases
from secagg.pairwise.records import (
    COMMITMENTS_BYTES,
    HYBRID_KEY_BYTES,
    HYBRID_KEYS_BYTES,
    KEYS_BYTES,
    OPENING_BYTES,
    PUBLIC_KEY_BYTES,
    SEALED_SECRET_BYTES,
    SIGNATURE_BYTES,
    keys_bytes,
    opened_bytes,
    sealed_bytes,
)
from secagg.pairwise.rules import wire as wire_rules
from secagg.pairwise.transcript import DIGEST_BYTES, VERSIONS
from secagg.primitives.suites import Agreement, Suite
from secagg.wording import counted

if TYPE_CHECKING:
    from secagg.pairwise.config import RoundConfig

Digest: TypeAlias = Annotated[bytes, Meta(min_length=DIGEST_BYTES, max_length=DIGEST_BYTES)]
PublicKey: TypeAlias = Annotated[bytes, Meta(min_length=PUBLIC_KEY_BYTES, max_length=PUBLIC_KEY_BYTES)]
HybridKey: TypeAlias = Annotated[bytes, Meta(min_length=HYBRID_KEY_BYTES, max_length=HYBRID_KEY_BYTES)]

ID_BYTES: Final = 4
NONCE_BYTES: Final = 32

_ENVELOPE_BYTES: Final = 64  # MessagePack headers, type, version, session: an upper bound


class _Message(msgspec.Struct, array_like=True, forbid_unknown_fields=True, frozen=True, gc=False):
    """The fields that every message begins with, behind its type."""

    version: int
    session: Digest
    """The session id; the round id in a message that is made before there is a session."""

    def __repr__(self) -> str:
        """How long its fields are: what is in them may be a client's shares, which the server gets, and no log."""
        fields = {name: getattr(self, name) for name in self.__struct_fields__ if name not in ("version", "session")}
        return f"<{type(self).__name__}: {', '.join(f'{name} {_shown(value)}' for name, value in fields.items())}>"


def _shown(value: object) -> str:
    if isinstance(value, bytes | memoryview):
        return f"of {counted(memoryview(value).nbytes, 'byte')}"
    return str(value) if isinstance(value, int) else f"of {type(value).__name__}"


class Abort(_Message, tag=0, frozen=True):
    """Either direction: the sender is out of the round."""

    code: int


class Invitation(_Message, tag=1, frozen=True):
    """Server, before everything; ``session`` is the round id."""

    config: bytes
    nonce: Digest


class ChainedInvitation(Invitation, tag=1, frozen=True):
    """Server, since version 2: the invitation with certificates of the cohort's rounds, where there are any."""

    certificates: tuple[bytes, ...] = ()


class Advertise(_Message, tag=2, frozen=True):
    """Client; ``session`` is the round id."""

    channel_key: PublicKey
    masking_key: PublicKey
    signature: bytes
    """64 bytes in ``active``, none in ``semi_honest``."""


class HybridAdvertise(Advertise, tag=2, frozen=True):
    """Client, in a round of a hybrid suite: each key is X25519's and then ML-KEM-768's."""

    channel_key: HybridKey
    masking_key: HybridKey


class Roster(_Message, tag=3, frozen=True):
    """Server; ``session`` is the round id."""

    digest: Digest
    own: Annotated[bytes, Meta(min_length=KEYS_BYTES, max_length=KEYS_BYTES)]
    """The receiver's keys, as they stand in the roster."""
    present: bytes
    """The ids of its neighbours that advertised, ascending, 4 bytes each."""
    keys: bytes
    """Their keys in that order: channel key, masking key."""
    absent: bytes
    """``active``: the ids of its other neighbours."""
    signatures: bytes
    """``active``: the present neighbours' signatures."""
    proof: bytes
    """``active``: the Merkle hashes for the receiver's leaf and all its neighbours'."""


class HybridRoster(Roster, tag=3, frozen=True):
    """Server, in a round of a hybrid suite."""

    own: Annotated[bytes, Meta(min_length=HYBRID_KEYS_BYTES, max_length=HYBRID_KEYS_BYTES)]


class Share(_Message, tag=4, frozen=True):
    """Client: for each neighbour that the roster showed, ascending, a sealed pair of shares and its commitments."""

    seed_commitment: Digest
    sealed: bytes
    commitments: bytes


class ShareWithSecrets(Share, tag=4, frozen=True):
    """Client, in a round of a hybrid suite: beside the shares a sealed secret for each neighbour it is the sealer for.

    A sealed pair of shares stands behind the ciphertext that brings its key.
    """

    pair_secrets: bytes


class Shares(_Message, tag=5, frozen=True):
    """Server: the shares addressed to the receiver; dealers ascending."""

    dealers: bytes
    sealed: bytes
    commitments: bytes


class SharesWithSecrets(Shares, tag=5, frozen=True):
    """Server, in a round of a hybrid suite: also the pair secrets of those dealers that seal one for the receiver."""

    pair_secrets: bytes


class Complaint(_Message, tag=11, frozen=True):
    """Client, in rounds with complaints: the dealers, ascending, whose shares do not open or match; mostly none."""

    dealers: bytes
    signatures: bytes
    """``active``: for each of them a signature over what came of it."""


class Accusations(_Message, tag=12, frozen=True):
    """Server, in rounds with complaints: the holders, ascending, that complain about the receiver's shares."""

    holders: bytes
    signatures: bytes
    """``active``: their signatures."""


class Answer(_Message, tag=13, frozen=True):
    """Client, in rounds with complaints: for each holder that complained, the pair that was dealt to it.

    In a hybrid suite the secret of the two clients stands behind each pair, and zeros where the sender has sealed none.
    """

    pairs: bytes
    signatures: bytes
    """``active``: for each of them the dealer's signature."""


class Settled(_Message, tag=14, frozen=True):
    """Server, in rounds with complaints: whose shares count for the receiver, ascending."""

    dealers: bytes
    pairs: bytes
    """Of each of them that it complained about, the pair that was opened."""
    signatures: bytes
    """``active``: their dealers' signatures."""


class MaskedInput(_Message, tag=6, frozen=True):
    """Client: the masked vector, packed at exactly the modulus' bits."""

    vector: memoryview
    """With envelopes, the masked key and behind it the envelope (R-ENV-7)."""


class Survivors(_Message, tag=7, frozen=True):
    """Server: a bitmap over the cohort, bit i of byte i // 8 for member i, spare bits zero."""

    survivors: bytes


class Confirm(_Message, tag=8, frozen=True):
    """Client, ``active``: a signature over the session and the survivors' bitmap."""

    signature: Annotated[bytes, Meta(min_length=SIGNATURE_BYTES, max_length=SIGNATURE_BYTES)]


class Confirmations(_Message, tag=9, frozen=True):
    """Server, ``active``: who signed (a bitmap over the cohort) and the signatures, ascending."""

    signers: bytes
    signatures: bytes


class Unmask(_Message, tag=10, frozen=True):
    """Client: a share and its salt for each neighbour that shared, ascending; which kind follows from the survivors."""

    openings: bytes


class UnmaskWithAttachment(Unmask, tag=10, frozen=True):
    """Client, since version 2: beside the shares, what its host attached, of the config's ``attachment_bytes``."""

    attachment: bytes


_ToClient1: TypeAlias = Abort | Roster | Shares | Survivors | Confirmations
_ToServer1: TypeAlias = Abort | Advertise | Share | MaskedInput | Confirm | Unmask
ToClient: TypeAlias = _ToClient1 | Accusations | Settled
ToServer: TypeAlias = _ToServer1 | Complaint | Answer
Message: TypeAlias = ToClient | ToServer | Invitation


class Exchange(NamedTuple):
    """The messages of a phase."""

    answer: type[ToServer]
    """What each client sends in it."""
    closing: type[ToClient] | None
    """What the server sends when it is closed; nothing after the last phase."""


EXCHANGES: Final[Mapping[Phase, Exchange]] = MappingProxyType(
    {
        Phase.ADVERTISE: Exchange(Advertise, Roster),
        Phase.SHARE: Exchange(Share, Shares),
        Phase.COMPLAIN: Exchange(Complaint, Accusations),
        Phase.ANSWER: Exchange(Answer, Settled),
        Phase.MASK: Exchange(MaskedInput, Survivors),
        Phase.CONFIRM: Exchange(Confirm, Confirmations),
        Phase.UNMASK: Exchange(Unmask, None),
    }
)
PHASE_OF: Final[Mapping[type[msgspec.Struct], Phase]] = MappingProxyType(
    {
        **{kind: phase for phase, exchange in EXCHANGES.items() for kind in exchange if kind is not None},
        HybridAdvertise: Phase.ADVERTISE,
        HybridRoster: Phase.ADVERTISE,
        ShareWithSecrets: Phase.SHARE,
        SharesWithSecrets: Phase.SHARE,
        UnmaskWithAttachment: Phase.UNMASK,
    }
)
"""The phase that a message belongs to: a client's answer in it, or what the server sends at its close."""
PLAIN: Final[Mapping[type[msgspec.Struct], type[msgspec.Struct]]] = MappingProxyType(
    {
        kind: next(plain for exchange in EXCHANGES.values() for plain in exchange if plain and issubclass(kind, plain))
        for kind in PHASE_OF
    }
)
"""The type that tables and names know a message by, whatever form it has in a version or a suite."""


def plain(message: ToClient) -> type[ToClient]:
    """The type that a message to a client has in the tables."""
    kind: type[ToClient] = PLAIN.get(type(message), type(message))  # type: ignore[assignment]
    return kind


_M = TypeVar("_M")
_encoder = msgspec.msgpack.Encoder()


Form: TypeAlias = tuple[int, Agreement]
"""What the form of a message depends on: the version of its round, and how two clients agree in it."""
_HYBRID: Final[Form] = (2, Agreement.HYBRID)
"""A hybrid suite belongs to version 2 (R-HYBRID-1)."""


class StrictDecoder(Generic[_M]):
    """Decodes one role's messages, or raises PeerError: MALFORMED, WRONG_VERSION or TOO_LARGE."""

    __slots__ = ("_decoders",)

    def __init__(self, messages: Mapping[Form, object]) -> None:
        """``messages`` has the types that are taken in each form."""
        self._decoders: dict[Form, msgspec.msgpack.Decoder[_M]] = {
            form: msgspec.msgpack.Decoder(types) for form, types in messages.items()
        }

    def decode(
        self,
        data: bytes | bytearray | memoryview,
        limit: int,
        version: int | None,
        agreement: Agreement = Agreement.X25519,
    ) -> _M:
        """The message in ``data``, of at most ``limit`` bytes, in a round of ``version`` whose suite agrees so.

        ``version`` is None for an invitation, which may be of any version that the library speaks.
        """
        wire_rules.size_allowed(memoryview(data).nbytes, limit)
        allowed = VERSIONS if version is None else (version,)
        message = wire_rules.well_formed(self._decoders[allowed[0], agreement].decode, data, allowed)
        wire_rules.version_spoken(message.version, allowed)  # type: ignore[attr-defined]
        return message


_X25519: Final[tuple[Form, ...]] = tuple((version, Agreement.X25519) for version in VERSIONS)
to_client: Final[StrictDecoder[ToClient]] = StrictDecoder(
    {
        (1, Agreement.X25519): _ToClient1,
        (2, Agreement.X25519): ToClient,
        _HYBRID: Abort | HybridRoster | SharesWithSecrets | Accusations | Settled | Survivors | Confirmations,
    }
)
to_server: Final[StrictDecoder[ToServer]] = StrictDecoder(
    {
        (1, Agreement.X25519): ToServer,
        (2, Agreement.X25519): Abort
        | Advertise
        | Share
        | Complaint
        | Answer
        | MaskedInput
        | Confirm
        | UnmaskWithAttachment,
        _HYBRID: Abort
        | HybridAdvertise
        | ShareWithSecrets
        | Complaint
        | Answer
        | MaskedInput
        | Confirm
        | UnmaskWithAttachment,
    }
)
invitation: Final[StrictDecoder[Invitation]] = StrictDecoder(dict.fromkeys(_X25519, Invitation))
_chained_invitation: Final[StrictDecoder[ChainedInvitation]] = StrictDecoder({(2, Agreement.X25519): ChainedInvitation})


def encode(message: Message) -> bytes:
    """The message's bytes, every element in its shortest form (R-WIRE-2)."""
    return _encoder.encode(message)


def encode_abort(version: int, session: bytes, code: AbortCode) -> bytes:
    """An ABORT message: it does not say what was wrong (R-ABORT-1)."""
    return encode(Abort(version, session, int(code)))


def advertise(suite: Suite, *fields: Any) -> Advertise:
    """An ADVERTISE message in the form of a suite; ``fields`` are Advertise's, in order."""
    return (HybridAdvertise if suite.is_hybrid else Advertise)(*fields)


def roster(suite: Suite, *fields: Any) -> Roster:
    """A ROSTER message in the form of a suite; ``fields`` are Roster's, in order."""
    return (HybridRoster if suite.is_hybrid else Roster)(*fields)


def share(suite: Suite, *fields: Any, pair_secrets: bytes) -> Share:
    """A SHARE message in the form of a suite; ``fields`` are Share's, in order.  Others have no pair secrets."""
    return ShareWithSecrets(*(*fields, pair_secrets)) if suite.is_hybrid else Share(*fields)


def shares(suite: Suite, *fields: Any, pair_secrets: bytes) -> Shares:
    """A SHARES message in the form of a suite; ``fields`` are those of Shares, in order."""
    return SharesWithSecrets(*(*fields, pair_secrets)) if suite.is_hybrid else Shares(*fields)


def pair_secrets_of(message: Share | Shares) -> bytes:
    """The sealed pair secrets in a message, which has none outside of a hybrid suite."""
    return message.pair_secrets if isinstance(message, ShareWithSecrets | SharesWithSecrets) else b""


def unmask(version: int, session: bytes, openings: bytes, attachment: bytes) -> Unmask:
    """An UNMASK message in the form of a version; version 1 carries no attachment."""
    if version == 1:
        return Unmask(version, session, openings)
    return UnmaskWithAttachment(version, session, openings, attachment)


def invitation_nonce(data: bytes) -> bytes:
    """The nonce of an invitation that this process' own server made: with the config, it tells rounds apart."""
    return decode_invitation(data)[0].nonce


def abort_code(message: Abort) -> AbortCode:
    """R-ABORT-3: the code of an ABORT; a number that this version does not know is UNSPECIFIED."""
    return AbortCode(message.code) if message.code in set(AbortCode) else AbortCode.UNSPECIFIED


MAX_INVITATION_BYTES: Final = 4096
"""A config's context has at most 1,024 bytes, and its other 18 fields a few hundred; the rest is room (R-WIRE-5)."""


MAX_CERTIFICATES_BYTES: Final = 2**20
"""Of all certificates in an invitation of version 2, with their headers (R-CHAIN-7)."""
MAX_CHAINED_INVITATION_BYTES: Final = MAX_INVITATION_BYTES + MAX_CERTIFICATES_BYTES


def encode_invitation(
    version: int, round_id: bytes, config: bytes, nonce: bytes, certificates: Sequence[bytes]
) -> bytes:
    """R-CHAIN-7: the invitation; it has no field for certificates when there are none."""
    if not certificates:
        return encode(Invitation(version, round_id, config, nonce))
    return encode(ChainedInvitation(version, round_id, config, nonce, tuple(certificates)))


def decode_invitation(data: bytes | bytearray | memoryview) -> tuple[Invitation, tuple[bytes, ...]]:
    """R-CHAIN-7: the invitation, and the certificates in it, which version 1 has none of.  Raises PeerError."""
    if bytes(memoryview(data).cast("B")[2:3]) != b"\x02":  # the version, behind array header and type
        return invitation.decode(data, MAX_INVITATION_BYTES, None), ()
    chained = _chained_invitation.decode(data, MAX_CHAINED_INVITATION_BYTES, 2)
    plain = Invitation(chained.version, chained.session, chained.config, chained.nonce)
    return plain, chained.certificates


def max_bytes(config: RoundConfig, kind: type[msgspec.Struct]) -> int:
    """The most bytes that an honest message of this type has in this round."""
    neighbours, clients, kind = config.neighbours, config.clients, PLAIN.get(kind, kind)
    keys, sealed = keys_bytes(config.suite), sealed_bytes(config.suite)
    secrets = (neighbours // 2 + 1) * SEALED_SECRET_BYTES * config.suite.is_hybrid  # R-HYBRID-16
    bitmap = (clients + 7) // 8
    leaves = min(clients, (neighbours + 1) * max(1, (clients - 1).bit_length()))
    content = {
        Abort: 8,
        Advertise: keys + SIGNATURE_BYTES,
        Roster: DIGEST_BYTES + keys + neighbours * (2 * ID_BYTES + keys + SIGNATURE_BYTES) + leaves * DIGEST_BYTES,
        Share: DIGEST_BYTES + neighbours * (sealed + COMMITMENTS_BYTES) + secrets,
        Shares: neighbours * (ID_BYTES + sealed + COMMITMENTS_BYTES) + secrets,
        MaskedInput: config.masked_input_bytes,
        Complaint: config.complaints * (ID_BYTES + SIGNATURE_BYTES),  # R-COMPLAIN-13, as the next three
        Accusations: config.complaints * (ID_BYTES + SIGNATURE_BYTES),
        Answer: config.complaints * (opened_bytes(config.suite) + SIGNATURE_BYTES),
        Settled: neighbours * ID_BYTES + config.complaints * (opened_bytes(config.suite) + SIGNATURE_BYTES),
        Survivors: bitmap,
        Confirm: SIGNATURE_BYTES,
        Confirmations: bitmap + clients * SIGNATURE_BYTES,
        Unmask: neighbours * OPENING_BYTES + config.attachment_bytes,  # R-ATTACH-6
    }
    return content[kind] + _ENVELOPE_BYTES


def beginnings(phase: Phase) -> tuple[type[ToClient], ...]:
    """What a server may send when a phase begins: what it closed the one before with, in any threat model.

    Nothing stands here for the first phase, which begins with the invitation.
    """
    rounds = [phases(model, complaints=complaints) for model in ThreatModel for complaints in (False, True)]
    pairs = [pair for each in rounds for pair in pairwise(each)]
    closings = [EXCHANGES[before].closing for before, following in pairs if following is phase]
    return tuple(dict.fromkeys(closing for closing in closings if closing is not None))


def most_bytes_to_client(config: RoundConfig) -> int:
    """The most bytes that an honest server's message has in this round, after the invitation."""
    return max(max_bytes(config, exchange.closing) for exchange in EXCHANGES.values() if exchange.closing is not None)


def most_bytes_to_server(config: RoundConfig) -> int:
    """The most bytes that an honest client's message has in this round."""
    return max(max_bytes(config, exchange.answer) for exchange in EXCHANGES.values())


# Ids and bitmaps.


def encode_ids(ids: npt.ArrayLike) -> bytes:
    """Ids as 4 little-endian bytes each."""
    return np.asarray(ids, dtype="<u4").tobytes()


def decode_ids(data: bytes) -> tuple[int, ...]:
    """The ids in ``data``.  Raises PeerError(MALFORMED) when they do not fill whole records."""
    wire_rules.ids_whole(len(data), ID_BYTES)
    return tuple(np.frombuffer(data, dtype="<u4").tolist())


def encode_bitmap(ids: Iterable[int], clients: int) -> bytes:
    """The set ``ids`` of cohort indices as a bitmap of ceil(clients / 8) bytes."""
    bits = np.zeros((clients + 7) // 8 * 8, dtype=np.uint8)
    bits[np.fromiter(ids, dtype=np.int64)] = 1
    return np.packbits(bits, bitorder="little").tobytes()


def decode_bitmap(data: bytes, clients: int) -> tuple[int, ...]:
    """The ids in a bitmap, ascending.  Raises PeerError(MALFORMED) on a wrong length or a spare bit that is set."""
    wire_rules.bitmap_whole(len(data), clients)
    bits = np.unpackbits(np.frombuffer(data, dtype=np.uint8), bitorder="little")
    wire_rules.bitmap_of_cohort(bool(bits[clients:].any()), clients)
    return tuple(np.flatnonzero(bits).tolist())
