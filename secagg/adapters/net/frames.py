"""What goes over a connection: one typed struct a frame, MessagePack, decoded strictly.

A frame that carries bytes (a layout, a protocol message, a sum) says how many; they follow it in the same WebSocket
message, as further fragments.  So a receiver knows the size before it takes the bytes.
"""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated, Any, Final, TypeAlias

import msgspec
from msgspec import Meta

from secagg.adapters.net.ballot_layout import BallotLayout
from secagg.encoding.layout import Layout
from secagg.errors import ParameterError, SecAggError
from secagg.pairwise.messages import MAX_CERTIFICATES_BYTES
from secagg.privacy.layout import AnyLayout, PrivateLayout
from secagg.statistics.layout import StudyLayout
from secagg.wording import counted

FRAMES_VERSION: Final = 4
FRAGMENT_BYTES: Final = 2**16
MAX_FRAME_BYTES: Final = 2048
"""A client's frames without the bytes behind them; it must stay below what a connection may send before its login."""
MAX_WELCOME_BYTES: Final = 2**23
"""The longest layout that follows a Welcome: an array's name and shape take some 60 bytes, so 100,000 arrays fit."""
CHALLENGE_BYTES: Final = 32

Size: TypeAlias = Annotated[int, Meta(ge=0, le=2**40)]
Count: TypeAlias = Annotated[int, Meta(ge=0, le=2**32)]


class Refusal(StrEnum):
    """Why a connection, or a client, was refused."""

    WRONG_VERSION = "wrong-version"
    MALFORMED = "malformed"
    TOO_LARGE = "too-large"
    TOO_SLOW = "too-slow"
    TOO_MANY_MESSAGES = "too-many-messages"
    BAD_LOGIN = "bad-login"
    UNKNOWN_IDENTITY = "unknown-identity"
    ROUND_UNKNOWN = "round-unknown"
    SERIES_OVER = "series-over"
    ROUND_FULL = "round-full"
    ROUND_BEGUN = "round-begun"
    ROUND_ABORTED = "round-aborted"
    ANOTHER_ROUND = "another-round"
    LEFT_OUT = "left-out"
    MESSAGE_REFUSED = "message-refused"
    REPLACED = "replaced"
    SERVER_BUSY = "server-busy"
    SERVER_STOPS = "server-stops"
    OTHER = "other"


RETRY: Final = frozenset({Refusal.TOO_SLOW, Refusal.SERVER_BUSY, Refusal.SERVER_STOPS})
"""After which a client tries again; after the others it is over."""


class RefusedError(SecAggError):
    """A peer refused, or is to be refused: the code, and a line for a person."""

    def __init__(self, code: Refusal, message: str) -> None:
        super().__init__(message)
        self.code = code


class _Frame(msgspec.Struct, array_like=True, forbid_unknown_fields=True, frozen=True):
    pass


class Challenge(_Frame, tag=0, frozen=True):
    """The server's first frame: what the client's login has to sign."""

    version: int
    challenge: Annotated[bytes, Meta(min_length=CHALLENGE_BYTES, max_length=CHALLENGE_BYTES)]


class Welcome(_Frame, tag=1, frozen=True):
    """Server: the login was good; this is the client's seat.  What is summed follows, see ``decode_layout``."""

    index: Count
    clients: Count
    size: Annotated[int, Meta(ge=1, le=MAX_WELCOME_BYTES)]


class Message(_Frame, tag=2, frozen=True):
    """Server: a message of the protocol follows, sent in ``phase``."""

    phase: str
    size: Size


class Ack(_Frame, tag=3, frozen=True):
    """Server: submission ``number`` is in the journal, and this is what became of it: an event's name or a code."""

    number: Count
    verdict: str


class Progress(_Frame, tag=4, frozen=True):
    """Server, now and then: where the round stands."""

    phase: str
    arrived: Count
    expected: Count
    seconds_left: float


class Sum(_Frame, tag=5, frozen=True):
    """Server: the sum follows, packed; ``included`` is a bitmap over the cohort.

    ``answered``: in a private round whose noise has levels, of how many of them what was not needed was taken off.
    """

    included: bytes
    size: Size
    answered: Count = 0


class Refused(_Frame, tag=6, frozen=True):
    """Server: no, and why.  The connection is closed next."""

    code: str
    message: str


class Aborted(_Frame, tag=7, frozen=True):
    """Server: the round is aborted, and why.  Before it ends, a client that did not answer in UNMASK may state so.

    The statement is a submission (``STATEMENT``); a client that makes none says ``NoStatement``.
    """

    message: str


class Certified(_Frame, tag=8, frozen=True):
    """Server, before a sum: the round's certificate follows."""

    size: Annotated[int, Meta(ge=1, le=MAX_CERTIFICATES_BYTES)]


class Candidate(_Frame, tag=9, frozen=True):
    """Server: the candidate of a ballot follows, for a member that wants it; its layout has size and digest."""

    size: Size


class Counted(_Frame, tag=10, frozen=True):
    """Server: how a ballot ended, in place of a Sum: how many object, how many do not abstain, and of how many."""

    objections: Count
    voters: Count
    clients: Count


class Login(_Frame, tag=16, frozen=True):
    """Client: who it is, and the signature over ``transcript.signed_login``."""

    version: int
    key: Annotated[bytes, Meta(min_length=32, max_length=32)]
    signature: Annotated[bytes, Meta(min_length=64, max_length=64)]


