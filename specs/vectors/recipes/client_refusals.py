"""What a client must refuse: after an honest beginning, one wrong message."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

from reference import arithmetic, primitives, rules, transcript, wire
from reference.client import Client, commitments
from reference.wire import Refused, encode

from .cases import (
    INDEX,
    Case,
    ClientCases,
    changed,
    fields,
    flipped,
    invitation,
    put,
    set_without,
    swapped,
    without_first,
)
from .common import LOW_ORDER, File, file, labelled, numbers
from .rounds import Recorder, acceptor

FLAGS = {
    "APPROVAL": "a round that the host never agreed to",
    "UNSOUND": "a config that breaks the protocol's own rules, taken on the server's word",
    "POLICY": "a server that talks a client below its own floor",
    "DIRECTORY": "a cohort of the server's own making",
    "JOINED_TWICE": "two inputs masked in one round",
    "OWN_LEAF": "a client's own keys replaced in what its neighbours see",
    "IDS": "one party counted as several neighbours",
    "KEYS": "keys that open to somebody else, or to everybody",
    "NEIGHBOURS": "neighbours that the server chose",
    "PROOF": "leaves that do not stand in the roster whose digest keys depend on",
    "SIGNATURE": "the server's keys in place of a member's",
    "TOO_FEW": "a client among too few others",
    "EXTRA_FIELDS": "fields of the other threat model",
    "DEALERS": "shares of somebody whose mask was not agreed on",
    "SEAL": "shares replayed, misdirected or changed",
    "RANGE": "share elements that are not below the prime",
    "COMMITMENT": "a bad share that would be blamed on its holder",
    "INPUT": "an input that overflows the sum, or is of another length",
    "SELF": "a client told that it is gone while its vector is in the sum",
    "NOT_SHARED": "a mask that stays in the sum",
    "CHANGED": "both kinds of share of one client, one after the other",
    "SIGNERS": "fewer confirmations than it takes to rule out a second survivor set",
    "CONFIRMATION": "confirmations of another survivor set, session or signer",
    "LOST": "the wrong kind of share for a client that was lost",
    "ORDER": "a message out of its place",
    "CONFLICT": "a second message that differs from the first",
    "DUPLICATE": "an identical message that changes something, or kills the client",
    "SESSION": "a message of another round",
    "VERSION": "a message of another version",
    "SIZE": "memory exhausted by a large message",
    "MALFORMED": "bytes that no encoder makes",
    "LONGER": "encodings that are longer than they must be, refused: receivers take them",
    "ONCE": "a second input, or a second answer, under the same masks",
    "ENDED": "a client that answers after it left",
    "ABORT": "a client that waits for ever",
}


def client_refusals() -> File:
    """The file."""
    tests = ClientCases()
    _invitations(tests)
    _policies(tests)
    _directories(tests)
    _rosters(tests)
    _rosters_in_one_model(tests)
    _proofs(tests)
    _dealers(tests)
    _sealed_shares(tests)
    _inputs(tests)
    _survivors(tests)
    _confirmations(tests)
    _out_of_place(tests)
    _encodings(tests)
    _aborts(tests)
    about = "One client each. First replay the first `after` operations of the setup, then the test's own."
    used = {test["setup"] for test in tests.tests}
    made = {
        name: recorder.setup(recorder.of("client", INDEX)) for name, recorder in tests.setups.items() if name in used
    }
    return file("client-refusals", about, FLAGS, tests.tests, setups=made)


# The invitation.


def _join(
    tests: ClientCases,
    setup: str,
    error: str,
    requirement: str,
    flag: str,
    comment: str,
    data: bytes = b"",
    **given: Any,
) -> None:
    """A test in which a client does not join; ``given`` is what its host gives it."""
    recorder = tests.setups[setup]
    case = Case(setup, recorder, "client", 0)
    data = data or bytes.fromhex(recorder.messages["invitation"])
    keys = given.get("directory", recorder.identities)
    shown = {**given, "directory": keys and [key.hex() for key in keys]} if "directory" in given else given
    try:
        recorder.new_client(
            INDEX,
            data,
            accept=acceptor({**recorder.policy, **given.get("policy", {})}, given.get("approve")),
            directory=lambda digest: keys,
            consume=lambda token: not given.get("used"),
        )
    except Refused as refusal:
        case.refused("client.join", refusal, message=case.name(data, "wrong"), **shown)
    tests.add(case, f"{requirement} CONFIG-14", comment, flag, error)


def _invitations(tests: ClientCases) -> None:
    semi, active = tests.setups["semi_honest"].config, tests.setups["active"].config
    other = replace(semi, length=4)
    comment = "another config than the approved one"
    approved = other.digest.hex()
    _join(tests, "semi_honest", "config-not-approved", "CONFIG-2", "APPROVAL", comment, approve=approved)
    for comment, bad in {
        "a threshold that the colluders reach": replace(semi, threshold=1),
        "a quorum that two survivor sets reach": replace(active, quorum=3),
        "another suite": replace(semi, suite=9),
        "a sum that may wrap": replace(semi, input_max=2**18),
    }.items():
        setup, data = "active" if bad.active else "semi_honest", invitation(bad.to_bytes())
        _join(tests, setup, "config-unsound", "CONFIG-10", "UNSOUND", comment, data)
    good = bytes.fromhex(tests.setups["semi_honest"].messages["invitation"])
    for requirement, flag, error, comment, data in (
        ("WIRE-6", "SESSION", "wrong-session", "a round id of another nonce", changed(good, nonce=flipped)),
        ("WIRE-6", "SESSION", "wrong-session", "a round id of another config", changed(good, config=other.to_bytes())),
        ("WIRE-3", "MALFORMED", "malformed", "a nonce of 31 bytes", changed(good, nonce=bytes(31))),
        ("WIRE-3", "MALFORMED", "malformed", "a byte too many", good + b"\0"),
        ("WIRE-3", "MALFORMED", "malformed", "a byte too few", good[:-1]),
        ("WIRE-4", "VERSION", "wrong-version", "version 2", changed(good, version=2)),
        ("WIRE-5", "SIZE", "too-large", "more than 4096 bytes", changed(good, config=bytes(4096))),
    ):
        _join(tests, "semi_honest", error, requirement, flag, comment, data)


def _policies(tests: ClientCases) -> None:
    floors: dict[str, dict[str, Any]] = {
        "fewer clients": {"min_clients": 6},
        "more clients": {"max_clients": 4},
        "semi_honest": {"threat_model": "active"},
        "another suite": {"suites": [2]},
        "less privacy": {"min_sigma": 41},
        "fewer neighbours": {"min_neighbours": 5},
        "a lower threshold": {"min_threshold": 3},
        "fewer survivors": {"min_survivors": 4},
        "a narrower modulus": {"min_modulus_bits": 20},
        "smaller inputs": {"min_input_bits": 17},
        "a shorter vector": {"min_length": 4},
        "a longer vector": {"max_length": 2},
        "another context": {"context": b"another model".hex()},
    }
    for comment, policy in floors.items():
        _join(tests, "semi_honest", "config-below-policy", "CONFIG-11", "POLICY", comment, policy=policy)
    floors = {"fewer bits for grinding": {"min_grinding_bits": 65}, "a lower quorum": {"min_quorum": 5}}
    for comment, policy in floors.items():
        _join(tests, "active", "config-below-policy", "CONFIG-11", "POLICY", comment, policy=policy)


def _directories(tests: ClientCases) -> None:
    active = tests.setups["active"]
    keys, stranger = active.identities, labelled("stranger", 32)
    for comment, directory in {
        "no such cohort": None,
        "another key at one index": [*keys[:-1], stranger],
        "one member more": [*keys, stranger],
        "another order": [*keys[1:], keys[0]],
    }.items():
        _join(tests, "active", "cohort-not-vouched", "CONFIG-12", "DIRECTORY", comment, directory=directory)
    moved = [*keys[:2], keys[3], keys[2], *keys[4:]]
    data = invitation(replace(active.config, cohort=transcript.cohort_digest(moved)).to_bytes())
    comment = "a vouched cohort that has another member at this client's index"
    _join(tests, "active", "cohort-not-vouched", "CONFIG-12", "DIRECTORY", comment, data, directory=moved)
    twice = [*keys[:-1], keys[0]]
    data = invitation(replace(active.config, cohort=transcript.cohort_digest(twice)).to_bytes())
    comment = "one key at two indices"
    _join(tests, "active", "cohort-not-vouched", "CONFIG-12", "DIRECTORY", comment, data, directory=twice)
    comment = "the token was used before"
    for setup in ("semi_honest", "active"):
        _join(tests, setup, "already-joined", "CONFIG-13", "JOINED_TWICE", comment, used=True)


# The roster.


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
        session = transcript.session_id(recorder.config.digest, client.nonce, digest)
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
        member: transcript.leaf(member, both[:32], both[32:]) if both else transcript.empty_leaf(member)
        for member, both in keys.items()
    }
    root = rules.proved_root(leaves, len(leaves), b"")
    present = [member for member in keys if keys[member] and member != INDEX]
    return encode(
        "Roster",
        client.round_id,
        transcript.roster_digest(client.round_id, len(leaves), root),
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
    signed = transcript.signed_advertisement(digest, nonce, 0, keys[:32], keys[32:64])
    return changed(message, signatures=lambda s: put(s, 64, 0, primitives.sign(recorder.seeds[0], signed)))


# The shares.


def _dealers(tests: ClientCases) -> None:
    wrong = tests.rule("semi_honest", "Shares", "shares-dealers", "SHARES-1", "DEALERS")
    for comment, members in {
        "a dealer twice": [0, 1, 1, 4],
        "descending dealers": [1, 0, 3, 4],
        "the client itself": [0, 1, 2, 4],
        "a dealer beyond the cohort": [0, 1, 3, 9],
    }.items():
        wrong(comment, lambda m, c, members=members: changed(m, dealers=wire.ids(members)))  # type: ignore[misc]
    wrong = tests.rule("sparse", "Shares", "shares-dealers", "SHARES-1", "DEALERS")
    wrong("a member that is no neighbour", _stranger_deals)
    wrong = tests.rule("semi_honest", "Shares", "shares-too-few", "SHARES-2", "TOO_FEW")
    first = {"dealers": lambda d: d[:4], "sealed": lambda s: s[: wire.SEALED], "commitments": lambda s: s[:64]}
    wrong("t - 1 dealers", lambda m, c: changed(m, **first))
    wrong("nobody", lambda m, c: changed(m, dealers=b"", sealed=b"", commitments=b""))
    wrong = tests.rule("semi_honest", "Shares", "malformed", "WIRE-7", "MALFORMED")
    wrong("shares of fewer dealers", lambda m, c: without_first(m, sealed=wire.SEALED))
    wrong("commitments of fewer dealers", lambda m, c: without_first(m, commitments=wire.COMMITMENTS))
    wrong("a share that is a byte short", lambda m, c: changed(m, sealed=lambda s: s[:-1]))


def _stranger_deals(message: bytes, client: Client) -> bytes:
    stranger = next(member for member in range(client.config.clients) if member not in {*client.peers, INDEX})
    return changed(message, dealers=lambda ids: wire.ids(sorted([*wire.read_ids(ids)[1:], stranger])))


def _resealed(message: bytes, client: Client, place: int, change: Callable[[bytes], bytes]) -> tuple[bytes, bytes]:
    """A message in which one dealer's shares are others, and the commitments to these."""
    blob, dealer = fields(message)["sealed"], wire.read_ids(fields(message)["dealers"])[place]
    context = transcript.sealed_shares_context(client.session, dealer, INDEX, b"SHARE")
    key, sealed = client.receive_keys[dealer], blob[wire.SEALED * place : wire.SEALED * (place + 1)]
    pair = change(primitives.unseal(key, sealed, context) or b"")
    again = put(blob, wire.SEALED, place, primitives.seal(key, pair, context))
    return changed(message, sealed=again), commitments(client.session, dealer, INDEX, pair)


