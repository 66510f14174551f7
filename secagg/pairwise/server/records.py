"""What a server knows: a frozen record of each closed phase, and a collector for the one that is open.

    phase        collector      is closed with
    ADVERTISE    Advertising    Advertised
    SHARE        Sharing        Shared
    MASK         Masking        Masked
    CONFIRM      Confirming     Confirmed
    UNMASK       Unmasking      Unmasked

A collector holds the record of the phase before it, and that record the one before itself: what a phase needs is there
by its type, and what is not decided yet has no place where it could be looked for.  What follows from a record is
worked out when it is first asked for, and stays right, because a record does not change.

Arrays are as long as what their phase needs; "pairs" are the directed edges among the roster's members.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from functools import cached_property
from typing import Any, ClassVar, Final, TypeAlias, final

import msgspec
import numpy as np
import numpy.typing as npt

from secagg.errors import ParameterError
from secagg.identity import Directory
from secagg.outcome import Failure
from secagg.pairwise import messages
from secagg.pairwise.adjacency import Adjacency
from secagg.pairwise.config import RoundConfig
from secagg.pairwise.graph import NeighbourGraph
from secagg.pairwise.merkle import MerkleTree
from secagg.pairwise.phases import ServerState
from secagg.pairwise.records import PAIR_BYTES, PAIR_SECRET_BYTES, SIGNATURE_BYTES, PublicKeys, keys_bytes
from secagg.pairwise.sums import MaskedSums, group_row, no_envelopes
from secagg.primitives import kem, signing
from secagg.wording import counted

Bytes: TypeAlias = npt.NDArray[np.uint8]
Flags: TypeAlias = npt.NDArray[np.bool_]
Lanes: TypeAlias = npt.NDArray[np.unsignedinteger[Any]]
Ids: TypeAlias = tuple[int, ...]


@final
class Round:
    """What stays the same from first to last."""

    __slots__ = ("_identities", "certificates", "config", "nonce", "round_id")

    def __init__(
        self, config: RoundConfig, nonce: bytes, directory: Directory | None, certificates: Sequence[bytes] = ()
    ) -> None:
        """Raises ParameterError when the directory, in ``active``, does not hold the config's cohort, and for
        certificates that no invitation of this round can bring.
        """
        identities: Sequence[bytes] | None = ()
        if config.threat_model.signs:
            identities = None if directory is None else directory.cohort(config.cohort)
        if identities is None or (config.threat_model.signs and len(identities) != config.clients):
            raise ParameterError("active: give the directory that holds the config's cohort")
        if not all(map(signing.is_signing_key, identities)):
            raise ParameterError("active: the directory holds an identity key that is no canonical Ed25519 key")
        kem.require(config.suite)
        self.config, self.nonce, self._identities = config, nonce, identities
        self.certificates = tuple(certificates)
        carried = sum(len(certificate) + 5 for certificate in certificates) + 5  # with MessagePack's headers
        if certificates and not (config.chain and carried <= messages.MAX_CERTIFICATES_BYTES):
            raise ParameterError(
                f"certificates of {counted(carried, 'byte')}: the invitation to a chained round brings up to "
                f"{messages.MAX_CERTIFICATES_BYTES:,}, and to another one none; give the last ones alone"
            )
        self.round_id = config.labels.round_id(config.digest, nonce)

    def identity_key(self, member: int) -> bytes:
        """A member's identity key, where the threat model signs."""
        return self._identities[member]


def flags(members: Iterable[int], clients: int) -> Flags:
    """A set of members as flags, shape (clients,)."""
    found = np.zeros(clients, dtype=np.bool_)
    found[np.fromiter(members, dtype=np.int64)] = True
    return found


class Advert(msgspec.Struct, frozen=True, array_like=True, forbid_unknown_fields=True):
    """What a member advertised."""

    channel_key: bytes
    masking_key: bytes
    signature: bytes
    """Empty in ``semi_honest``."""

    @property
    def keys(self) -> PublicKeys:
        """Both public keys."""
        return PublicKeys(self.channel_key, self.masking_key)


class _Collector(msgspec.Struct, array_like=True, forbid_unknown_fields=True, eq=False):
    """What one phase collects.  Its repr shows no content: some of it is secret until the round is over."""

    def __repr__(self) -> str:
        return f"<{type(self).__name__}>"


