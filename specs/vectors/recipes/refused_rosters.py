"""What a client must refuse of a roster."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from reference import primitives, rules, wire
from reference.client import Client
from reference.transcript import V1
from reference.wire import encode

from .cases import INDEX, ClientCases, changed, fields, flipped, put, swapped, without_first
from .common import LOW_ORDER, labelled
from .rounds import Recorder


def refused_rosters(tests: ClientCases) -> None:
    """Adds the tests."""
    _rosters(tests)
    _rosters_in_one_model(tests)
    _proofs(tests)


def _rosters(tests: ClientCases) -> None:
    for setup in ("semi_honest", "active"):
        wrong = tests.rule(setup, "Roster", "roster-own-leaf", "ROSTER-1", "OWN_LEAF")
        wrong("another masking key of its own", lambda m, c: changed(m, own=flipped))
        wrong("its own keys in the wrong order", lambda m, c: changed(m, own=lambda own: own[32:] + own[:32]))
    low = sorted(LOW_ORDER)[3]
    wrong = tests.rule("active", "Roster", "roster-ids", "ROSTER-2", "IDS")
    for comment, members in {
        "a neighbour twice": [0, 1, 1, 4],
        "the client itself": [0, 1, 2, 4],
        "an id beyond the cohort": [0, 1, 3, 5],
        "descending ids": [1, 0, 3, 4],
    }.items():
        wrong(comment, lambda m, c, members=members: changed(m, present=wire.ids(members)))  # type: ignore[misc]
    more = {"present": wire.ids([0, 1, 3, 4, 5]), "keys": lambda keys: keys + labelled("keys", 64)}
    wrong("more than k neighbours", lambda m, c: changed(m, **more))

    wrong = tests.rule("active", "Roster", "roster-keys", "ROSTER-3", "KEYS")
    wrong("two neighbours with one key", lambda m, c: changed(m, keys=lambda k: put(k, 32, 3, k[:32])))
    wrong("one key for both of a neighbour's", lambda m, c: changed(m, keys=lambda k: put(k, 32, 1, k[:32])))
    wrong("this client's masking key", lambda m, c: changed(m, keys=lambda k: put(k, 32, 1, c.masking_key)))
    wrong("a channel key of low order", lambda m, c: changed(m, keys=lambda k: put(k, 32, 2, low)))
    wrong("a masking key of zero", lambda m, c: changed(m, keys=lambda k: put(k, 32, 7, bytes(32))))

    wrong = tests.rule("active", "Roster", "malformed", "WIRE-7", "MALFORMED")
    wrong("ids of three bytes", lambda m, c: changed(m, present=lambda ids: ids[:-1]))
    wrong("keys of fewer neighbours", lambda m, c: changed(m, keys=lambda keys: keys[:-64]))
    wrong("signatures of fewer neighbours", lambda m, c: without_first(m, signatures=64))


def _rosters_in_one_model(tests: ClientCases) -> None:
    wrong = tests.rule("semi_honest", "Roster", "malformed", "ROSTER-7", "EXTRA_FIELDS")
    wrong("absent neighbours", lambda m, c: changed(m, absent=wire.ids([1])))
    wrong("signatures", lambda m, c: changed(m, signatures=bytes(64)))
    wrong("a proof", lambda m, c: changed(m, proof=bytes(32)))
    wrong = tests.rule("semi_honest", "Roster", "roster-too-few", "ROSTER-8", "TOO_FEW")
    one = {"present": wire.ids([4]), "keys": lambda keys: keys[-64:]}
    wrong("t - 1 neighbours", lambda m, c: changed(m, **one))
    wrong("no neighbours", lambda m, c: changed(m, present=b"", keys=b""))

    active = tests.setups["active"]
    server_key = primitives.public_key(labelled("the server's key", 32))
    wrong = tests.rule("active", "Roster", "roster-signature", "ROSTER-6", "SIGNATURE")
    wrong(
        "the server's key for a neighbour, in a roster of its own",
        lambda m, c: _roster_of_own(active, c, {4: lambda keys: keys[:32] + server_key}),
    )
    wrong("a signature changed", lambda m, c: changed(m, signatures=flipped))
    wrong("two signatures exchanged", lambda m, c: changed(m, signatures=lambda s: swapped(s, 64)))
    wrong("a signature for another round", lambda m, c: _signed_for_another_round(active, m, c))
    wrong = tests.rule("active", "Roster", "roster-too-few", "ROSTER-8", "TOO_FEW")
    comment = "t - 1 neighbours, the others absent from the roster"
    wrong(comment, lambda m, c: _roster_of_own(active, c, {0: None, 3: None}))
    wrong = tests.rule("active", "Roster", "wrong-session", "WIRE-6", "SESSION")
    wrong("a roster under the session id", lambda m, c: changed(m, session=active.server.session))


def _proofs(tests: ClientCases) -> None:
    sparse = tests.setups["sparse"]
    wrong = tests.rule("sparse", "Roster", "roster-neighbours", "ROSTER-4", "NEIGHBOURS")
    wrong("one neighbour left out", lambda m, c: without_first(m, present=4, keys=64, signatures=64))
    wrong("another member in place of a neighbour", lambda m, c: _stranger(sparse, m))
    wrong("a neighbour absent and present", lambda m, c: changed(m, absent=fields(m)["present"][:4]))
    wrong("a digest that draws others", lambda m, c: _other_digest(sparse, m, c))
    wrong = tests.rule("sparse", "Roster", "roster-path", "ROSTER-5", "PROOF")
    wrong("a hash of the proof changed", lambda m, c: changed(m, proof=flipped))
    wrong("a hash too few", lambda m, c: changed(m, proof=lambda proof: proof[:-32]))
    wrong("a hash too many", lambda m, c: changed(m, proof=lambda proof: proof + bytes(32)))
    wrong("a byte too few", lambda m, c: changed(m, proof=lambda proof: proof[:-1]))
    wrong("another key of a neighbour", lambda m, c: changed(m, keys=lambda keys: flipped(keys, 40)))
    wrong("keys of two neighbours exchanged", lambda m, c: changed(m, keys=lambda keys: swapped(keys, 64)))
    wrong(
        "a present neighbour shown as absent",
        lambda m, c: changed(without_first(m, present=4, keys=64, signatures=64), absent=fields(m)["present"][:4]),
    )
    wrong = tests.rule("active", "Roster", "roster-path", "ROSTER-5", "PROOF")
    wrong("a digest that is not of these leaves", lambda m, c: changed(m, digest=flipped))


def _other_digest(recorder: Recorder, message: bytes, client: Client) -> bytes:
    """A roster with another digest, one whose graph has other neighbours for this client."""
    for attempt in range(100):
        digest = labelled(f"digest {attempt}", 32)
        session = V1.session_id(recorder.config.digest, client.nonce, digest)
        drawn = rules.neighbours_of(INDEX, recorder.config, digest, session)
        if drawn != wire.read_ids(fields(message)["present"]):
            return changed(message, digest=digest)
    raise ValueError("every digest draws the same neighbours")


def _stranger(recorder: Recorder, message: bytes) -> bytes:
    """A roster with a member that is no neighbour, its keys and signature in order."""
    server, present = recorder.server, wire.read_ids(fields(message)["present"])
    stranger = next(member for member in server.keys if member not in (*present, INDEX))
    members = sorted([*present[1:], stranger])
    return changed(
        message,
        present=wire.ids(members),
        keys=b"".join(server.keys[member] for member in members),
        signatures=b"".join(server.signatures[member] for member in members),
    )


def _roster_of_own(recorder: Recorder, client: Client, changes: Mapping[int, Callable[[bytes], bytes] | None]) -> bytes:
    """A roster on the complete graph whose digest fits other keys, or members that are absent."""
    server = recorder.server
    keys = dict(server.keys)
    for member, change in changes.items():
        keys[member] = change(keys[member]) if change else b""
    leaves = {
        member: V1.leaf(member, both[:32], both[32:]) if both else V1.empty_leaf(member)
        for member, both in keys.items()
    }
    root = rules.proved_root(leaves, len(leaves), b"")
    present = [member for member in keys if keys[member] and member != INDEX]
    return encode(
        "Roster",
        client.round_id,
        V1.roster_digest(client.round_id, len(leaves), root),
        keys[INDEX],
        wire.ids(present),
        b"".join(keys[member] for member in present),
        wire.ids(member for member in keys if not keys[member]),
        b"".join(server.signatures[member] for member in present),
        b"",
    )


def _signed_for_another_round(recorder: Recorder, message: bytes, client: Client) -> bytes:
    keys = fields(message)["keys"]
    digest, nonce = client.config.digest, flipped(client.nonce)
    signed = V1.signed_advertisement(digest, nonce, 0, keys[:32], keys[32:64])
    return changed(message, signatures=lambda s: put(s, 64, 0, primitives.sign(recorder.seeds[0], signed)))
