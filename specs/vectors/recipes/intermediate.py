"""What lies between the messages of a round: tree, ring, seeds, agreed and derived keys."""

from __future__ import annotations

from collections.abc import Mapping
from itertools import combinations
from typing import Any

from reference import hybrid, primitives, wire
from reference.client import Client
from reference.hybrid import mask_key
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
            (_of_hybrid_pair if config.suite == 3 else _of_pair)(dealt[lower], dealt[higher])
            for lower, higher in combinations(dealt, 2)
            if higher in server.near[lower]
        ],
    }


def tree_of(server: Server) -> list[list[bytes]]:
    """The levels of the roster's tree, from the leaves to the root."""
    leaves = [
        server.labels.leaf(member, *server.both(server.keys[member]))
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


def _of_client(client: Client) -> dict[str, Any]:
    mask_info = client.labels.self_mask_info(client.suite, client.index)
    commitment_info = client.labels.seed_commitment_info(client.suite, client.index)
    roots = {}
    if client.suite == 3:
        pairs = {"channel": client.channel, "masking": client.masking}
        roots = {f"{name}_keys": [pair.x25519.hex(), pair.seed.hex()] for name, pair in pairs.items()}
        roots["pair_secrets_key"] = client.masking.secrets_key.hex()
    return {
        **roots,
        "seed": client.seed.hex(),
        "self_mask_key": primitives.derive(client.seed, client.session, mask_info, client.key_bytes).hex(),
        "seed_commitment": primitives.derive(client.seed, client.session, commitment_info, 32).hex(),
    }


def _of_pair(lower: Client, higher: Client) -> dict[str, Any]:
    session, suite, size = lower.session, lower.suite, lower.key_bytes
    agreed = lower.channel.agree(higher.channel_key)
    sealing = [
        lower.labels.channel_info(suite, one.index, other.index, one.channel_key, other.channel_key)
        for one, other in ((lower, higher), (higher, lower))
    ]
    ends = lower.index, higher.index, lower.masking, higher.masking_key
    return {
        "clients": [lower.index, higher.index],
        "channel_agreed": agreed.hex(),
        "sealing_keys": [primitives.derive(agreed, session, info, size).hex() for info in sealing],
        "masking_agreed": lower.masking.agree(higher.masking_key).hex(),
        "mask_key": mask_key(lower.config, session, *ends).hex(),
    }


def _of_hybrid_pair(lower: Client, higher: Client) -> dict[str, Any]:
    """As the receiving ends have it: by decapsulation."""
    by_index = {client.index: client for client in (lower, higher)}
    sealer = by_index[higher.index if higher.index in lower.sealers else lower.index]
    holder = lower if sealer is higher else higher
    boxes = [one.sent[other.index][: wire.CIPHERTEXT[3]] for one, other in ((lower, higher), (higher, lower))]
    record = sealer.sent_secrets[holder.index]
    ends, ciphertext = (sealer.index, holder.index), record[: wire.CIPHERTEXT[3]]
    agreed, keys = holder.masking.opened(ciphertext, sealer.masking_key), (sealer.masking_key, holder.masking_key)
    seal = hybrid.sealing_key(lower.config, lower.session, agreed, ends, keys, ciphertext)
    secret = hybrid.open_secret(lower.config, lower.session, holder.masking, ends, sealer.masking_key, record) or b""
    mask = mask_key(lower.config, lower.session, lower.index, higher.index, lower.masking, higher.masking_key, secret)
    return {
        "clients": [lower.index, higher.index],
        "channel_agreed": lower.channel.agree(higher.channel_key).hex(),
        "channel_secrets": [
            primitives.decapsulate(receiver.channel.seed, box).hex()
            for receiver, box in zip((higher, lower), boxes, strict=True)
        ],
        "sealing_keys": [
            receiver.opening_key(sender.index, box).hex()
            for sender, receiver, box in zip((lower, higher), (higher, lower), boxes, strict=True)
        ],
        "masking_agreed": lower.masking.agree(higher.masking_key).hex(),
        "sealer": sealer.index,
        "pair_secret": secret.hex(),
        "pair_secret_shared": primitives.decapsulate(holder.masking.seed, ciphertext).hex(),
        "pair_secret_sealing_key": seal.hex(),
        "mask_key": mask.hex(),
    }
