"""What the server holds, phase by phase, and the bytes of a snapshot."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final, final

import msgspec
import numpy as np
import numpy.typing as npt

from secagg import transcript
from secagg.arithmetic.modulus import Modulus
from secagg.errors import AbortCode, ErrorCode, ParameterError
from secagg.transitions import ServerState

Bytes = npt.NDArray[np.uint8]
Flags = npt.NDArray[np.bool_]


@dataclass(frozen=True, slots=True)
class Advert:
    """What a member advertised."""

    channel_key: bytes
    masking_key: bytes
    signature: bytes


@dataclass(slots=True, repr=False)
class Data:
    """Everything a server knows that a restart must not lose.  Arrays are as long as what their phase needs."""

    state: ServerState
    awaited: dict[int, None]
    """Whose message of the phase is still awaited (an ordered set)."""
    recipients: list[int] = field(default_factory=list)
    """Who gets the message of the last close."""
    dismissed: list[int] = field(default_factory=list)
    """Who gets an ABORT with it: whoever was lost in that phase and may still be listening."""
    adverts: dict[int, Advert] = field(default_factory=dict)
    left: dict[int, int] = field(default_factory=dict)
    """Who sent an ABORT, or was left out, and the code."""
    digests: dict[str, dict[int, bytes]] = field(default_factory=dict)
    """By phase and sender: the accepted messages' digests."""
    dropped: dict[str, list[int]] = field(default_factory=dict)
    blame: list[Blame] = field(default_factory=list)
    roster: list[int] = field(default_factory=list)
    """Who stands in the roster, ascending."""
    roster_digest: bytes = b""
    session: bytes = b""
    sealed: Bytes | None = None
    """(pairs, SEALED_BYTES): until the masked inputs are in."""
    commitments: Bytes | None = None
    """(pairs, COMMITMENTS_BYTES)."""
    seed_commitments: dict[int, bytes] = field(default_factory=dict)
    shared: list[int] = field(default_factory=list)
    """U2: who shared and was not pruned, ascending."""
    accumulator: npt.NDArray[np.unsignedinteger[Any]] | None = None
    """The sum of the masked inputs so far, in lanes."""
    masked: list[int] = field(default_factory=list)
    """Whose masked input is in the sum, in order of arrival; sorted at the close: S."""
    signatures: dict[int, bytes] = field(default_factory=dict)
    openings: npt.NDArray[np.uint64] | None = None
    """(pairs, 5): the shares that UNMASK returned, at their holders' entries."""
    opened: Flags | None = None
    """(pairs,): which of them are there and match their commitments."""
    failure: Failure | None = None


@final
@dataclass(frozen=True, slots=True)
class Blame:
    """Who broke which rule; ``sender`` is the one to blame."""

    sender: int
    phase: str
    code: ErrorCode
    detail: str


@final
@dataclass(frozen=True, slots=True)
class Failure:
    """Why the round ended without a sum.

    Attributes:
        phase: the phase in which it ended.
        reason: for a person.
        code: what the clients are told.
        missing: whom the server waited for in vain, when it was too many of them.
        culprit: who is to blame, when somebody is.
    """

    phase: str
    reason: str
    code: AbortCode
    missing: tuple[int, ...] = ()
    culprit: tuple[int, ...] = ()


@final
@dataclass(frozen=True, slots=True)
class Security:
    """What held in this round.

    Attributes:
        threat: the threat model.
        colluders: A.
        honest_members: the fewest honest clients in the sum, |S| - A.
        sigma: bits of privacy asked for.
        privacy_log2, connectivity_log2, correctness_log2: the bounds reached, of ``graph.Bounds``.
    """

    threat: str
    colluders: int
    honest_members: int
    sigma: int
    privacy_log2: float
    connectivity_log2: float
    correctness_log2: float


