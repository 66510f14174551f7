"""What lies between the messages of a round: tree, ring, seeds, agreed and derived keys."""

from __future__ import annotations

from collections.abc import Mapping
from itertools import combinations
from typing import Any

from reference import primitives
from reference.client import Client, pairwise_key
from reference.rules import ring_of
from reference.server import Server


def intermediate_of(server: Server, clients: Mapping[int, Client]) -> dict[str, Any]:
    """The intermediate values of a round, as far as it came.  ``clients`` are those that advertised, by index."""
    if not server.session:
        return {"round_id": server.round_id.hex()}
    config, session = server.config, server.session
    tree = tree_of(server)
    digest = config.labels.roster_digest(server.round_id, config.clients, tree[-1][0])
    complete = config.neighbours == config.clients - 1
    dealt = {index: client for index, client in sorted(clients.items()) if index in server.near and client.session}
    return {
        "round_id": server.round_id.hex(),
        "tree": [[node.hex() for node in level] for level in tree],
        "roster_digest": digest.hex(),
        "session": session.hex(),
        "ring": [] if complete else ring_of(config, digest, session),
        "clients": {str(index): _of_client(client) for index, client in dealt.items()},
        "pairs": [
            _of_pair(dealt[lower], dealt[higher])
            for lower, higher in combinations(dealt, 2)
            if higher in server.near[lower]
        ],
    }


def tree_of(server: Server) -> list[list[bytes]]:
    """The levels of the roster's tree, from the leaves to the root."""
    leaves = [
        server.labels.leaf(member, server.keys[member][:32], server.keys[member][32:])
        if member in server.near
        else server.labels.empty_leaf(member)
        for member in server.everybody
    ]
    levels = [leaves]
    while len(levels[-1]) > 1:
        below = levels[-1]
        paired = [server.labels.node(*below[place : place + 2]) for place in range(0, len(below) - 1, 2)]
        levels.append(paired + below[len(below) // 2 * 2 :])
    return levels


def _of_client(client: Client) -> dict[str, str]:
    mask_info = client.labels.self_mask_info(client.suite, client.index)
    commitment_info = client.labels.seed_commitment_info(client.suite, client.index)
    return {
        "seed": client.seed.hex(),
        "self_mask_key": primitives.derive(client.seed, client.session, mask_info, client.key_bytes).hex(),
        "seed_commitment": primitives.derive(client.seed, client.session, commitment_info, 32).hex(),
    }


def _of_pair(lower: Client, higher: Client) -> dict[str, Any]:
    session, suite, size = lower.session, lower.suite, lower.key_bytes
    agreed = primitives.agree(lower.channel_private, higher.channel_key)
    sealing = [
        lower.labels.channel_info(suite, one.index, other.index, one.channel_key, other.channel_key)
        for one, other in ((lower, higher), (higher, lower))
    ]
    ends = lower.index, higher.index, lower.masking_private, lower.masking_key, higher.masking_key
    return {
        "clients": [lower.index, higher.index],
        "channel_agreed": agreed.hex(),
        "sealing_keys": [primitives.derive(agreed, session, info, size).hex() for info in sealing],
        "masking_agreed": primitives.agree(lower.masking_private, higher.masking_key).hex(),
        "mask_key": pairwise_key(lower.config, session, *ends).hex(),
    }