def _sealed_shares(tests: ClientCases) -> None:
    dealt = tests.setups["active"].server.dealt
    for_another, sent_by_itself = dealt[0][0][1], dealt[INDEX][0][0]
    wrong = tests.rule("active", "Shares", "shares-unsealable", "SHARES-3", "SEAL")
    wrong("the shares of two dealers exchanged", lambda m, c: changed(m, sealed=lambda s: swapped(s, wire.SEALED)))
    wrong("a bit of a ciphertext changed", lambda m, c: changed(m, sealed=lambda s: flipped(s, 2 * wire.SEALED)))
    wrong("a bit of a tag changed", lambda m, c: changed(m, sealed=flipped))
    wrong("shares for another receiver", lambda m, c: changed(m, sealed=lambda s: put(s, wire.SEALED, 0, for_another)))
    comment = "shares that this client sent come back"
    wrong(comment, lambda m, c: changed(m, sealed=lambda s: put(s, wire.SEALED, 0, sent_by_itself)))

    def element(place: int, at: int, value: int) -> Callable[[bytes, Client], bytes]:
        """One element of a dealer's shares is another, and committed to."""

        def change(message: bytes, client: Client) -> bytes:
            data = value.to_bytes(8, "little")
            again, committed = _resealed(message, client, place, lambda pair: put(pair, 8, at, data))
            return changed(again, commitments=lambda blob: put(blob, wire.COMMITMENTS, place, committed))

        return change

    wrong = tests.rule("semi_honest", "Shares", "shares-range", "SHARES-4", "RANGE")
    wrong("an element of the key share is the prime", element(1, 0, arithmetic.FIELD))
    wrong("an element of the seed share is 2^64 - 1", element(3, 9, 2**64 - 1))

    one = (1).to_bytes(8, "little")
    wrong = tests.rule("semi_honest", "Shares", "shares-commitment", "SHARES-5", "COMMITMENT")
    wrong("another key share", lambda m, c: _resealed(m, c, 0, lambda pair: put(pair, 8, 4, one))[0])
    wrong("another seed share", lambda m, c: _resealed(m, c, 1, lambda pair: put(pair, 8, 5, one))[0])
    wrong("another salt", lambda m, c: _resealed(m, c, 2, flipped)[0])
    wrong("the pair's shares exchanged", lambda m, c: _resealed(m, c, 0, lambda pair: swapped(pair, 40))[0])
    wrong("a commitment changed", lambda m, c: changed(m, commitments=flipped))
    comment = "commitments of two dealers exchanged"
    wrong(comment, lambda m, c: changed(m, commitments=lambda blob: swapped(blob, wire.COMMITMENTS)))


