"""A client's phases: frozen records of what each phase knows, and the bytes they are suspended to."""

from __future__ import annotations

import hashlib
from typing import Any, ClassVar, Final, TypeAlias

import msgspec

from secagg.errors import ParameterError
from secagg.pairwise import keys, transcript
from secagg.pairwise.transitions import ClientState
from secagg.primitives import aead, suites
from secagg.primitives.secret import Secret

Ids: TypeAlias = tuple[int, ...]


class Round(msgspec.Struct, frozen=True, array_like=True):
    """What stays the same from first to last; nothing secret."""

    config: bytes
    nonce: bytes
    round_id: bytes
    index: int


class _Phase(msgspec.Struct, frozen=True, array_like=True, forbid_unknown_fields=True, kw_only=True):
    @property
    def state(self) -> ClientState:
        return _STATES[type(self)]


class Joined(_Phase, tag="JOINED", frozen=True):
    """Nothing drawn yet."""

    session: ClassVar[bytes] = b""


class Advertised(_Phase, tag="ADVERTISED", frozen=True, kw_only=False):
    """Waiting for the roster."""

    session: ClassVar[bytes] = b""
    channel_private: Secret
    masking_private: Secret
    share_secret: Secret
    channel_key: bytes
    masking_key: bytes


class Shared(_Phase, tag="SHARED", frozen=True):
    """Waiting for the neighbours' shares."""

    session: bytes
    neighbours: Ids
    """N(i), as far as the roster showed it, ascending."""
    present: Ids
    """Those of them that advertised, ascending."""
    masking_key: bytes
    masking_keys: tuple[bytes, ...]
    """Of the present neighbours, in order."""
    masking_private: Secret
    seed: Secret
    receive_keys: Secret
    """The keys that open the present neighbours' shares, in order."""


class HasInput(_Phase, tag="INPUT", frozen=True):
    """Waiting for its host's vector."""

    session: bytes
    neighbours: Ids
    dealers: Ids
    """U2: the neighbours whose shares it holds, ascending."""
    seed: Secret
    mask_keys: Secret
    """The pairwise masks' keys, in the dealers' order."""
    openings: Secret
    """For each dealer: key share, seed share, their salts."""


class Masked(_Phase, tag="MASKED", frozen=True):
    """Waiting for the survivors."""

    session: bytes
    neighbours: Ids
    dealers: Ids
    openings: Secret


class Confirmed(_Phase, tag="CONFIRMED", frozen=True):
    """Waiting for the others' confirmations."""

    session: bytes
    survivors: bytes
    dealers: Ids
    openings: Secret


class Ended:
    """Over; nothing is left."""

    __slots__ = ("session", "state")

    def __init__(self, state: ClientState = ClientState.ABORTED, session: bytes = b"") -> None:
        """``session``: by it a client that is DONE still knows an ABORT of its round."""
        self.state, self.session = state, session


Suspended: TypeAlias = Joined | Advertised | Shared | HasInput | Masked | Confirmed
Phase: TypeAlias = Suspended | Ended

_STATES: Final[dict[type, ClientState]] = {
    Joined: ClientState.JOINED,
    Advertised: ClientState.ADVERTISED,
    Shared: ClientState.SHARED,
    HasInput: ClientState.INPUT,
    Masked: ClientState.MASKED,
    Confirmed: ClientState.CONFIRMED,
}

PHASE_NAMES: Final = {
    ClientState.JOINED: "ADVERTISE",
    ClientState.ADVERTISED: "ADVERTISE",
    ClientState.SHARED: "SHARE",
    ClientState.INPUT: "MASK",
    ClientState.MASKED: "MASK",
    ClientState.CONFIRMED: "CONFIRM",
}
"""The phase that a state lies in."""


def _secrets(phase: Phase) -> list[Secret]:
    if isinstance(phase, Ended):
        return []
    return [value for name in phase.__struct_fields__ if isinstance(value := getattr(phase, name), Secret)]


def wipe(phase: Phase, keep: Phase | None = None) -> None:
    """Wipe a phase's secrets, except those that the next phase carries on."""
    kept = {id(secret) for secret in _secrets(keep)} if keep is not None else set()
    for secret in _secrets(phase):
        if id(secret) not in kept:
            secret.wipe()


class _State(msgspec.Struct, frozen=True, array_like=True, forbid_unknown_fields=True):
    version: int
    round: Round
    phase: Suspended
    seen: dict[str, bytes]


_CLEAR, _SEALED = b"\x00", b"\x01"
TOKEN_BYTES: Final = 32
_HOST_KEY_BYTES: Final = 32
_CHECKSUM_BYTES: Final = 32


def dump(token: bytes, round_: Round, phase: Phase, seen: dict[str, bytes], key: bytes | None) -> bytes:
    """A mark whether it is sealed, the token, and the state: sealed under a key that is used for this token alone, or
    in clear after a checksum against a disk's faults.
    """
    if isinstance(phase, Ended):
        raise ParameterError("a client that has ended is not suspended")
    state = msgspec.msgpack.encode(_State(transcript.VERSION, round_, phase, seen), enc_hook=_reveal)
    if key is None:
        return _CLEAR + token + hashlib.sha256(token + state).digest() + state
    return _SEALED + token + aead.seal(keys.STATE_SUITE, _state_key(key, token), state, _SEALED + token)


def load(data: bytes, key: bytes | None) -> tuple[bytes, Round, Suspended, dict[str, bytes]]:
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
    if decoded.version != transcript.VERSION:
        raise ParameterError(
            f"a client suspended by version {decoded.version}; this library resumes {transcript.VERSION}"
        )
    return token, decoded.round, decoded.phase, decoded.seen


def _state_key(key: bytes, token: bytes) -> bytes:
    if len(key) != _HOST_KEY_BYTES:
        raise ParameterError(
            f"a key of {len(key)} bytes; suspended states are sealed under {_HOST_KEY_BYTES} secret bytes"
        )
    return keys.suspended_state(key, token)


def _reveal(value: Any) -> Any:
    if isinstance(value, Secret):
        return value.reveal()
    raise NotImplementedError(f"{type(value).__name__} is not part of a client's state")


def _conceal(kind: type, value: Any) -> Any:
    return Secret(memoryview(value))  # never a number: that would be so many zeros