class _Record(msgspec.Struct, frozen=True, array_like=True, forbid_unknown_fields=True, eq=False, dict=True):
    """What one phase was closed with.  The base has room for what follows from a record; no content in its repr."""

    def __post_init__(self) -> None:
        for name in self.__struct_fields__:
            if isinstance(value := getattr(self, name), np.ndarray):
                value.flags.writeable = False

    def __repr__(self) -> str:
        return f"<{type(self).__name__}>"


# ADVERTISE.


@final
class Advertising(_Collector, tag="ADVERTISE"):
    """The cohort's public keys come in."""

    advertised: ClassVar[None] = None
    round: Round
    adverts: dict[int, Advert] = msgspec.field(default_factory=dict)
    advertised_by: dict[bytes, int] = msgspec.field(default_factory=dict)
    """Each public key so far, or each half of a hybrid one, and who advertised it."""


@final
class Advertised(_Record, tag="ADVERTISED", frozen=True):
    """The roster stands."""

    round: Round
    adverts: dict[int, Advert]
    members: Ids
    """Who stands in the roster, ascending."""

    @cached_property
    def tree(self) -> MerkleTree:
        """The roster's tree: a member's leaf is its keys, and every other leaf is empty."""
        config, labels = self.round.config, self.round.config.labels
        leaves = [labels.empty_leaf(index) for index in range(config.clients)]
        for member in self.members:
            leaves[member] = labels.leaf(member, *self.adverts[member].keys)
        return MerkleTree(leaves, labels.node)

    @cached_property
    def digest(self) -> bytes:
        """The roster's digest."""
        config = self.round.config
        return config.labels.roster_digest(self.round.round_id, config.clients, self.tree.root)

    @cached_property
    def session(self) -> bytes:
        """The session id."""
        config = self.round.config
        return config.labels.session_id(config.digest, self.round.nonce, self.digest)

    @cached_property
    def graph(self) -> NeighbourGraph:
        """The graph that the roster's digest draws, over the whole cohort."""
        config = self.round.config
        key = config.labels.graph_key(self.digest, self.session)
        return NeighbourGraph(config.clients, config.neighbours, key, config.groups)

    @cached_property
    def group_numbers(self) -> npt.NDArray[np.int64]:
        """The number of every member's group, shape (n,); zeros without groups."""
        return self.graph.group_numbers

    @cached_property
    def flags(self) -> Flags:
        """The roster's members as flags."""
        return flags(self.members, self.round.config.clients)

    @cached_property
    def edges(self) -> Adjacency:
        """The graph among the roster's members."""
        return Adjacency(self.graph, self.flags)

    @cached_property
    def sealing(self) -> Flags:
        """Of which directed pairs of ``edges`` the first member is the sealer (R-HYBRID-6), shape (pairs,)."""
        rows = [self.graph.seals_for(member, self.edges.neighbours(member)) for member in range(len(self.flags))]
        return np.concatenate(rows)

    @cached_property
    def sealing_rows(self) -> npt.NDArray[np.int64]:
        """Where the sealed secret of such a pair stands among all, shape (pairs,); of other pairs, nothing."""
        return np.cumsum(self.sealing, dtype=np.int64) - 1

    @cached_property
    def keys(self) -> Bytes:
        """Everybody's public keys, shape (n, keys_bytes): the channel key before the masking key."""
        keys = np.zeros((self.round.config.clients, keys_bytes(self.round.config.suite)), dtype=np.uint8)
        for member, advert in self.adverts.items():
            keys[member] = np.frombuffer(advert.keys.to_bytes(), dtype=np.uint8)
        return keys

    @cached_property
    def signatures(self) -> Bytes:
        """``active``: everybody's signature of its keys, shape (n, SIGNATURE_BYTES)."""
        signatures = np.zeros((self.round.config.clients, SIGNATURE_BYTES), dtype=np.uint8)
        for member, advert in self.adverts.items():
            signatures[member] = np.frombuffer(advert.signature, dtype=np.uint8)
        return signatures


# SHARE.


@final
class Sharing(_Collector, tag="SHARE"):
    """The roster's members deal their shares; each dealer's lie at its own entries of the edges."""

    advertised: Advertised
    sealed: Bytes
    """(pairs, sealed_bytes)."""
    commitments: Bytes
    """(pairs, COMMITMENTS_BYTES)."""
    pair_secrets: Bytes
    """(sealing pairs, SEALED_SECRET_BYTES), by ``sealing_rows``; nothing but in a hybrid suite."""
    seed_commitments: dict[int, bytes] = msgspec.field(default_factory=dict)
    """Of everybody that shared."""


