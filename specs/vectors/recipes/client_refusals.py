"""What a client must refuse: after an honest beginning, one wrong message."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from reference import arithmetic, primitives, wire
from reference.client import Client, commitments
from reference.wire import encode

from .cases import (
    INDEX,
    Case,
    ClientCases,
    changed,
    fields,
    flipped,
    put,
    set_without,
    swapped,
    without_first,
)
from .client_rules import client_rules
from .common import File, file, numbers
from .refused_invitations import refused_invitations
from .refused_rosters import refused_rosters
from .refused_states import refused_states
from .two_faults import client_faults

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
    "RESUMED": "a stored client that goes on otherwise than it would have",
    "ROLLED_BACK": "a client that answers once more from an older state",
    "LEDGER": "a ledger of used tokens that remembers the newest alone",
    "SURPLUS": "a record more than there are neighbours, dealers or signers, that nobody looks at",
    "TWO_FAULTS": "a message with two faults that is refused for the later one",
    "RATE": "a share of the cohort that binary fractions round otherwise",
    "INDEX": "a host that takes another cohort's index into a round",
    "SPENT": "a client that goes on beside its own stored state",
}


def client_refusals() -> File:
    """The file."""
    tests = ClientCases()
    refused_invitations(tests)
    refused_rosters(tests)
    _dealers(tests)
    _sealed_shares(tests)
    _inputs(tests)
    _survivors(tests)
    _confirmations(tests)
    _out_of_place(tests)
    _encodings(tests)
    _aborts(tests)
    refused_states(tests)
    client_rules(tests)
    client_faults(tests)
    about = "One client each. First replay the first `after` operations of the setup, then the test's own."
    used = {test["setup"] for test in tests.tests}
    made = {
        name: recorder.setup(recorder.of("client", INDEX)) for name, recorder in tests.setups.items() if name in used
    }
    return file("client-refusals", about, FLAGS, tests.tests, setups=made)


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
    context = client.labels.sealed_shares_context(client.session, dealer, INDEX, b"SHARE")
    key, sealed = client.opening_key(dealer), blob[wire.SEALED * place : wire.SEALED * (place + 1)]
    pair = change(primitives.unseal(key, sealed, context) or b"")
    again = put(blob, wire.SEALED, place, primitives.seal(key, pair, context))
    return changed(message, sealed=again), commitments(client.labels, client.session, dealer, INDEX, pair)


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
    out_of_range = element(1, 0, arithmetic.FIELD)
    first_changed = lambda m, c: _resealed(m, c, 0, flipped)[0]  # noqa: E731
    comment = "another salt, and a later dealer's element out of range: the first dealer is named"
    wrong(comment, lambda m, c: out_of_range(first_changed(m, c), c))
    wrong = tests.rule("semi_honest", "Shares", "shares-unsealable", "SHARES-3", "SEAL")
    comment = "another salt, and a later dealer's shares do not open: that dealer is named"
    wrong(comment, lambda m, c: changed(first_changed(m, c), sealed=flipped))


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
        signed = client.labels.signed_survivors(session or client.session, bits)
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
    wrong("version 2, of a type that is unknown", lambda m, c: wire.pack([11, 2, c.session]))
    wrong("version -1", lambda m, c: m[:2] + b"\xff" + m[3:])
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
    negative = lambda m, c: [encode("Abort", c.round_id, 1)[:-1] + b"\xff"]  # noqa: E731
    tests.sequence("active", "Survivors", "ABORT-3 WIRE-2", "ABORT", "an ABORT: code -1", negative)
    comment = "an ABORT under the session id"
    tests.sequence("active", "Survivors", "ABORT-3", "ABORT", comment, lambda m, c: [encode("Abort", c.session, 0)])
    comment = "an ABORT after the last answer"
    tests.sequence("active", "done", "ABORT-3", "ABORT", comment, lambda m, c: [encode("Abort", c.round_id, 3)])
    comment += ", under the session id"
    tests.sequence("active", "done", "ABORT-3 WIRE-6", "ABORT", comment, lambda m, c: [encode("Abort", c.session, 3)])
    wrong = tests.rule("active", "Survivors", "wrong-session", "ABORT-3 WIRE-6", "SESSION")
    wrong("an ABORT of another round", lambda m, c: encode("Abort", bytes(32), 3))
    comment = "the right message after a wrong one"
    two = lambda m, c: [changed(m, session=flipped), m]  # noqa: E731
    tests.sequence("active", "Shares", "STATE-3 ABORT-5", "ENDED", comment, two, "wrong-session")