# The input.


def _submit(tests: ClientCases, case: Case, setup: str, client: Client) -> None:
    masked = client.submit(tests.setups[setup].vector(INDEX))
    case.note("client.submit", out=case.name(masked, "masked"), state=client.state)


def _inputs(tests: ClientCases) -> None:
    for comment, wrong in {
        "an element above input_max": [65536, 0, 0],
        "an element too few": [1, 2],
        "an element too many": [1, 2, 3, 4],
    }.items():
        case, client, _ = tests.at("semi_honest", "client.submit")
        case.note("client.submit", input=numbers(wrong), error="input", state=client.state)
        _submit(tests, case, "semi_honest", client)
        tests.add(case, "MASK-1", comment, "INPUT", "input")
    case, client, _ = tests.at("semi_honest", "client.submit")
    _submit(tests, case, "semi_honest", client)
    case.note("client.submit", error="state", state=client.state)
    tests.add(case, "MASK-5", "a second input", "ONCE", "state")


# The survivors and their confirmation.


def _survivors(tests: ClientCases) -> None:
    for setup in ("semi_honest", "active"):
        wrong = tests.rule(setup, "Survivors", "survivors-self", "SURVIVORS-2", "SELF")
        wrong("this client is missing", lambda m, c: changed(m, survivors=lambda bits: set_without(bits, 5, INDEX)))
        wrong = tests.rule(setup, "Survivors", "survivors-too-few", "SURVIVORS-3", "TOO_FEW")
        few = {"survivors": lambda bits: set_without(bits, 5, 0, 3, 4)}
        wrong("fewer than min_survivors", lambda m, c, few=few: changed(m, **few))  # type: ignore[misc]
    wrong = tests.rule("active", "Survivors", "malformed", "WIRE-7", "MALFORMED")
    wrong("a spare bit is set", lambda m, c: changed(m, survivors=b"\x3f"))
    wrong("a byte too many", lambda m, c: changed(m, survivors=b"\x1f\0"))
    wrong("no bytes", lambda m, c: changed(m, survivors=b""))
    _shares_kept_back(tests, "active")
    wrong = tests.rule("sparse", "Survivors", "survivors-neighbours", "SURVIVORS-5", "TOO_FEW")
    wrong(
        "t - 1 of its neighbours",
        lambda m, c: changed(m, survivors=lambda bits: set_without(bits, 6, *sorted(c.neighbours)[:2])),
    )
    other = {"survivors": lambda bits: set_without(bits, 5, 4)}
    for setup in ("semi_honest", "active"):
        comment = "a second survivor set, after the answer to the first"
        two = lambda m, c: [m, changed(m, **other)]  # noqa: E731
        tests.sequence(setup, "Survivors", "SURVIVORS-6", "CHANGED", comment, two, "survivors-changed")
    comment = "the same survivors again: no second answer"
    tests.sequence("semi_honest", "Survivors", "UNMASK-3", "ONCE DUPLICATE", comment, lambda m, c: [m, m, m])
    comment = "one neighbour was lost: a share of its masking key"
    lost = lambda m, c: [changed(m, **other)]  # noqa: E731
    tests.sequence("semi_honest", "Survivors", "UNMASK-1 UNMASK-2", "LOST", comment, lost)


