"""What a client knows: a frozen record for each state, which holds the secrets of that state and no others."""

from __future__ import annotations

from typing import ClassVar, Final, TypeAlias

import msgspec

from secagg.pairwise.phases import ClientState
from secagg.primitives.secret import Secret

Ids: TypeAlias = tuple[int, ...]


class Round(msgspec.Struct, frozen=True, array_like=True):
    """What stays the same from first to last; nothing secret."""

    config: bytes
    nonce: bytes
    round_id: bytes
    index: int


def _nothing() -> Secret:
    return Secret(b"")


class _Record(msgspec.Struct, frozen=True, array_like=True, forbid_unknown_fields=True, kw_only=True):
    @property
    def state(self) -> ClientState:
        return _STATES[type(self)]


class Joined(_Record, tag="JOINED", frozen=True):
    """Nothing drawn yet."""

    session: ClassVar[bytes] = b""


class Advertised(_Record, tag="ADVERTISED", frozen=True, kw_only=False):
    """Waiting for the roster."""

    session: ClassVar[bytes] = b""
    channel_private: Secret
    masking_private: Secret
    share_secret: Secret
    channel_key: bytes
    masking_key: bytes


class Shared(_Record, tag="SHARED", frozen=True):
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
    """The keys that open the present neighbours' shares, in order; in a hybrid suite what X25519 agreed on."""
    channel_root: Secret = msgspec.field(default_factory=_nothing)
    """In a hybrid suite: what opens the ciphertexts before those shares.  The next three are hybrid suites' as well."""
    channel_key: bytes = b""
    channel_keys: tuple[bytes, ...] = ()
    """Of the present neighbours, in order."""
    sealers: Ids = ()
    """Those of them that seal the pair's secret for this client, ascending."""
    dealt: Secret = msgspec.field(default_factory=_nothing)
    """In rounds with complaints: the pairs that it dealt to the present neighbours, in order, as it would open them."""
    sent: bytes = b""
    """The same: the digests of what it sent them (R-COMPLAIN-4)."""


class Answered(_Record, tag="ANSWERED", frozen=True):
    """In rounds with complaints: it has said whose shares are bad, and opened what it had to."""

    session: bytes
    neighbours: Ids
    dealers: Ids
    seed: Secret
    mask_keys: Secret
    pairs: Secret
    """Zeros in the place of pairs that it complained about."""
    complained: Ids
    """Whose shares are bad, ascending."""
    received: bytes
    """Of each of these the commitments that came, and the digest of what came."""
    sealers: Ids
    """In a hybrid suite: those of them that seal the pair's secret for this client, ascending."""
    secret_commitments: bytes
    """Of each of these the commitment that came."""
    masking_key: bytes
    masking_keys: tuple[bytes, ...]
    """Of the same, in order."""
    masking_private: Secret
    """It makes the masks with them when their secrets are opened; nothing where there are none."""


class Checked(Answered, tag="CHECKED", frozen=True):
    """The same, and it may still be asked to open what it dealt."""

    present: Ids
    dealt: Secret
    sent: bytes


class HasInput(_Record, tag="INPUT", frozen=True):
    """Waiting for its host's vector."""

    session: bytes
    neighbours: Ids
    dealers: Ids
    """U2: the neighbours whose shares it holds, ascending."""
    seed: Secret
    mask_keys: Secret
    """The pairwise masks' keys, in the dealers' order."""
    pairs: Secret
    """For each dealer the pair of shares that it dealt to this client, with their salts."""


class Masked(_Record, tag="MASKED", frozen=True):
    """Waiting for the survivors."""

    session: bytes
    neighbours: Ids
    dealers: Ids
    pairs: Secret
    attachment_losses: Ids = ()
    """For how many losses each of the host's attached values is, ascending; the next record has both as well."""
    attachment: Secret = msgspec.field(default_factory=_nothing)
    """The values, joined."""


class Confirmed(_Record, tag="CONFIRMED", frozen=True):
    """Waiting for the others' confirmations."""

    session: bytes
    survivors: bytes
    dealers: Ids
    pairs: Secret
    attachment_losses: Ids = ()
    attachment: Secret = msgspec.field(default_factory=_nothing)


class Ended:
    """Over; nothing is left."""

    __slots__ = ("session", "state")

    def __init__(self, state: ClientState = ClientState.ABORTED, session: bytes = b"") -> None:
        """``session``: by it a client that is DONE knows an ABORT of its round, and one that is ABORTED its session."""
        self.state, self.session = state, session


LiveRecord: TypeAlias = Joined | Advertised | Shared | Checked | Answered | HasInput | Masked | Confirmed
"""What can be suspended."""
Record: TypeAlias = LiveRecord | Ended

_STATES: Final[dict[type, ClientState]] = {
    Joined: ClientState.JOINED,
    Advertised: ClientState.ADVERTISED,
    Shared: ClientState.SHARED,
    Checked: ClientState.CHECKED,
    Answered: ClientState.ANSWERED,
    HasInput: ClientState.INPUT,
    Masked: ClientState.MASKED,
    Confirmed: ClientState.CONFIRMED,
}
"""The state that each record stands for."""


def _secrets(record: Record) -> list[Secret]:
    if isinstance(record, Ended):
        return []
    return [value for name in record.__struct_fields__ if isinstance(value := getattr(record, name), Secret)]


def wipe(record: Record, keep: Record | None = None) -> None:
    """Wipe a record's secrets, except those that the next record carries on."""
    kept = {id(secret) for secret in _secrets(keep)} if keep is not None else set()
    for secret in _secrets(record):
        if id(secret) not in kept:
            secret.wipe()
