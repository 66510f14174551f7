"""The bytes that a client is suspended to, and how it comes back from them."""

from __future__ import annotations

import hashlib
from typing import Any, Final

import msgspec

from secagg.errors import ParameterError
from secagg.pairwise import keys
from secagg.pairwise.client.records import Ended, LiveRecord, Record, Round
from secagg.primitives import aead, suites
from secagg.primitives.secret import Secret
from secagg.wording import counted


class _State(msgspec.Struct, frozen=True, array_like=True, forbid_unknown_fields=True):
    version: int
    round: Round
    record: LiveRecord
    seen: dict[str, bytes]


_VERSION: Final = 3
"""Of the form of a suspended client; apart from the protocol's, because it changes without it."""
_RESUMED: Final = (1, 2, 3)
"""Form 1 knew no attachment, and form 2 no hybrid suite: they are read as clients that hold nothing of it."""
_CLEAR, _SEALED = b"\x00", b"\x01"
TOKEN_BYTES: Final = 32
_HOST_KEY_BYTES: Final = 32
_CHECKSUM_BYTES: Final = 32


def dump(token: bytes, round_: Round, record: Record, seen: dict[str, bytes], key: bytes | None) -> bytes:
    """A mark whether it is sealed, the token, and the state: sealed under a key that is used for this token alone, or
    in clear after a checksum against a disk's faults.
    """
    if isinstance(record, Ended):
        raise ParameterError("a client that has ended is not suspended")
    state = msgspec.msgpack.encode(_State(_VERSION, round_, record, seen), enc_hook=_reveal)
    if key is None:
        return _CLEAR + token + hashlib.sha256(token + state).digest() + state
    return _SEALED + token + aead.seal(keys.STATE_SUITE, _state_key(key, token), state, _SEALED + token)


def load(data: bytes, key: bytes | None) -> tuple[bytes, Round, LiveRecord, dict[str, bytes]]:
    """The token and the parts of a suspended state.  Raises ParameterError."""
    mark, token, state = data[:1], data[1 : 1 + TOKEN_BYTES], data[1 + TOKEN_BYTES :]
    if mark not in (_CLEAR, _SEALED) or len(token) != TOKEN_BYTES:
        raise ParameterError("these bytes are no suspended client")
    if (mark == _SEALED) != (key is not None):
        raise ParameterError(
            "this state is sealed: give the key that suspend() was given" if key is None else "this state is not sealed"
        )
    try:
        if key is not None:
            state = aead.unseal(keys.STATE_SUITE, _state_key(key, token), state, _SEALED + token)
        else:
            checksum, state = state[:_CHECKSUM_BYTES], state[_CHECKSUM_BYTES:]
            if checksum != hashlib.sha256(token + state).digest():
                raise ParameterError("these bytes are no suspended client, or damaged: their checksum is wrong")
        decoded = msgspec.msgpack.decode(state, type=_State, dec_hook=_conceal)
    except (suites.CryptoError, msgspec.DecodeError, UnicodeDecodeError):
        # Without the cause: what does not decode may still be secret.
        raise ParameterError("this suspended client does not open: wrong key, or damaged bytes") from None
    if decoded.version not in _RESUMED:
        raise ParameterError(
            f"a suspended client of form {decoded.version}; this library resumes {_RESUMED[0]} to {_RESUMED[-1]}"
        )
    return token, decoded.round, decoded.record, decoded.seen


def _state_key(key: bytes, token: bytes) -> bytes:
    if len(key) != _HOST_KEY_BYTES:
        raise ParameterError(
            f"a key of {counted(len(key), 'byte')}; suspended states are sealed under {_HOST_KEY_BYTES} secret bytes"
        )
    return keys.suspended_state(key, token)


def _reveal(value: Any) -> Any:
    if isinstance(value, Secret):
        return value.reveal()
    raise NotImplementedError(f"{type(value).__name__} is not part of a client's state")


def _conceal(kind: type, value: Any) -> Any:
    return Secret(memoryview(value))  # never a number: that would be so many zeros
