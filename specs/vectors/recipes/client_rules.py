"""Vectors that bind one rule of a client's each: everything else about the message, or the invitation, is in order."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from reference import primitives, transcript, wire
from reference.client import Client
from reference.policy import MEASURES, SINCE_2
from reference.wire import Refused, encode

from .cases import INDEX, Case, ClientCases, changed, fields, flipped, invitation, put, swapped
from .common import LOW_ORDER, labelled, numbers
from .configs import base_config
from .encodings import longest
from .refused_invitations import join
from .rounds import Recorder, acceptor


def client_rules(tests: ClientCases) -> None:
    """Adds the tests."""
    _before_the_start(tests)
    _rates(tests)
    _indices(tests)
    _policies(tests)
    _directories(tests)
    _tokens(tests)
    _out_of_place(tests)
    _rosters(tests)
    _surplus(tests)
    _survivors(tests)
    _confirmations(tests)
    _inputs(tests)
    _encodings(tests)


def _before_the_start(tests: ClientCases) -> None:
    """A client that joined and has not started yet gets something: an ABORT of the real server's may well come then."""
    roster = bytes.fromhex(tests.setups["semi_honest"].messages[f"roster-{INDEX}"])
    for requirements, flags, error, comment, make in (
        ("STATE-1 ABORT-3", "ABORT", "state", "an ABORT before the start", lambda c: encode("Abort", c.round_id, 3)),
        ("STATE-1 WIRE-9", "ORDER", "wrong-phase", "a roster before the start", lambda c: roster),
        (
            "WIRE-6",
            "SESSION",
            "wrong-session",
            "another round's ABORT before it",
            lambda c: encode("Abort", bytes(32), 3),
        ),
    ):
        case, client, _ = tests.at("semi_honest", "client.start")
        tests.get(case, client, make(client), "message")
        case.note("client.start", error="state", state=client.state)
        tests.add(case, requirements, comment, flags, error)


def _rates(tests: ClientCases) -> None:
    """A policy's gamma is an exact number, and its share of the cohort is rounded down."""
    for gamma, clients, colluders, holds in (
        ("0.29", 100, 29, True),
        ("0.29", 100, 28, False),
        ("0.289999999999999", 100, 28, True),
        ("1/3", 99, 33, True),
        ("1/3", 99, 32, False),
        ("1/3", 98, 32, True),
    ):
        config = base_config(
            clients=clients,
            colluders=colluders,
            neighbours=clients - 1,
            threshold=clients // 2,
            min_survivors=clients // 2 + 1,
            ring_bits=32,
        )
        comment = f"a policy that counts on {gamma} of {clients} clients, and a config that counts on {colluders}"
        error = "" if holds else "config-below-policy"
        data = invitation(config.to_bytes())
        join(tests, "semi_honest", error, "CONFIG-11 CONFIG-15", "RATE", comment, data, policy={"gamma": gamma})


def _policies(tests: ClientCases) -> None:
    """A policy that a config keeps exactly, an approved config, and what is asked of `active` alone."""
    for setup in ("semi_honest", "active"):
        config = tests.setups[setup].config
        measures = [(name, measure) for name, measure in MEASURES.items() if name not in SINCE_2]
        exact = {f"{kind}_{name}": measure(config) for name, measure in measures for kind in ("min", "max")}
        for unknown in ("sigma", "grinding_bits", "threshold", "quorum", "survivors", "modulus_bits", "input_bits"):
            del exact[f"max_{unknown}"]
        exact |= {"gamma": f"{config.colluders}/{config.clients}", "suites": [config.suite], "context": ""}
        for comment, given in (
            ("a policy that the config keeps exactly", {"policy": exact}),
            ("the config that was approved", {"approve": config.digest.hex()}),
            ("a policy that asks for the threat model", {"policy": {"threat_model": config.threat_model}}),
            ("a policy that takes semi_honest", {"policy": {"threat_model": "semi_honest"}}),
        ):
            join(tests, setup, "", "CONFIG-11 CONFIG-2", "POLICY", f"{comment}, {setup}", **given)
    given = {"policy": {"min_grinding_bits": 65}}
    comment = "a policy's bits for grinding are not asked of semi_honest"
    join(tests, "semi_honest", "", "CONFIG-11", "POLICY", comment, **given)
    given = {"policy": {"max_neighbours": 3}}
    comment = "more neighbours, whose shares would cost the client more than it wants"
    join(tests, "semi_honest", "config-below-policy", "CONFIG-11", "POLICY", comment, **given)


