"""The intermediate values of a recorded round, made again with this library's functions: tree, ring, seeds, keys.

They help whoever writes another implementation to find the first value that differs.  The chain is anchored in what was
sent: the tree leads to the roster digest, and that to the session, under which every later message of the round stands.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from secagg.pairwise import graph, merkle
from secagg.pairwise.config import RoundConfig
from secagg.pairwise.hybrid import KeyPair
from secagg.pairwise.keys import KeySchedule, Purpose
from secagg.pairwise.records import PublicKeys


class Intermediate:
    """Recomputes the values that a round of a vector file gives under ``intermediate``."""

    def __init__(self, setup: Mapping[str, Any]) -> None:
        self._config = RoundConfig.from_bytes(bytes.fromhex(setup["config"]))
        (nonce,) = setup["draws"]["server"]
        self._nonce = bytes.fromhex(nonce)
        self._draws = [[bytes.fromhex(draw) for draw in drawn] for drawn in setup["draws"]["clients"]]
        self._session = b""

    def of(self, given: Mapping[str, Any]) -> dict[str, Any]:
        """The values for the roster's members and the pairs that ``given`` names."""
        config = self._config
        round_id = self._config.labels.round_id(config.digest, self._nonce)
        if "session" not in given:
            return {"round_id": round_id.hex()}
        tree = self._tree(given["tree"][0])
        digest = self._config.labels.roster_digest(round_id, config.clients, tree[-1][0])
        self._session = self._config.labels.session_id(config.digest, self._nonce, digest)
        return {
            "round_id": round_id.hex(),
            "tree": [[node.hex() for node in level] for level in tree],
            "roster_digest": digest.hex(),
            "session": self._session.hex(),
            "ring": self._ring(digest),
            "clients": {index: self._client(int(index)) for index in given["clients"]},
            "pairs": [self._pair(*pair["clients"]) for pair in given["pairs"]],
        }

    def _keys(self, index: int) -> PublicKeys:
        return PublicKeys(self._pair_of(index, "channel").public_key(), self._pair_of(index, "masking").public_key())

    def _pair_of(self, index: int, purpose: Purpose) -> KeyPair:
        round_id = self._config.labels.round_id(self._config.digest, self._nonce)
        drawn = self._draws[index][0 if purpose == "channel" else 1]
        return KeyPair(self._config, round_id, index, drawn, purpose)

    def _tree(self, shown: Sequence[str]) -> list[list[bytes]]:
        """The levels; a leaf is that of a member or, where another is shown, an empty one."""
        leaves = []
        for index, leaf in enumerate(shown):
            full = self._config.labels.leaf(index, *self._keys(index))
            leaves.append(full if full.hex() == leaf else self._config.labels.empty_leaf(index))
        return merkle.MerkleTree(leaves, self._config.labels.node).levels

    def _ring(self, digest: bytes) -> list[int]:
        config = self._config
        if config.is_complete:
            return []
        key = self._config.labels.graph_key(digest, self._session)
        ring: list[int] = graph.NeighbourGraph(config.clients, config.neighbours, key, config.groups).ring.tolist()
        return ring

    def _client(self, index: int) -> dict[str, str]:
        keys = KeySchedule(self._config.suite, self._session, self._config.labels)
        seed = keys.seed(self._draws[index][2], index)
        return {
            "seed": seed.hex(),
            "self_mask_key": keys.self_mask(seed, index).hex(),
            "seed_commitment": keys.seed_commitment(seed, index).hex(),
        }

    def _pair(self, lower: int, higher: int) -> dict[str, Any]:
        keys = KeySchedule(self._config.suite, self._session, self._config.labels)
        own, theirs = self._keys(lower), self._keys(higher)
        channel_agreed = self._pair_of(lower, "channel").agree(theirs.channel)
        masking_agreed = self._pair_of(higher, "masking").agree(own.masking)
        sealing_keys = keys.channels(channel_agreed, lower, higher, own.channel, theirs.channel)
        return {
            "clients": [lower, higher],
            "channel_agreed": channel_agreed.hex(),
            "sealing_keys": [key.hex() for key in sealing_keys],
            "masking_agreed": masking_agreed.hex(),
            "mask_key": keys.pairwise_mask(masking_agreed, lower, higher, own.masking, theirs.masking).hex(),
        }