@final
@dataclass(frozen=True, slots=True, eq=False)
class Result:
    """The outcome of a round.

    Attributes:
        sum: shape (length,), dtype ``modulus.dtype``, read-only: the sum of the included vectors modulo ``modulus``.
        modulus: what it is counted in.
        included: whose vectors are in the sum, ascending.
        min_survivors: the fewest that the config allows in a sum.
        dropped: by phase, who was lost in it; those of CONFIRM and UNMASK are in the sum all the same.
        blame: who broke which rule; none of it changed the sum.
        security: what held.
        session: the session id.
        transcript_digest: covers what the server accepted and decided, without the masked vectors.
    """

    sum: npt.NDArray[np.unsignedinteger[Any]]
    modulus: Modulus
    included: tuple[int, ...]
    min_survivors: int
    dropped: Mapping[str, tuple[int, ...]]
    blame: tuple[Blame, ...]
    security: Security
    session: bytes
    transcript_digest: bytes

    def __repr__(self) -> str:
        return f"<Result: sum of {len(self.included)} vectors of {len(self.sum)} elements modulo {self.modulus}>"


@final
class Outgoing:
    """The messages of a phase's close: (index, bytes) pairs, made while it is iterated, as often as it is iterated."""

    __slots__ = ("_make", "_recipients")

    def __init__(self, recipients: Sequence[int], make: Callable[[int], bytes]) -> None:
        self._recipients = dict.fromkeys(recipients)
        self._make = make

    def __iter__(self) -> Iterator[tuple[int, bytes]]:
        return ((index, self._make(index)) for index in self._recipients)

    def __len__(self) -> int:
        return len(self._recipients)

    @property
    def recipients(self) -> tuple[int, ...]:
        """Who gets a message."""
        return tuple(self._recipients)

    def to(self, index: int) -> bytes | None:
        """The message for one client, or None: for hosts whose clients fetch their messages."""
        return self._make(index) if index in self._recipients else None


class _Snapshot(msgspec.Struct, frozen=True, array_like=True, forbid_unknown_fields=True):
    version: int
    config: bytes
    nonce: bytes
    data: Data


_CHECKSUM_BYTES: Final = 32
_ARRAY_DTYPES: Final = {"|u1", "|b1", "<u2", "<u4", "<u8"}


def dump(config: bytes, nonce: bytes, data: Data) -> bytes:
    """A snapshot's bytes: a checksum against a disk's faults, and the state."""
    state = msgspec.msgpack.encode(_Snapshot(transcript.VERSION, config, nonce, data), enc_hook=_array_out)
    return hashlib.sha256(state).digest() + state


def load(snapshot: bytes) -> tuple[bytes, bytes, Data]:
    """Config bytes, nonce and data of a snapshot.  Raises ParameterError."""
    state = memoryview(snapshot)[_CHECKSUM_BYTES:]
    if hashlib.sha256(state).digest() != snapshot[:_CHECKSUM_BYTES]:
        raise ParameterError("these bytes are no snapshot of a server, or damaged: their checksum is wrong")
    try:
        decoded = msgspec.msgpack.decode(state, type=_Snapshot, dec_hook=_array_in)
    except (msgspec.DecodeError, ValueError) as wrong:
        raise ParameterError(f"these bytes are no snapshot of a server: {wrong}") from None
    if decoded.version != transcript.VERSION:
        raise ParameterError(f"a snapshot of version {decoded.version}; this library restores {transcript.VERSION}")
    return decoded.config, decoded.nonce, decoded.data


def _array_out(value: Any) -> Any:
    if isinstance(value, np.ndarray):
        return [value.dtype.str, list(value.shape), value.tobytes()]
    raise NotImplementedError(f"{type(value).__name__} is not part of a server's state")


def _array_in(kind: type, value: Any) -> Any:
    dtype, shape, data = value
    if dtype not in _ARRAY_DTYPES:
        raise ValueError(f"array of dtype {dtype!r}")
    return np.frombuffer(bytearray(memoryview(data)), dtype=dtype).reshape(shape)