def _indices(tests: ClientCases) -> None:
    """A cohort index is the host's own: one that the cohort does not have is its mistake, and nothing is sent."""
    for setup in ("semi_honest", "active"):
        recorder = tests.setups[setup]
        for index in (recorder.config.clients, 2**32):
            case = Case(setup, recorder, "client", 0)
            data = bytes.fromhex(recorder.messages["invitation"])
            try:
                recorder.new_client(INDEX, data, index=index)
            except ValueError:
                case.note("client.join", client=index, message=case.name(data, "wrong"), error="index")
            tests.add(case, "JOIN-1", f"index {index} of {recorder.config.clients} clients", "INDEX", "index")


def _directories(tests: ClientCases) -> None:
    """The list has the cohort's digest, and is refused for what stands in it."""
    active = tests.setups["active"]
    keys, edge = active.identities, 2**255 - 19
    split = [*keys[:-2], keys[-2][:31], keys[-2][31:] + keys[-1]]
    cases: dict[str, tuple[list[bytes], str]] = {
        "keys of 31 and of 33 bytes, which joined are those of the cohort": (split, "cohort-not-vouched"),
        "n + 1 distinct keys": ([*keys, labelled("one more", 32)], "cohort-not-vouched"),
    }
    for number, error in ((edge - 1, ""), (edge, "cohort-not-vouched"), (2**255 - 1, "cohort-not-vouched")):
        for sign, about in ((0, ""), (2**255, ", the highest bit set")):
            odd = (number + sign).to_bytes(32, "little")
            cases[f"a member's key is 2^255 - {2**255 - number}{about}"] = ([*keys[:-1], odd], error)
    for comment, (listed, error) in cases.items():
        digest = transcript.digest("secagg/v1 cohort", len(listed), b"".join(listed))
        data = invitation(replace(active.config, cohort=digest).to_bytes())
        join(tests, "active", error, "CONFIG-12 SIGN-2", "DIRECTORY", comment, data, directory=listed)


def _tokens(tests: ClientCases) -> None:
    """An invitation that is refused for another reason leaves its token unused."""
    for setup, other in (("semi_honest", {"approve": "00" * 32}), ("active", {"directory": None})):
        case, used = Case(setup, tests.setups[setup], "client", 0), set[bytes]()
        for given in ({"policy": {"min_sigma": 41}}, other, {}, {}):
            _attempt(tests.setups[setup], case, used, given)
        comment = "an invitation that was refused twice is taken, once, when the host agrees"
        tests.add(case, "JOIN-2 CONFIG-13", comment, "JOINED_TWICE", "config-below-policy")


def _attempt(recorder: Recorder, case: Case, used: set[bytes], given: Mapping[str, Any]) -> None:
    """One attempt to join, by a host that remembers the tokens."""

    def consume(token: bytes) -> bool:
        fresh = token not in used
        used.add(token)
        return fresh

    data, keys = bytes.fromhex(recorder.messages["invitation"]), given.get("directory", recorder.identities)
    accept = acceptor({**recorder.policy, **given.get("policy", {})}, given.get("approve"))
    try:
        client = recorder.new_client(INDEX, data, accept=accept, directory=lambda digest: keys, consume=consume)
    except Refused as refusal:
        case.refused("client.join", refusal, message=case.name(data, "invitation"), **given)
    else:
        case.note("client.join", message=case.name(data, "invitation"), **given, state=client.state)


