"""A round as the server sees it: its data, what follows from them, and the messages made of them."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property
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

    # What follows from the data.

    def flags(self, members: Sequence[int]) -> Flags:
        """A set of members as flags, shape (n,)."""
        flags = np.zeros(self.config.clients, dtype=np.bool_)
        flags[np.asarray(members, dtype=np.int64)] = True
        return flags

    @cached_property
    def shared(self) -> Flags:
        """U2 as flags; asked for only once SHARE is closed."""
        return self.flags(self.data.shared)

    @cached_property
    def survivors(self) -> Flags:
        """S as flags; asked for only once MASK is closed."""
        return self.flags(self.data.masked)

    @cached_property
    def survivors_bitmap(self) -> bytes:
        """S as it is sent and signed."""
        return messages.encode_bitmap(self.data.masked, self.config.clients)

    @cached_property
    def graph(self) -> NeighbourGraph:
        """The graph that the roster's digest draws, over the whole cohort."""
        key = transcript.graph_key(self.data.roster_digest, self.data.session)
        return NeighbourGraph(self.config.clients, self.config.neighbours, key)

    @cached_property
    def edges(self) -> Adjacency:
        """The graph among the roster's members."""
        return Adjacency(self.graph, self.flags(self.data.roster))

    @cached_property
    def _public_keys(self) -> npt.NDArray[np.uint8]:
        """The roster's keys, shape (n, 64), each channel key before its masking key."""
        keys = np.zeros((self.config.clients, messages.KEYS_BYTES), dtype=np.uint8)
        for member, advert in self.data.adverts.items():
            keys[member] = np.frombuffer(advert.channel_key + advert.masking_key, dtype=np.uint8)
        return keys

    @cached_property
    def tree(self) -> MerkleTree:
        """The roster's tree."""
        roster, adverts = frozenset(self.data.roster), self.data.adverts
        return MerkleTree(
            [
                transcript.leaf(member, adverts[member].channel_key, adverts[member].masking_key)
                if member in roster
                else transcript.empty_leaf(member)
                for member in range(self.config.clients)
            ]
        )

    # What goes out; an index picks the receiver.

    def invitation(self, index: int) -> bytes:
        """Config and nonce, the same for everybody."""
        return messages.encode(Invitation(VERSION, self.round_id, self.config.to_bytes(), self.nonce))

    def roster_for(self, index: int) -> bytes:
        """Neighbours' keys; in ``active`` with proofs and signatures."""
        data, config = self.data, self.config
        own = data.adverts[index]
        neighbours = self.edges.neighbours(index)
        absent: list[int] = []
        signatures = proof = b""
        if config.is_active:
            present = neighbours.tolist()
            absent = sorted(set(self.graph.neighbours_of(index).tolist()) - set(present))
            signatures = b"".join(data.adverts[member].signature for member in present)
            proof = self.tree.prove([index, *present, *absent])
        roster = Roster(
            VERSION,
            self.round_id,
            data.roster_digest,
            own.channel_key + own.masking_key,
            messages.encode_ids(neighbours),
            self._public_keys[neighbours].tobytes(),
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
