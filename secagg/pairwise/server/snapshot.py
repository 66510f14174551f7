"""The bytes of a server's snapshot: a checksum against a disk's faults, then version, config, nonce and state."""

from __future__ import annotations

import hashlib
from typing import Any, Final, NamedTuple

import msgspec
import numpy as np

from secagg.errors import ParameterError
from secagg.identity import Directory
from secagg.pairwise.config import decode_config
from secagg.pairwise.server.attendance import Attendance
from secagg.pairwise.server.records import Held, Round

VERSION: Final = 4
"""Of the snapshots that are made and restored; apart from the protocol's, because their form changes without it."""

_CHECKSUM_BYTES: Final = 32
_ARRAY_DTYPES: Final = {"|u1", "|b1", "<u2", "<u4", "<u8"}


class State(NamedTuple):
    """Everything that a server must not lose in a restart."""

    round: Round
    attendance: Attendance
    held: Held


class _Snapshot(msgspec.Struct, frozen=True, array_like=True, forbid_unknown_fields=True):
    version: int
    config: bytes
    nonce: bytes
    state: msgspec.Raw
    certificates: tuple[bytes, ...] = ()


class _State(msgspec.Struct, frozen=True, array_like=True, forbid_unknown_fields=True):
    attendance: Attendance
    held: Held


def dump(round_: Round, attendance: Attendance, held: Held) -> bytes:
    """A snapshot of a server that holds this."""
    state = msgspec.msgpack.encode(_State(attendance, held), enc_hook=_out)
    snapshot = _Snapshot(VERSION, round_.config.to_bytes(), round_.nonce, msgspec.Raw(state), round_.certificates)
    data = msgspec.msgpack.encode(snapshot)
    return hashlib.sha256(data).digest() + data


def load(snapshot: bytes, directory: Directory | None) -> State:
    """What a snapshot holds.  Raises ParameterError, also when ``active`` and the directory is not the cohort's."""
    data = memoryview(snapshot)[_CHECKSUM_BYTES:]
    if hashlib.sha256(data).digest() != snapshot[:_CHECKSUM_BYTES]:
        raise ParameterError("these bytes are no snapshot of a server, or damaged: their checksum is wrong")
    try:
        decoded = msgspec.msgpack.decode(data, type=_Snapshot)
    except (msgspec.DecodeError, ValueError) as wrong:
        raise ParameterError(f"these bytes are no snapshot of a server: {wrong}") from None
    if decoded.version != VERSION:
        raise ParameterError(
            f"a snapshot of version {decoded.version}; this library restores version {VERSION}: finish the round with "
            "the release of the library that made the snapshot, or start the round anew"
        )
    round_ = Round(decode_config(decoded.config), decoded.nonce, directory, decoded.certificates)

    def back_in(kind: type, value: Any) -> Any:
        return round_ if kind is Round else _array_in(value)

    try:
        state = msgspec.msgpack.decode(decoded.state, type=_State, dec_hook=back_in)
    except (msgspec.DecodeError, ValueError) as wrong:
        raise ParameterError(f"these bytes are no snapshot of a server: {wrong}") from None
    return State(round_, state.attendance, state.held)


def _out(value: Any) -> Any:
    if isinstance(value, Round):
        return None  # config and nonce stand before the state, and identities are the directory's
    if isinstance(value, np.ndarray):
        return [value.dtype.str, list(value.shape), value.tobytes()]
    raise NotImplementedError(f"{type(value).__name__} is not part of a server's state")


def _array_in(value: Any) -> Any:
    dtype, shape, data = value
    if dtype not in _ARRAY_DTYPES:
        raise ValueError(f"array of dtype {dtype!r}")
    return np.frombuffer(bytearray(memoryview(data)), dtype=dtype).reshape(shape)