@final
class Shared(_Record, tag="SHARED", frozen=True):
    """The shares are dealt."""

    advertised: Advertised
    members: Ids
    """U2: who shared and was not pruned, ascending."""
    sealed: Bytes
    """(pairs, sealed_bytes): for the messages of this close alone, no later record carries them on."""
    commitments: Bytes
    seed_commitments: dict[int, bytes]
    pair_secrets: Bytes
    opened: dict[int, dict[int, bytes]] = msgspec.field(default_factory=dict)
    """In rounds with complaints, once they are settled: by holder and dealer, an opened pair and its signature."""

    @property
    def opened_secrets(self) -> dict[int, dict[int, bytes]]:
        """R-COMPLAIN-14: by holder and dealer, the pair secret behind an opened pair; nothing but in a hybrid suite."""
        if not self.advertised.round.config.suite.is_hybrid:
            return {}
        secret = slice(PAIR_BYTES, PAIR_BYTES + PAIR_SECRET_BYTES)
        return {
            holder: {dealer: opened[secret] for dealer, opened in by_dealer.items()}
            for holder, by_dealer in self.opened.items()
        }

    @cached_property
    def flags(self) -> Flags:
        """U2 as flags."""
        return flags(self.members, self.advertised.round.config.clients)


# COMPLAIN and ANSWER.


@final
class Complaining(_Collector, tag="COMPLAIN"):
    """Holders say whose shares do not open, or match."""

    shared: Shared
    complaints: dict[int, dict[int, bytes]] = msgspec.field(default_factory=dict)
    """By holder that answered: the dealers that it complains about, each with the signature."""

    @property
    def advertised(self) -> Advertised:
        """What ADVERTISE was closed with."""
        return self.shared.advertised


@final
class Complained(_Record, tag="COMPLAINED", frozen=True):
    """It is known who complains about whom, and whoever is in conflict with too many is left out."""

    shared: Shared
    """Of those that go on."""
    accused: dict[int, dict[int, bytes]]
    """By dealer, ascending: the holders that complain about it, ascending, each with its signature."""

    @property
    def advertised(self) -> Advertised:
        """What ADVERTISE was closed with."""
        return self.shared.advertised


@final
class Answering(_Collector, tag="ANSWER"):
    """Dealers open what they dealt to holders that complained."""

    complained: Complained
    answers: dict[int, dict[int, bytes]] = msgspec.field(default_factory=dict)
    """By dealer that answered: by holder, the pair that it opened and the signature."""

    @property
    def advertised(self) -> Advertised:
        """What ADVERTISE was closed with."""
        return self.complained.advertised


# MASK.


@final
class Masking(_Collector, tag="MASK"):
    """The masked inputs come in, and are added up on arrival."""

    shared: Shared
    sums: MaskedSums
    """Of everybody whose masked input counts so far."""
    partials: dict[str, list[int]] = msgspec.field(default_factory=dict)
    """The partial sums that are open, by name, and whoever was admitted to each: the attendance's ``in_hand`` says who
    is waiting for it still."""

    @property
    def advertised(self) -> Advertised:
        """What ADVERTISE was closed with."""
        return self.shared.advertised


@final
class Masked(_Record, tag="MASKED", frozen=True):
    """The sum is there, with its masks still on."""

    advertised: Advertised
    dealers: Ids
    """U2: whose shares were dealt, ascending."""
    commitments: Bytes
    seed_commitments: dict[int, bytes]
    members: Ids
    """S: whose masked input is in the sum, ascending."""
    total: Lanes
    """(m,): the sum of the masked inputs, in lanes; with groups (G, m), the sum of each, zeros where it is left out.
    With envelopes, of the masked keys: N in the place of m."""
    pair_secrets: Bytes
    """R-HYBRID-15: (sealing pairs, SEALED_SECRET_BYTES), by ``sealing_rows``; nothing but in a hybrid suite."""
    envelopes: Lanes = msgspec.field(default_factory=no_envelopes)
    """With envelopes, their sum; with groups a row for each."""
    opened_secrets: dict[int, dict[int, bytes]] = msgspec.field(default_factory=dict)
    """R-COMPLAIN-14: those of ``Shared``."""

    @cached_property
    def dealt(self) -> Flags:
        """U2 as flags."""
        return flags(self.dealers, self.advertised.round.config.clients)

    @cached_property
    def flags(self) -> Flags:
        """S as flags."""
        return flags(self.members, self.advertised.round.config.clients)

    @cached_property
    def bitmap(self) -> bytes:
        """S as it is sent and signed."""
        return messages.encode_bitmap(self.members, self.advertised.round.config.clients)

    @cached_property
    def surviving_neighbours(self) -> npt.NDArray[np.int64]:
        """How many neighbours in S each member of the cohort has, shape (n,)."""
        return self.advertised.edges.degrees_within(self.flags)

    @cached_property
    def owners(self) -> Ids:
        """Whose secrets must be reconstructed: survivors' seeds, and the keys that survivors masked with in vain."""
        return tuple(member for member in self.dealers if self.flags[member] or self.surviving_neighbours[member])

    def total_of(self, group: int) -> Lanes:
        """The sum of one group's masked inputs, shape (m,), or masked keys; without groups, of everybody's."""
        return group_row(self.total, group)

    def envelopes_of(self, group: int) -> Lanes:
        """The sum of one group's envelopes; without groups, of everybody's."""
        return group_row(self.envelopes, group)