def _shares_kept_back(tests: ClientCases, setup: str) -> None:
    """A neighbour whose shares never came is said to have survived."""
    case, client, shares = tests.at(setup, "Shares")
    fewer = without_first(shares, dealers=4, sealed=wire.SEALED, commitments=wire.COMMITMENTS)
    tests.get(case, client, fewer, "shares-of-three")
    _submit(tests, case, setup, client)
    tests.get(case, client, bytes.fromhex(tests.setups[setup].messages["survivors"]), "survivors")
    comment = "a neighbour survives whose shares were kept back"
    tests.add(case, "SURVIVORS-4", comment, "NOT_SHARED", "survivors-not-shared")


def _confirmations(tests: ClientCases) -> None:
    seeds = tests.setups["active"].seeds

    def confirmed(client: Client, signers: Sequence[int], bits: bytes = b"\x1f", session: bytes = b"") -> bytes:
        signed = transcript.signed_survivors(session or client.session, bits)
        signatures = b"".join(primitives.sign(seeds[signer], signed) for signer in signers)
        return encode("Confirmations", client.session, wire.bitmap(signers, 5), signatures)

    wrong = tests.rule("active", "Confirmations", "confirm-signers", "CONFIRM-5", "SIGNERS")
    wrong("Q - 1 confirmations", lambda m, c: confirmed(c, [0, 1, 2]))
    wrong("none", lambda m, c: confirmed(c, []))
    wrong = tests.rule("active", "Confirmations", "confirm-signature", "CONFIRM-6", "CONFIRMATION")
    wrong("a signature changed", lambda m, c: changed(m, signatures=flipped))
    wrong("two signatures exchanged", lambda m, c: changed(m, signatures=lambda s: swapped(s, 64)))
    wrong("signatures over another survivor set", lambda m, c: confirmed(c, [0, 1, 2, 3], b"\x0f"))
    wrong("signatures of another session", lambda m, c: confirmed(c, [0, 1, 2, 3], session=bytes(32)))
    comment = "one member's signature for another"
    wrong(comment, lambda m, c: changed(m, signatures=lambda s: put(s, 64, 1, s[:64])))
    wrong = tests.rule("active", "Confirmations", "malformed", "WIRE-7", "MALFORMED")
    wrong("a signature too few", lambda m, c: without_first(m, signatures=64))
    wrong("a spare bit is set", lambda m, c: changed(m, signers=b"\x8f"))

    def of_four(signers: Sequence[int]) -> Callable[[bytes, Client], list[bytes]]:
        """The survivors are four of the five, and so are the signers."""

        def messages(message: bytes, client: Client) -> list[bytes]:
            return [changed(message, survivors=b"\x0f"), confirmed(client, signers, b"\x0f")]

        return messages

    comment = "a signer that is no survivor"
    stranger = of_four([0, 1, 2, 4])
    tests.sequence("active", "Survivors", "CONFIRM-5", "SIGNERS", comment, stranger, "confirm-signers")
    comment = "four confirm, and one was lost: a share of its masking key"
    tests.sequence("active", "Survivors", "CONFIRM-5 UNMASK-1", "LOST", comment, of_four([0, 1, 2, 3]))