class Submission(_Frame, tag=17, frozen=True):
    """Client: a message of the protocol follows.  Sent again, with its number, until it is acknowledged."""

    number: Count
    phase: Annotated[str, Meta(max_length=16)]
    size: Size


class EndReceived(_Frame, tag=18, frozen=True):
    """Client: it knows how the round ended, and has stored what it wanted of it."""


class NoStatement(_Frame, tag=19, frozen=True):
    """Client: it does not state that it did not answer; because it did, or because it keeps no chain."""


class WantsCandidate(_Frame, tag=20, frozen=True):
    """Client, once behind the Welcome of a ballot: whether it wants the candidate, or has voted on it already."""

    wants: bool


ToClient: TypeAlias = (
    Challenge | Welcome | Message | Ack | Progress | Sum | Refused | Aborted | Certified | Candidate | Counted
)
ToServer: TypeAlias = Login | Submission | EndReceived | NoStatement | WantsCandidate
Frame: TypeAlias = ToClient | ToServer
AnnouncedLayout: TypeAlias = AnyLayout | StudyLayout | BallotLayout
"""What a round of the service sums: arrays of a file, what a study asks for, or votes on a candidate."""

ABORT: Final = "ABORT"
"""The phase of a client's ABORT message."""
STATEMENT: Final = "STATEMENT"
"""The phase of a submission that is a client's statement that it did not answer in UNMASK (R-CHAIN-12)."""

_encoder = msgspec.msgpack.Encoder()
_to_client: Final[msgspec.msgpack.Decoder[ToClient]] = msgspec.msgpack.Decoder(ToClient)
_to_server: Final[msgspec.msgpack.Decoder[ToServer]] = msgspec.msgpack.Decoder(ToServer)
_layout: Final[msgspec.msgpack.Decoder[Layout]] = msgspec.msgpack.Decoder(Layout)
_private_layout: Final[msgspec.msgpack.Decoder[PrivateLayout]] = msgspec.msgpack.Decoder(PrivateLayout)
_study_layout: Final[msgspec.msgpack.Decoder[StudyLayout]] = msgspec.msgpack.Decoder(StudyLayout)
_ballot_layout: Final[msgspec.msgpack.Decoder[BallotLayout]] = msgspec.msgpack.Decoder(BallotLayout)
_parts: Final[msgspec.msgpack.Decoder[tuple[msgspec.Raw, ...]]] = msgspec.msgpack.Decoder(tuple[msgspec.Raw, ...])
_PRIVATE: Final = _encoder.encode("private")
_STUDY: Final = _encoder.encode("study")
_BALLOT: Final = _encoder.encode("ballot")
"""What layouts of private rounds, studies and ballots begin with; one of files without noise begins with its arrays."""


def encode(frame: Frame) -> bytes:
    """The frame's bytes."""
    return _encoder.encode(frame)


def decode_to_server(data: bytes) -> ToServer:
    """A client's frame.  Raises RefusedError(MALFORMED)."""
    try:
        return _to_server.decode(data)
    except (msgspec.DecodeError, UnicodeDecodeError) as wrong:
        raise RefusedError(Refusal.MALFORMED, f"a frame that does not decode: {wrong}") from None


def decode_to_client(data: bytes) -> ToClient:
    """The server's frame.  Raises RefusedError(MALFORMED)."""
    try:
        return _to_client.decode(data)
    except (msgspec.DecodeError, UnicodeDecodeError) as wrong:
        raise RefusedError(Refusal.MALFORMED, f"the server sent a frame that does not decode: {wrong}") from None


def encode_layout(layout: AnnouncedLayout) -> bytes:
    """The bytes behind a Welcome.

    Raises ParameterError when they are more than a client takes, or when the arrays do not go by their names.
    """
    encoded = _encoder.encode(layout)
    if isinstance(layout, BallotLayout):
        return encoded
    layout.check_ascending()
    _check_clip(layout)
    if len(encoded) > MAX_WELCOME_BYTES:
        raise ParameterError(
            f"the layout of {counted(len(layout.arrays), 'array')} takes {counted(len(encoded), 'byte')}; at most "
            f"{MAX_WELCOME_BYTES:,} can be sent to a client: join small arrays into larger ones, or shorten their names"
        )
    return encoded


def decode_layout(data: bytes | bytearray) -> AnnouncedLayout:
    """The layout behind a Welcome.  Raises RefusedError(MALFORMED)."""
    try:
        layout: AnnouncedLayout = _decoder_of(bytes(next(iter(_parts.decode(data)), b""))).decode(data)
        if not isinstance(layout, BallotLayout):
            layout.check_ascending()
            _check_clip(layout)
    except RecursionError:  # what is skipped on the way to the kind may be nested without end
        raise RefusedError(Refusal.MALFORMED, "the server sent a layout that is nested thousands of times") from None
    except (msgspec.DecodeError, UnicodeDecodeError, ParameterError) as wrong:
        raise RefusedError(Refusal.MALFORMED, f"the server sent a layout that does not decode: {wrong}") from None
    return layout


def _decoder_of(first: bytes) -> msgspec.msgpack.Decoder[Any]:
    """By the first part of an encoded layout."""
    if first == _STUDY:
        return _study_layout
    if first == _BALLOT:
        return _ballot_layout
    return _private_layout if first == _PRIVATE else _layout


def _check_clip(layout: AnnouncedLayout) -> None:
    """Raises ParameterError for an adaptive clip, for which the files of a round have no coordinate."""
    if isinstance(layout, PrivateLayout) and layout.terms.adaptive is not None:
        raise ParameterError("an adaptive clip is for training, whose rounds learn it in turn; give a clip that stays")