# CONFIRM.


@final
class Confirming(_Collector, tag="CONFIRM"):
    """``active``: the survivors sign who the survivors are."""

    masked: Masked
    signatures: dict[int, bytes] = msgspec.field(default_factory=dict)

    @property
    def advertised(self) -> Advertised:
        """What ADVERTISE was closed with."""
        return self.masked.advertised


@final
class Confirmed(_Record, tag="CONFIRMED", frozen=True):
    """A quorum has signed; with groups, one of each group that goes on."""

    masked: Masked
    signatures: dict[int, bytes]
    """Of the groups that go on."""

    @cached_property
    def members(self) -> Ids:
        """Who signed, ascending."""
        return tuple(sorted(self.signatures))


# UNMASK.


@final
class Unmasking(_Collector, tag="UNMASK"):
    """Shares come back; each holder's lie at its own entries of the edges."""

    settled: Masked | Confirmed
    """The phase that settled who the survivors are; its members are asked for their shares."""
    shares: npt.NDArray[np.uint64]
    """(pairs, 5): the shares that came back."""
    good: Flags
    """(pairs,): which of them are there and match their commitments."""
    attachments: dict[int, bytes] = msgspec.field(default_factory=dict)
    """What the hosts of those that answered attached; empty bytes in a round without attachments."""

    @property
    def masked(self) -> Masked:
        """What MASK was closed with."""
        return self.settled if isinstance(self.settled, Masked) else self.settled.masked

    @property
    def advertised(self) -> Advertised:
        """What ADVERTISE was closed with."""
        return self.masked.advertised


@final
class Unmasked(_Record, tag="COMPUTE", frozen=True):
    """Shares enough are there to take the masks off the sum."""

    masked: Masked
    shares: npt.NDArray[np.uint64]
    good: Flags
    attachments: dict[int, bytes] = msgspec.field(default_factory=dict)
    confirmations: dict[int, bytes] = msgspec.field(default_factory=dict)
    """``active``: the signatures over the survivors, for the round's certificate."""
    failed_groups: Ids = ()
    """Those that have no sum, ascending; empty without groups."""

    @property
    def advertised(self) -> Advertised:
        """What ADVERTISE was closed with."""
        return self.masked.advertised


# The ends.


@final
class Done(_Record, tag="DONE", frozen=True):
    """The sum was computed, and can be computed again."""

    unmasked: Unmasked

    @property
    def advertised(self) -> Advertised:
        """What ADVERTISE was closed with."""
        return self.unmasked.advertised


@final
class Aborted(_Record, tag="ABORTED", frozen=True):
    """The round ended without a sum.  Nothing is left from which anything could be unmasked."""

    advertised: Advertised | None
    """What ADVERTISE was closed with, if the round came so far."""
    failure: Failure


Collector: TypeAlias = Advertising | Sharing | Complaining | Answering | Masking | Confirming | Unmasking
Closed: TypeAlias = Advertised | Shared | Complained | Masked | Confirmed | Unmasked
Held: TypeAlias = Collector | Unmasked | Done | Aborted
"""What a server holds: a collector while a phase is open, and a record after the last one."""

STATES: Final[dict[type[Held], ServerState]] = {
    Advertising: ServerState.ADVERTISE,
    Sharing: ServerState.SHARE,
    Complaining: ServerState.COMPLAIN,
    Answering: ServerState.ANSWER,
    Masking: ServerState.MASK,
    Confirming: ServerState.CONFIRM,
    Unmasking: ServerState.UNMASK,
    Unmasked: ServerState.COMPUTE,
    Done: ServerState.DONE,
    Aborted: ServerState.ABORTED,
}
"""The state of the tables that a server is in, by what it holds."""