def _out_of_place(tests: ClientCases) -> None:
    confirmations = lambda m, c: encode("Confirmations", c.session, b"\x1f", bytes(5 * 64))  # noqa: E731
    wrong = tests.rule("semi_honest", "done", "wrong-phase", "STATE-1", "ORDER")
    wrong("confirmations in semi_honest, in DONE", confirmations)
    for setup in ("semi_honest", "active"):
        wrong = tests.rule(setup, "done", "wrong-session", "STATE-3 WIRE-6", "SESSION")
        wrong("an ABORT of another round after the last answer", lambda m, c: encode("Abort", bytes(32), 3))
    two = wire.bitmap([0, 1], 5)
    wrong = tests.rule("active", "Survivors", "malformed", "WIRE-9 WIRE-7", "TWO_FAULTS")
    wrong("a spare bit is set, and two survive: spare bits come first", lambda m, c: changed(m, survivors=b"\x23"))
    wrong = tests.rule("active", "Confirmations", "malformed", "WIRE-9 WIRE-7", "TWO_FAULTS")
    wrong("a spare bit is set, and two confirm", lambda m, c: changed(m, signers=b"\x23", signatures=bytes(2 * 64)))
    wrong("two bytes of signers, and two confirm", lambda m, c: changed(m, signers=two + b"\0", signatures=bytes(128)))


def _rosters(tests: ClientCases) -> None:
    wrong = tests.rule("large", "Roster", "roster-neighbours", "ROSTER-4", "NEIGHBOURS")
    wrong("the absent neighbours in descending order", lambda m, c: changed(m, absent=lambda ids: swapped(ids, 4)))
    wrong("an absent neighbour twice", lambda m, c: changed(m, absent=lambda ids: ids[:4] + ids))
    wrong = tests.rule("ring", "Roster", "roster-ids", "ROSTER-2", "IDS")
    recorder = tests.setups["ring"]

    def with_stranger(message: bytes, client: Client) -> bytes:
        """One neighbour more, whose keys are in order: everything holds but their number."""
        members = wire.read_ids(fields(message)["present"])
        stranger = next(member for member in recorder.server.keys if member not in (*members, INDEX))
        everybody = sorted([*members, stranger])
        keys = b"".join(recorder.server.keys[member] for member in everybody)
        return changed(message, present=wire.ids(everybody), keys=keys)

    wrong("k + 1 neighbours, each of them a member", with_stranger)
    for name, setup in (("semi_honest", "semi_honest"), ("active", "active")):
        wrong = tests.rule(setup, "Roster", "roster-keys", "ROSTER-3", "KEYS")
        for place, low in ((0, LOW_ORDER[0]), (5, LOW_ORDER[6]), (7, LOW_ORDER[4])):
            high = low[:31] + bytes([low[31] | 0x80])
            comment = f"key {place} has low order and its highest bit set, in {name}"
            wrong(comment, lambda m, c, place=place, high=high: changed(m, keys=lambda k: put(k, 32, place, high)))  # type: ignore[misc]
        comment = f"this client's channel key as another's masking key, in {name}"
        wrong(comment, lambda m, c: changed(m, keys=lambda k: put(k, 32, 3, c.channel_key)))
    only = {"absent": b"", "signatures": b"", "proof": b""}
    for name, value in (("absent", wire.ids([1])), ("signatures", bytes(64)), ("proof", bytes(32))):
        wrong = tests.rule("ring", "Roster", "malformed", "ROSTER-7", "EXTRA_FIELDS")
        wrong(f"{name} alone", lambda m, c, extra={**only, name: value}: changed(m, **extra))  # type: ignore[misc]
    wrong("the same in absent and signatures", lambda m, c: changed(m, absent=bytes(64), signatures=bytes(64)))
    wrong("the same in all three", lambda m, c: changed(m, absent=bytes(64), signatures=bytes(64), proof=bytes(64)))


def _surplus(tests: ClientCases) -> None:
    """A record more than there are neighbours, dealers or signers."""
    wrong = tests.rule("large", "Roster", "malformed", "WIRE-7", "SURPLUS")
    wrong("a signature more than neighbours", lambda m, c: changed(m, signatures=lambda s: s + s[:64]))
    wrong("keys more than neighbours", lambda m, c: changed(m, keys=lambda k: k + labelled("more keys", 64)))
    wrong("a byte more of signatures", lambda m, c: changed(m, signatures=lambda s: s + b"\0"))
    wrong = tests.rule("large", "Shares", "malformed", "WIRE-7", "SURPLUS")
    wrong("a sealed pair more than dealers", lambda m, c: changed(m, sealed=lambda s: s + s[: wire.SEALED]))
    wrong("a commitment more than dealers", lambda m, c: changed(m, commitments=lambda s: s + s[: wire.COMMITMENTS]))
    wrong("a part of a commitment more", lambda m, c: changed(m, commitments=lambda s: s + s[:32]))
    wrong = tests.rule("large", "Confirmations", "malformed", "WIRE-7", "SURPLUS")
    wrong("a signature more than signers", lambda m, c: changed(m, signatures=lambda s: s + s[:64]))
    wrong = tests.rule("sparse", "Roster", "roster-path", "ROSTER-5", "PROOF")
    wrong("a part of a hash more", lambda m, c: changed(m, proof=lambda proof: proof + b"\0"))
    wrong("the proof twice", lambda m, c: changed(m, proof=lambda proof: 2 * proof))
    wrong = tests.rule("active", "Roster", "roster-path", "ROSTER-5", "PROOF")
    wrong("a proof where none is needed", lambda m, c: changed(m, proof=bytes(32)))