# Every message.


def _out_of_place(tests: ClientCases) -> None:
    for setup, stage, name in (
        ("semi_honest", "Roster", f"shares-{INDEX}"),
        ("semi_honest", "Shares", "survivors"),
        ("semi_honest", "client.submit", "survivors"),
        ("active", "Roster", "survivors"),
        ("active", "Survivors", "confirmations"),
    ):
        early = bytes.fromhex(tests.setups[setup].messages[name])
        wrong = tests.rule(setup, stage, "wrong-phase", "STATE-1 WIRE-9", "ORDER")
        wrong(f"{name} too early", lambda m, c, early=early: early)  # type: ignore[misc]
    wrong = tests.rule("semi_honest", "Survivors", "wrong-phase", "STATE-1 WIRE-9", "ORDER")
    wrong("confirmations in semi_honest", lambda m, c: encode("Confirmations", c.session, b"\0", b""))
    for setup, stage, field in (
        ("semi_honest", "Roster", "digest"),
        ("semi_honest", "Shares", "sealed"),
        ("active", "Confirmations", "signatures"),
    ):
        two = lambda m, c, field=field: [m, changed(m, **{field: flipped})]  # noqa: E731
        comment = f"{stage} twice, the second one otherwise"
        tests.sequence(setup, stage, "WIRE-8", "CONFLICT", comment, two, "conflict")
        tests.sequence(setup, stage, "WIRE-8", "DUPLICATE", f"{stage} twice", lambda m, c: [m, m])
    for stage in ("Shares", "Survivors"):
        wrong = tests.rule("active", stage, "wrong-session", "WIRE-6", "SESSION")
        wrong(f"{stage} of another session", lambda m, c: changed(m, session=flipped))
        wrong(f"{stage} under the round id", lambda m, c: changed(m, session=c.round_id))
    wrong = tests.rule("active", "Survivors", "wrong-version", "WIRE-4", "VERSION")
    wrong("version 2", lambda m, c: changed(m, version=2))
    wrong("version 0", lambda m, c: changed(m, version=0))
    wrong("version 2, of other fields", lambda m, c: wire.pack([5, 2, c.session, 7]))
    config = tests.setups["semi_honest"].config
    limit = max(map(config.max_bytes, wire.TO_CLIENT))
    wrong = tests.rule("semi_honest", "Survivors", "too-large", "WIRE-5", "SIZE")
    wrong("a byte more than the largest message", lambda m, c: changed(m, survivors=bytes(limit + 1 - len(m))))


