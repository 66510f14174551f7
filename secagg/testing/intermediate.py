"""The intermediate values of a recorded round, made again with this library's functions: tree, ring, seeds, keys.

They help whoever writes another implementation to find the first value that differs.  The chain is anchored in what was
sent: the tree leads to the roster digest, and that to the session, under which every later message of the round stands.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from secagg.pairwise import graph, merkle
from secagg.pairwise.config import RoundConfig
from secagg.pairwise.hybrid import KeyPair, PairSecrets
from secagg.pairwise.keys import KeySchedule, Purpose, RootSchedule
from secagg.pairwise.records import PublicKeys
from secagg.testing.sealed_shares import Receivers, is_share


class Intermediate:
    """Recomputes the values that a round of a vector file gives under ``intermediate``."""

    def __init__(self, setup: Mapping[str, Any]) -> None:
        self._config = RoundConfig.from_bytes(bytes.fromhex(setup["config"]))
        (nonce,) = setup["draws"]["server"]
        self._nonce = bytes.fromhex(nonce)
        self._draws = [[bytes.fromhex(draw) for draw in drawn] for drawn in setup["draws"]["clients"]]
        self._session = b""
        self._receivers = Receivers(self._config, self._draws)
        self._shares = dict(_shares(self._config, setup))

    def of(self, given: Mapping[str, Any]) -> dict[str, Any]:
        """The values for the roster's members and the pairs that ``given`` names."""
        config = self._config
        round_id = self._round_id
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

    @property
    def _round_id(self) -> bytes:
        return self._config.labels.round_id(self._config.digest, self._nonce)

    def _pair_of(self, index: int, purpose: Purpose) -> KeyPair:
        return self._receivers.pair(self._round_id, index, purpose)

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

    def _client(self, index: int) -> dict[str, Any]:
        keys = KeySchedule(self._config.suite, self._session, self._config.labels)
        seed = keys.seed(self._draws[index][2], index)
        return {
            **(self._of_roots(index) if self._config.suite.is_hybrid else {}),
            "seed": seed.hex(),
            "self_mask_key": keys.self_mask(seed, index).hex(),
            "seed_commitment": keys.seed_commitment(seed, index).hex(),
        }

    def _of_roots(self, index: int) -> dict[str, Any]:
        """R-HYBRID-2: the private halves of both key pairs, X25519's and ML-KEM's seed, and the pair secrets key."""
        keys, (channel, masking, _) = (
            RootSchedule(self._config.suite, self._round_id, self._config.labels, index),
            self._draws[index][:3],
        )
        return {
            "channel_keys": [keys.x25519_key(channel, "channel").hex(), keys.ml_kem_seed(channel, "channel").hex()],
            "masking_keys": [keys.x25519_key(masking, "masking").hex(), keys.ml_kem_seed(masking, "masking").hex()],
            "pair_secrets_key": keys.pair_secrets_key(masking).hex(),
        }

    def _pair(self, lower: int, higher: int) -> dict[str, Any]:
        if self._config.suite.is_hybrid:
            return self._hybrid_pair(lower, higher)
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

    def _hybrid_pair(self, lower: int, higher: int) -> dict[str, Any]:
        """As the receiving ends have it, by decapsulation of what was sent."""
        own, theirs = self._keys(lower), self._keys(higher)
        masking = self._pair_of(lower, "masking")
        dealt = {index: self._receivers.opened(index, *self._shares[index]) for index in (lower, higher)}
        there, back = dealt[lower].pairs[higher], dealt[higher].pairs[lower]
        sealer, holder = (lower, higher) if higher in dealt[lower].pair_secrets else (higher, lower)
        record = dealt[sealer].pair_secrets[holder]
        secrets = PairSecrets(self._config, self._session, lower, masking, own.masking)
        return {
            "clients": [lower, higher],
            "channel_agreed": self._pair_of(lower, "channel").agree(theirs.channel).hex(),
            "channel_secrets": [there.shared.hex(), back.shared.hex()],
            "sealing_keys": [there.sealing_key.hex(), back.sealing_key.hex()],
            "masking_agreed": masking.agree(theirs.masking).hex(),
            "sealer": sealer,
            "pair_secret": record.secret.hex(),
            "pair_secret_shared": record.shared.hex(),
            "pair_secret_sealing_key": record.sealing_key.hex(),
            "mask_key": secrets.mask_key(higher, theirs.masking, record.secret).hex(),
        }


def _shares(config: RoundConfig, setup: Mapping[str, Any]) -> Iterator[tuple[int, tuple[bytes, bytes]]]:
    """Of each client that made a Share of a hybrid suite: the Roster that it got, and that Share."""
    for operation in setup["operations"]:
        if operation["op"] == "client.receive" and "out" in operation:
            roster, share = (bytes.fromhex(setup["messages"][operation[name]]) for name in ("message", "out"))
            if is_share(config, share):
                yield operation["client"], (roster, share)
