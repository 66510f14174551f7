"""What a malicious server knows and talks to: hosts, the clients that it deals with, and its worlds.

A world is one roster and all that follows from it.  Lies change these, and ask no more of the server that tells them
than ``LyingServer`` says.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple, Protocol, TypeAlias

from secagg.identity import Identity
from secagg.machines import ClientMachine
from secagg.pairwise import messages
from secagg.pairwise.client.attachment import Attachment
from secagg.pairwise.config import RoundConfig
from secagg.pairwise.graph import NeighbourGraph
from secagg.pairwise.merkle import MerkleTree
from secagg.pairwise.messages import Advertise
from secagg.pairwise.records import PublicKeys
from secagg.primitives.secret import Secret
from secagg.testing.adversary.client import MaliciousClient, Randomness
from secagg.testing.adversary.ledger import Ledger, View

Ids: TypeAlias = tuple[int, ...]


class Box(NamedTuple):
    """What a dealer sends one holder."""

    sealed: bytes
    """The sealed shares; in a hybrid suite behind the ciphertext that brings their key."""
    committed: bytes
    """The commitments to them."""
    secret: bytes = b""
    """In a hybrid suite, of a sealer: the secret of the pair, sealed and committed to."""


class Host:
    """An honest client's host, which the server can only talk to: joins, gives inputs, and may be talked into more."""

    def __init__(
        self,
        index: int,
        join: Callable[[bytes], ClientMachine],
        resume: Callable[[bytes], ClientMachine],
        vectors: Sequence[Collection[int]],
        attachment: Attachment | None = None,
    ) -> None:
        """``vectors`` are its successive inputs; only the first one is masked unless something goes wrong.

        ``attachment`` goes with each of them, in a round that asks for one.
        """
        self.index, self.join, self.resume, self.vectors = index, join, resume, vectors
        self.attachment = attachment


@dataclass(eq=False, slots=True)
class Member:
    """One honest client as the server deals with it."""

    host: Host
    config: RoundConfig
    nonce: bytes
    client: ClientMachine
    view: View
    advert: Advertise
    instance: int = 0
    """1 for a client that its host joined a second time."""
    vector: int = 0
    """Which of its host's vectors it masks first: the second, for a second client of one suspended state."""
    survivors: bytes = b""
    """The bitmap that it last confirmed."""
    lost: bool = False

    @property
    def index(self) -> int:
        """Its cohort index."""
        return self.host.index

    @property
    def round_id(self) -> bytes:
        """The round it joined."""
        return self.config.labels.round_id(self.config.digest, self.nonce)

    def shares_in_memory(self) -> bytes:
        """The pairs of shares and salts that the client still holds; nothing once it has wiped them.

        Whoever steals a client's memory asks for no permission: here alone does the adversary look into a client.
        """
        pairs = getattr(getattr(self.client, "_record", None), "pairs", None)
        return pairs.reveal() if isinstance(pairs, Secret) else b""


@dataclass(slots=True)
class RosterDraft:
    """A roster for one client before it is encoded; lies change it."""

    digest: bytes
    own: PublicKeys
    present: list[tuple[int, PublicKeys, bytes]]
    """Neighbour, its keys, its signature."""
    absent: list[int]
    proof: bytes


@dataclass(eq=False, slots=True)
class World:
    """One roster, and all that follows from it.  A server that equivocates keeps several."""

    config: RoundConfig
    nonce: bytes
    members: list[Member]
    adverts: dict[int, Advertise]
    """Who stands in the roster."""
    puppets: dict[int, MaliciousClient]
    """Whom the adversary speaks for."""
    digest: bytes = b""
    session: bytes = b""
    tree: MerkleTree | None = None
    neighbours: dict[int, Ids] = field(default_factory=dict)
    """Everybody's neighbours, ascending."""
    graph: NeighbourGraph | None = None
    boxes: dict[int, dict[int, Box]] = field(default_factory=dict)
    """By dealer and holder."""
    masked: set[int] = field(default_factory=set)
    signatures: dict[bytes, dict[int, bytes]] = field(default_factory=dict)
    """By survivors' bitmap: who signed it."""

    @property
    def round_id(self) -> bytes:
        """The round id."""
        return self.config.labels.round_id(self.config.digest, self.nonce)

    def draw(self) -> None:
        """Close the roster: digest, session and graph follow from who stands in it."""
        leaves = [
            self.config.labels.leaf(index, *self.keys(index))
            if index in self.adverts
            else self.config.labels.empty_leaf(index)
            for index in range(self.config.clients)
        ]
        self.tree = MerkleTree(leaves, self.config.labels.node)
        self.set_digest(self.config.labels.roster_digest(self.round_id, self.config.clients, self.tree.root))

    def set_digest(self, digest: bytes) -> None:
        """Take a digest, true or not, and the graph that it draws."""
        self.digest = digest
        self.session = self.config.labels.session_id(self.config.digest, self.nonce, digest)
        key = self.config.labels.graph_key(digest, self.session)
        self.graph = graph = NeighbourGraph(self.config.clients, self.config.neighbours, key, self.config.groups)
        self.neighbours = {index: tuple(graph.neighbours_of(index).tolist()) for index in range(self.config.clients)}

    def is_sealer(self, dealer: int, holder: int) -> bool:
        """Whether a dealer is the sealer of its pair with a holder, in a hybrid suite."""
        if not self.config.suite.is_hybrid or self.graph is None or dealer == holder:
            return False
        return bool(self.graph.seals_for(dealer, [holder])[0])

    def in_one_sum(self, index: int) -> frozenset[int]:
        """Whose vectors can be in the sum that a member's is in: everybody's, or with groups those of its own."""
        if self.config.groups == 1:
            return frozenset(range(self.config.clients))
        return frozenset((index, *self.neighbours[index]))

    def keys(self, index: int) -> PublicKeys:
        """A member's keys as they stand in the roster."""
        advert = self.adverts[index]
        return PublicKeys(advert.channel_key, advert.masking_key)

    def roster_for(self, member: Member) -> RosterDraft:
        """The true roster for one client."""
        neighbours = self.neighbours[member.index]
        advertised = [index for index in neighbours if index in self.adverts]
        present = [(index, self.keys(index), self.adverts[index].signature) for index in advertised]
        absent, proof = [index for index in neighbours if index not in self.adverts], b""
        if not self.config.threat_model.signs:
            absent = []
        elif self.tree is not None:
            proof = self.tree.prove([member.index, *neighbours])
        return RosterDraft(self.digest, self.keys(member.index), present, absent, proof)

    def bitmap(self, ids: Collection[int]) -> bytes:
        """A set of members on the wire."""
        return messages.encode_bitmap(sorted(ids), self.config.clients)


class LyingServer(Protocol):
    """What a lie may ask of the server that tells it."""

    @property
    def members(self) -> Sequence[Member]:
        """The honest clients that it talks to, in the order in which they joined."""

    @property
    def randomness(self) -> Randomness:
        """The adversary's randomness."""

    @property
    def ledger(self) -> Ledger:
        """What it knows."""

    def puppet(self, config: RoundConfig, nonce: bytes, index: int, identity: Identity | None) -> MaliciousClient:
        """A client in the adversary's hands, in the place of a member, with that member's identity where it has it."""