def _encodings(tests: ClientCases) -> None:
    survivors = bytes.fromhex(tests.setups["semi_honest"].messages["survivors"])
    unmask = bytes.fromhex(tests.setups["semi_honest"].messages[f"unmask-{INDEX}"])
    head, session, tail = survivors[:3], survivors[3:37], survivors[37:]
    wrong = tests.rule("semi_honest", "Survivors", "malformed", "WIRE-3", "MALFORMED")
    for comment, data in {
        "nothing": b"",
        "a byte too few": survivors[:-1],
        "a byte too many": survivors + b"\0",
        "a field too few": b"\x93" + head[1:] + session,
        "a field too many": b"\x95" + head[1:] + session + tail + b"\0",
        "a message for servers": unmask,
        "an unknown type": changed(survivors, session=bytes(32))[:1] + b"\x0b" + survivors[2:],
        "a session of 31 bytes": changed(survivors, session=bytes(31)),
        "a string for bytes": head + session + b"\xa1a",
        "a number for bytes": head + session + b"\x1f",
        "nil for bytes": head + session + b"\xc0",
        "true for a number": b"\x94\xc3" + survivors[2:],
        "a float for a number": b"\x94\x07\xcb\x3f\xf0\0\0\0\0\0\0" + session + tail,
        "a map": b"\x84" + survivors[1:],
        "an extension type": head + session + b"\xd4\x01\x1f",
        "a nested array": head + session + b"\x91" + tail,
        "more bytes announced than there are": head + session + b"\xc6\xff\xff\xff\xff\x1f",
        "more fields announced than there are": b"\xdd\xff\xff\xff\xff" + survivors[1:],
    }.items():
        wrong(comment, lambda m, c, data=data: data)  # type: ignore[misc]
    for comment, data in {
        "an array header of 3 bytes": b"\xdc\0\x04" + survivors[1:],
        "an array header of 5 bytes": b"\xdd\0\0\0\x04" + survivors[1:],
        "a type of 2 bytes": b"\x94\xcc\x07" + survivors[2:],
        "a version of 9 bytes": b"\x94\x07\xcf\0\0\0\0\0\0\0\x01" + survivors[3:],
        "a signed type": b"\x94\xd0\x07" + survivors[2:],
        "byte strings with longer headers": head + b"\xc5\0" + session[1:] + b"\xc6\0\0\0" + tail[1:],
    }.items():
        longer = lambda m, c, data=data: [data]  # noqa: E731
        tests.sequence("semi_honest", "Survivors", "WIRE-2", "LONGER", f"{comment}: taken", longer)


def _aborts(tests: ClientCases) -> None:
    for comment, code in {"too few clients": 3, "excluded": 4, "a code of the future": 250}.items():
        told = lambda m, c, code=code: [encode("Abort", c.round_id, code), m]  # noqa: E731
        tests.sequence("active", "Survivors", "ABORT-3 STATE-3", "ABORT", f"an ABORT: {comment}", told)
    comment = "an ABORT under the session id"
    tests.sequence("active", "Survivors", "ABORT-3", "ABORT", comment, lambda m, c: [encode("Abort", c.session, 0)])
    comment = "an ABORT after the last answer"
    tests.sequence("active", "done", "ABORT-3", "ABORT", comment, lambda m, c: [encode("Abort", c.round_id, 3)])
    wrong = tests.rule("active", "Survivors", "wrong-session", "ABORT-3 WIRE-6", "SESSION")
    wrong("an ABORT of another round", lambda m, c: encode("Abort", bytes(32), 3))
    comment = "the right message after a wrong one"
    two = lambda m, c: [changed(m, session=flipped), m]  # noqa: E731
    tests.sequence("active", "Shares", "STATE-3 ABORT-5", "ENDED", comment, two, "wrong-session")