def _survivors(tests: ClientCases) -> None:
    def bits(client: Client, *members: int) -> bytes:
        return wire.bitmap(members, client.config.clients)

    wrong = tests.rule("large", "Survivors", "survivors-not-shared", "SURVIVORS-4", "NOT_SHARED")
    wrong("a neighbour that the roster showed as absent", lambda m, c: changed(m, survivors=bits(c, *range(6), 7, 8)))
    wrong = tests.rule("large", "Survivors", "survivors-too-few", "SURVIVORS-3", "TOO_FEW")
    wrong("min_survivors - 1", lambda m, c: changed(m, survivors=bits(c, 0, 1, 2, 4, 5)))
    for error, members in (("survivors-self", (0, 1, 4, 5, 7, 8)), ("", (0, 1, 2, 4, 5, 7))):
        comment = "min_survivors exactly" if not error else "min_survivors, and this client is none of them"
        one = lambda m, c, members=members: [changed(m, survivors=bits(c, *members))]  # noqa: E731
        tests.sequence("large", "Survivors", "SURVIVORS-3 SURVIVORS-2", "TOO_FEW", comment, one, error)
    wrong = tests.rule("large", "Survivors", "malformed", "WIRE-7", "MALFORMED")
    for comment, data in {
        "the lowest spare bit of the second byte": b"\xb7\x05",
        "the highest spare bit": b"\xb7\x81",
        "one byte of two": b"\xb7",
        "three bytes of two": b"\xb7\x01\0",
    }.items():
        wrong(comment, lambda m, c, data=data: changed(m, survivors=data))  # type: ignore[misc]
    wrong = tests.rule("ring", "Survivors", "survivors-neighbours", "SURVIVORS-5", "TOO_FEW")
    few = lambda m, c: bits(c, INDEX, min(c.neighbours), *({*range(7)} - c.neighbours - {INDEX}))  # noqa: E731
    wrong("one neighbour of four, and enough others", lambda m, c: changed(m, survivors=few(m, c)))


def _confirmations(tests: ClientCases) -> None:
    seeds = tests.setups["large"].seeds

    def confirmed(client: Client, signers: Sequence[int], bad: int = -1, strange: bool = False) -> bytes:
        signatures = b"".join(primitives.sign(seeds[signer], client.signed) for signer in signers)
        if bad >= 0:
            signatures = flipped(signatures, 64 * bad)
        return encode("Confirmations", client.session, wire.bitmap(signers, 10), signatures)

    wrong = tests.rule("large", "Confirmations", "confirm-signature", "CONFIRM-6", "CONFIRMATION")
    seven = [0, 1, 2, 4, 5, 7, 8]
    for bad in (0, 5, 6):
        comment = f"Q + 1 confirmations, of which number {bad} is bad"
        wrong(comment, lambda m, c, bad=bad: confirmed(c, seven, bad))  # type: ignore[misc]
    wrong = tests.rule("large", "Confirmations", "confirm-signers", "CONFIRM-5", "SIGNERS")
    wrong("Q confirmations, one of them by a member that is no survivor", lambda m, c: confirmed(c, [*seven[:5], 9]))
    wrong("Q confirmations by survivors, and one by another", lambda m, c: confirmed(c, [*seven[:6], 9]))
    wrong("Q - 1 confirmations", lambda m, c: confirmed(c, seven[:5]))
    for signers in (seven, seven[1:], seven[:6]):
        comment = f"{len(signers)} confirmations, where {6} are asked for"
        good = lambda m, c, signers=signers: [confirmed(c, signers)]  # noqa: E731
        tests.sequence("large", "Confirmations", "CONFIRM-5 CONFIRM-6", "SIGNERS", comment, good)


