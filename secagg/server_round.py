"""A round as the server sees it: its data, what follows from them, and the messages made of them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypeAlias, final

import numpy as np
import numpy.typing as npt

from secagg import messages, transcript
from secagg.adjacency import Adjacency
from secagg.config import RoundConfig
from secagg.graph import NeighbourGraph
from secagg.merkle import MerkleTree
from secagg.messages import Confirmations, Invitation, Roster, Shares, Survivors
from secagg.server_state import Data
from secagg.transcript import VERSION

Flags: TypeAlias = npt.NDArray[np.bool_]


@final
class Round:
    """Data of a round with everything derived from them, each made once."""

    def __init__(self, config: RoundConfig, nonce: bytes, data: Data, identities: Sequence[bytes]) -> None:
        self.config, self.nonce, self.data, self.identities = config, nonce, data, identities
        self.round_id = transcript.round_id(config.digest, nonce)
        self.keys_seen = {key for advert in data.adverts.values() for key in (advert.channel_key, advert.masking_key)}
        self._graph: NeighbourGraph | None = None
        self._edges: Adjacency | None = None
        self._tree: MerkleTree | None = None
        self._shared: Flags | None = None
        self._survivors: Flags | None = None
        self._survivors_bitmap: bytes | None = None

    # What follows from the data.

    def flags(self, members: Sequence[int]) -> Flags:
        """A set of members as flags, shape (n,)."""
        flags = np.zeros(self.config.clients, dtype=np.bool_)
        flags[np.asarray(members, dtype=np.int64)] = True
        return flags

    @property
    def shared(self) -> Flags:
        """U2 as flags; asked for only once SHARE is closed."""
        if self._shared is None:
            self._shared = self.flags(self.data.shared)
        return self._shared

    @property
    def survivors(self) -> Flags:
        """S as flags; asked for only once MASK is closed."""
        if self._survivors is None:
            self._survivors = self.flags(self.data.masked)
        return self._survivors

    @property
    def survivors_bitmap(self) -> bytes:
        """S as it is sent and signed."""
        if self._survivors_bitmap is None:
            self._survivors_bitmap = messages.encode_bitmap(self.data.masked, self.config.clients)
        return self._survivors_bitmap

    @property
    def graph(self) -> NeighbourGraph:
        """The graph that the roster's digest draws, over the whole cohort."""
        if self._graph is None:
            key = transcript.graph_key(self.data.roster_digest, self.data.session)
            self._graph = NeighbourGraph(self.config.clients, self.config.neighbours, key)
        return self._graph

    @property
    def edges(self) -> Adjacency:
        """The graph among the roster's members."""
        if self._edges is None:
            self._edges = Adjacency(self.graph, self.flags(self.data.roster))
        return self._edges

    @property
    def tree(self) -> MerkleTree:
        """The roster's tree."""
        if self._tree is None:
            roster, adverts = frozenset(self.data.roster), self.data.adverts
            self._tree = MerkleTree(
                [
                    transcript.leaf(member, adverts[member].channel_key, adverts[member].masking_key)
                    if member in roster
                    else transcript.empty_leaf(member)
                    for member in range(self.config.clients)
                ]
            )
        return self._tree

    # What goes out; an index picks the receiver.

    def invitation(self, index: int) -> bytes:
        """Config and nonce, the same for everybody."""
        return messages.encode(Invitation(VERSION, self.round_id, self.config.to_bytes(), self.nonce))

    def roster_for(self, index: int) -> bytes:
        """Neighbours' keys; in ``active`` with proofs and signatures."""
        data, config = self.data, self.config
        own = data.adverts[index]
        present = self.edges.neighbours(index).tolist()
        keys = [data.adverts[member].channel_key + data.adverts[member].masking_key for member in present]
        absent: list[int] = []
        signatures = proof = b""
        if config.is_active:
            absent = sorted(set(self.graph.neighbours_of(index).tolist()) - set(present))
            signatures = b"".join(data.adverts[member].signature for member in present)
            proof = self.tree.prove([index, *present, *absent])
        roster = Roster(
            VERSION,
            self.round_id,
            data.roster_digest,
            own.channel_key + own.masking_key,
            messages.encode_ids(present),
            b"".join(keys),
            messages.encode_ids(absent),
            signatures,
            proof,
        )
        return messages.encode(roster)

    def shares_for(self, index: int) -> bytes:
        """The shares addressed to it, gathered from their dealers' entries."""
        data, edges = self.data, self.edges
        if data.sealed is None or data.commitments is None:
            raise RuntimeError("the shares are gone")
        shared = self.shared[edges.neighbours(index)]
        entries = edges.toward(index)[shared]
        shares = Shares(
            VERSION,
            data.session,
            messages.encode_ids(edges.neighbours(index)[shared]),
            data.sealed[entries].tobytes(),
            data.commitments[entries].tobytes(),
        )
        return messages.encode(shares)

    def survivors_for(self, index: int) -> bytes:
        """S, the same for everybody."""
        return messages.encode(Survivors(VERSION, self.data.session, self.survivors_bitmap))

    def confirmations_for(self, index: int) -> bytes:
        """Q confirmations, the same for everybody: more would prove no more."""
        signers = sorted(self.data.signatures)[: self.config.quorum]
        signatures = b"".join(self.data.signatures[signer] for signer in signers)
        bitmap = messages.encode_bitmap(signers, self.config.clients)
        return messages.encode(Confirmations(VERSION, self.data.session, bitmap, signatures))