def _inputs(tests: ClientCases) -> None:
    for setup in ("semi_honest", "prime"):
        config = tests.setups[setup].config
        largest = [config.input_max] * config.length
        for comment, vector in (("every element is input_max", largest), ("every element is 0", [0] * config.length)):
            case, client, _ = tests.at(setup, "client.submit")
            masked = client.submit(vector)
            case.note("client.submit", input=numbers(vector), out=case.name(masked, "masked"), state=client.state)
            tests.add(case, "MASK-1", comment, "INPUT", "")
        for comment, vector in (
            ("the last element is input_max + 1", [*largest[:-1], config.input_max + 1]),
            ("the first element is input_max + 1", [config.input_max + 1, *largest[1:]]),
            ("nothing", []),
            ("an element of -1", [-1, *largest[1:]]),
        ):
            case, client, _ = tests.at(setup, "client.submit")
            case.note("client.submit", input=numbers(vector), error="input", state=client.state)
            tests.add(case, "MASK-1", comment, "INPUT", "input")
    case, client, _ = tests.at("semi_honest", "Shares")
    case.note("client.submit", error="state", state=client.state)
    tests.add(case, "STATE-1", "a vector before it is asked for", "INPUT", "state")
    case, client, _ = tests.at("semi_honest", "Roster")
    case.note("client.start", error="state", state=client.state)
    tests.add(case, "STATE-1", "a second start", "ONCE", "state")


def _encodings(tests: ClientCases) -> None:
    """Repetitions in another form, an invitation that comes again, and a config in longer form."""
    for setup, stage, error in (
        ("semi_honest", "Roster", "conflict"),
        ("active", "Shares", "conflict"),
        ("semi_honest", "Survivors", "survivors-changed"),
        ("active", "Confirmations", "conflict"),
    ):
        again = lambda m, c: [m, b"\xdc\0" + bytes([m[0] & 0xF]) + m[1:]]  # noqa: E731
        comment = f"{stage} again, the same in a longer form: the bytes as they came are compared"
        tests.sequence(setup, stage, "WIRE-8", "CONFLICT", comment, again, error)
        other = lambda m, c: [m, changed(m, session=flipped)]  # noqa: E731
        comment = f"{stage} again, under another session: that it came before is found first"
        tests.sequence(setup, stage, "WIRE-8 WIRE-9", "CONFLICT", comment, other, error)
    for setup, stage in (("semi_honest", "client.start"), ("active", "Roster"), ("active", "done")):
        wrong = tests.rule(setup, stage, "malformed", "WIRE-8 WIRE-3", "MALFORMED")
        data = bytes.fromhex(tests.setups[setup].messages["invitation"])
        wrong(f"the invitation again, before {stage}", lambda m, c, data=data: data)  # type: ignore[misc]
    for code in (-1, -32, -(2**63)):
        short = encode("Abort", bytes(32), 0)[3:-1]
        packed = bytes([code & 0xFF]) if code >= -32 else b"\xd3" + code.to_bytes(8, "big", signed=True)
        told = lambda m, c, packed=packed, short=short: [  # noqa: E731
            b"\x94\0\x01" + short.replace(bytes(32), c.round_id) + packed
        ]
        tests.sequence("active", "Survivors", "ABORT-3 WIRE-2", "ABORT", f"an ABORT with code {code}", told)
    for setup in ("semi_honest", "active"):
        recorder = tests.setups[setup]
        data = bytes.fromhex(recorder.messages["invitation"])
        data = changed(data, config=longest)
        case = Case(setup, recorder, "client", 0)
        client = recorder.new_client(INDEX, data)
        case.note("client.join", message=case.name(data, "longer"), state=client.state)
        case.note("client.start", out=case.name(client.start(), "advertise"), state=client.state)
        comment = "a config in longer form: its digest is that of the canonical bytes, and so are the keys"
        tests.add(case, "CONFIG-1 WIRE-11", comment, "LONGER", "")
