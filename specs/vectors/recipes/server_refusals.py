"""What a server must refuse: after an honest beginning, one wrong message."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from unittest.mock import patch

from reference import arithmetic, primitives, wire
from reference.client import Client
from reference.wire import Refused, encode

from .cases import INDEX, Case, ServerCases, changed, fields, flipped, swapped
from .common import LOW_ORDER, File, file, labelled
from .rounds import Recorder, small
from .server_rules import server_rules
from .two_faults import server_faults

FLAGS = {
    "LOW_ORDER": "a key that every neighbour would refuse",
    "REPEATED": "one key in two places",
    "SIGNATURE": "keys, or a confirmation, of somebody else",
    "SESSION": "a message of another round",
    "VERSION": "a message of another version",
    "MALFORMED": "bytes that no encoder makes",
    "SIZE": "memory exhausted by a large message",
    "LENGTH": "records that are missing or too many",
    "PADDING": "a vector with bits after its last element",
    "RANGE": "an element at or above a prime modulus",
    "BAD_SHARE": "a bad share that makes the sum wrong: it is left out, and its sender named",
    "BAD_DEALER": "a wrong sum, where what was dealt reconstructs to something else than was announced",
    "CONFLICT": "a second message that differs from the first",
    "DUPLICATE": "an identical message that changes something, or is blamed",
    "FIRST_COUNTS": "a masked input that is added twice, or replaced",
    "ORDER": "a message out of its place",
    "LEAVES": "a client that said it left, and is waited for",
    "TWO_FAULTS": "a message with two faults that is refused for the later one",
    "STRANGER": "a sender that is not of the cohort",
}


def server_refusals() -> File:
    """The file."""
    tests = ServerCases()
    for setup in ("semi_honest", "active"):
        _advertise(tests, setup)
    _lengths(tests, "active")
    _prime(tests)
    _signatures(tests)
    _always(tests)
    _out_of_place(tests)
    _bad_dealers(tests)
    server_rules(tests)
    server_faults(tests)
    _wide_secrets(tests)
    about = (
        "One server each. First replay the first `after` operations of the setup, then the test's own. Where a message "
        "is refused, the right one is taken afterwards."
    )
    used = {test["setup"] for test in tests.tests}
    made = {name: recorder.setup(recorder.of("server")) for name, recorder in tests.setups.items() if name in used}
    return file("server-refusals", about, FLAGS, tests.tests, setups=made)


def _advertise(tests: ServerCases, setup: str) -> None:
    wrong = tests.rule(setup, "advertise", "key-unusable", "ADVERTISE-4", "LOW_ORDER")
    low = sorted(LOW_ORDER)[2]
    wrong("a channel key of low order", lambda m: changed(m, channel_key=low))
    wrong("a masking key of zero", lambda m: changed(m, masking_key=bytes(32)))

    wrong = tests.rule(setup, "advertise", "key-repeated", "ADVERTISE-4", "REPEATED")
    wrong("one key for both", lambda m: changed(m, channel_key=fields(m)["masking_key"]))
    first, second = tests.message(setup, "advertise-0"), tests.message(setup, f"advertise-{INDEX}")
    stolen = [(0, first), (INDEX, changed(second, masking_key=fields(first)["channel_key"]))]
    comment = "a key that another client advertised"
    tests.sequence(setup, "ADVERTISE", "ADVERTISE-4", "REPEATED", comment, lambda s: stolen)

    wrong = tests.rule(setup, "advertise", "malformed", "ADVERTISE-4", "SIGNATURE")
    wrong("a signature of another length", lambda m: changed(m, signature=lambda s: s[:-1] if s else bytes(64)))


def _lengths(tests: ServerCases, setup: str) -> None:
    wrong = tests.rule(setup, "share", "wrong-length", "SHARE-8", "LENGTH")
    wrong("shares for fewer neighbours", lambda m: changed(m, sealed=lambda s: s[: -wire.SEALED]))
    wrong("commitments for fewer neighbours", lambda m: changed(m, commitments=lambda s: s[:-64]))
    wrong("a byte too many", lambda m: changed(m, sealed=lambda s: s + b"\0"))

    wrong = tests.rule(setup, "masked-input", "wrong-length", "MASK-6", "LENGTH")
    wrong("a byte too few", lambda m: changed(m, vector=lambda v: v[:-1]))
    wrong("a byte too many", lambda m: changed(m, vector=lambda v: v + b"\0"))
    wrong("nothing", lambda m: changed(m, vector=b""))
    wrong = tests.rule(setup, "masked-input", "padding", "MASK-6", "PADDING")
    wrong("a bit after the last element", lambda m: changed(m, vector=lambda v: v[:-1] + bytes([v[-1] | 0x80])))

    wrong = tests.rule(setup, "unmask", "wrong-length", "UNMASK-4", "LENGTH")
    wrong("shares of fewer dealers", lambda m: changed(m, openings=lambda o: o[: -wire.OPENING]))
    wrong("a byte too many", lambda m: changed(m, openings=lambda o: o + b"\0"))
    wrong = tests.rule(setup, "unmask", "bad-share", "UNMASK-4", "BAD_SHARE", then="conflict")
    wrong("another share", lambda m: changed(m, openings=lambda o: flipped(o, 3)))
    wrong("another salt", lambda m: changed(m, openings=flipped))
    wrong("an element that is not below the prime", lambda m: changed(m, openings=lambda o: b"\xff" * 8 + o[8:]))
    wrong("shares of two dealers exchanged", lambda m: changed(m, openings=lambda o: swapped(o, wire.OPENING)))


def _prime(tests: ServerCases) -> None:
    wrong = tests.rule("prime", "masked-input", "element-range", "MASK-6", "RANGE")
    modulus = arithmetic.pack_vector([32771, 0, 0], 32771)
    wrong("an element is the modulus", lambda m: changed(m, vector=modulus))
    ones = arithmetic.pack_vector([0, 0, 65535], 32771)
    wrong("the last element has all its bits set", lambda m: changed(m, vector=ones))


def _signatures(tests: ServerCases) -> None:
    active = tests.setups["active"]
    wrong = tests.rule("active", "advertise", "bad-signature", "ADVERTISE-4", "SIGNATURE")
    wrong("a signature changed", lambda m: changed(m, signature=flipped))
    wrong("another member's keys and signature", lambda m: tests.message("active", "advertise-3"))
    other = primitives.public_key(labelled("another key", 32))
    wrong("another key", lambda m: changed(m, masking_key=other))

    def confirmation(session: bytes, survivors: bytes, signer: int = INDEX) -> bytes:
        signed = active.server.labels.signed_survivors(session, survivors)
        return encode("Confirm", active.server.session, primitives.sign(active.seeds[signer], signed))

    wrong = tests.rule("active", "confirm", "bad-signature", "CONFIRM-2", "SIGNATURE")
    wrong("another survivor set", lambda m: confirmation(active.server.session, b"\x0f"))
    wrong("another session", lambda m: confirmation(bytes(32), b"\x1f"))
    wrong("another member's signature", lambda m: confirmation(active.server.session, b"\x1f", 3))


def _always(tests: ServerCases) -> None:
    active = tests.setups["active"]
    wrong = tests.rule("active", "share", "wrong-session", "WIRE-6", "SESSION")
    wrong("shares under the round id", lambda m: changed(m, session=active.server.round_id))
    wrong("shares of another session", lambda m: changed(m, session=flipped))
    wrong = tests.rule("active", "advertise", "wrong-session", "WIRE-6", "SESSION")
    wrong("keys for another round", lambda m: changed(m, session=flipped))

    wrong = tests.rule("active", "share", "wrong-version", "WIRE-4", "VERSION")
    wrong("version 2", lambda m: changed(m, version=2))
    wrong = tests.rule("active", "share", "malformed", "WIRE-3", "MALFORMED")
    wrong("a byte too few", lambda m: m[:-1])
    wrong("a byte too many", lambda m: m + b"\0")
    wrong("nothing", lambda m: b"")
    wrong("a message for clients", lambda m: tests.message("active", "survivors"))
    wrong("a commitment of 31 bytes", lambda m: changed(m, seed_commitment=bytes(31)))
    wrong = tests.rule("active", "masked-input", "too-large", "WIRE-5", "SIZE")
    limit = max(map(active.config.max_bytes, wire.TO_SERVER))
    wrong("a byte more than the largest message", lambda m: changed(m, vector=lambda v: bytes(limit + len(v) - len(m))))


def _out_of_place(tests: ServerCases) -> None:
    semi, active = tests.setups["semi_honest"], tests.setups["active"]
    for phase, name, field in (
        ("ADVERTISE", "advertise", "masking_key"),
        ("SHARE", "share", "sealed"),
        ("UNMASK", "unmask", "openings"),
    ):
        good = tests.message("active", f"{name}-{INDEX}")
        three = [(INDEX, good), (INDEX, good), (INDEX, changed(good, **{field: flipped}))]
        comment = f"{name} twice, then otherwise"
        tests.sequence("active", phase, "WIRE-8", "CONFLICT DUPLICATE", comment, lambda s, three=three: three)  # type: ignore[misc]
    masked = tests.message("active", f"masked-input-{INDEX}")
    zeros = changed(masked, vector=lambda vector: bytes(len(vector)))
    comment = "a second masked input: the first counts"
    again = [(INDEX, masked), (INDEX, masked), (INDEX, zeros)]
    tests.sequence("active", "MASK", "MASK-7", "FIRST_COUNTS", comment, lambda s: again)

    others = [(INDEX, tests.message("active", f"{name}-{INDEX}")) for name in ("advertise", "unmask", "masked-input")]
    comment = "a message of an earlier phase that came before, and messages of later ones"
    tests.sequence("active", "SHARE", "STATE-2 WIRE-9", "ORDER", comment, lambda s: others)
    confirm = encode("Confirm", semi.server.session, bytes(64))
    comment = "a confirmation in semi_honest"
    tests.sequence("semi_honest", "MASK", "WIRE-9", "ORDER", comment, lambda s: [(INDEX, confirm)])
    share = tests.message("active", f"share-{INDEX}")
    comment = "a sender beyond the cohort"
    tests.sequence("active", "SHARE", "WIRE-10", "STRANGER", comment, lambda s: [(99, share)])

    left, under_session = (wire.abort(name, "cancelled") for name in (active.server.round_id, active.server.session))
    comment = "an ABORT, another one, and a message after it"
    after = [(INDEX, left), (INDEX, under_session), (INDEX, share)]
    tests.sequence("active", "SHARE", "ABORT-4", "LEAVES", comment, lambda s: after)
    comment = "an ABORT under the session id"
    tests.sequence("active", "SHARE", "ABORT-4", "LEAVES", comment, lambda s: [(INDEX, under_session)])
    comment, other = "an ABORT of another round", wire.abort(bytes(32), "cancelled")
    tests.sequence("active", "SHARE", "ABORT-4 WIRE-6", "SESSION", comment, lambda s: [(INDEX, other)])


class OtherSeed(Client):
    """Commits to another seed than it shares."""

    def _deal(self) -> bytes:
        return changed(super()._deal(), seed_commitment=flipped)


class _OtherKey(Client):
    """Shares another masking key than it advertised."""

    def _deal(self) -> bytes:
        honest, self.masking_private = self.masking_private, labelled("another private key", 32)
        dealt = super()._deal()
        self.masking_private = honest
        return dealt


class _WideSecret(Client):
    """Shares something in the place of one secret that has a limb of more than 52 bits."""

    kind = 0

    def _deal(self) -> bytes:
        dealt = 0

        def wide(secret: bytes, rows: Sequence[Sequence[int]], holder: int) -> bytes:
            nonlocal dealt
            shared, dealt = arithmetic.share(secret, rows, holder), dealt + 1
            if (dealt - 1) % 2 != self.kind:
                return shared
            first = (int.from_bytes(shared[:8], "little") + 2**59) % arithmetic.FIELD
            return first.to_bytes(8, "little") + shared[8:]

        with patch("reference.client.share", wide):
            return super()._deal()


class _WideSeed(_WideSecret):
    kind = 1


def _bad_dealers(tests: ServerCases) -> None:
    _bad_dealer(tests, "bad-seed", OtherSeed, {}, "a survivor committed to another seed than it shared")
    _bad_dealer(
        tests, "bad-key", _OtherKey, {3: "SHARE"}, "a lost client shared another masking key than it advertised"
    )


def _wide_secrets(tests: ServerCases) -> None:
    _bad_dealer(
        tests, "wide-key", _WideSecret, {3: "SHARE"}, "a lost client shared a masking key of more than 256 bits"
    )
    _bad_dealer(tests, "wide-seed", _WideSeed, {}, "a survivor shared a seed of more than 256 bits")


def _bad_dealer(tests: ServerCases, name: str, kind: type[Client], fates: Mapping[int, str], comment: str) -> None:
    recorder = Recorder(name, small(length=1, min_survivors=4, dropouts=1), {}, {3: kind})
    recorder.run(fates, compute=False)
    tests.setups[name] = recorder
    case = Case(name, recorder, "server", len(recorder.of("server")))
    try:
        recorder.server.compute()
    except Refused as refused:
        case.note("server.compute", error=refused.code, culprits=[*refused.culprits], state="ABORTED")
    tests.tests.append(case.test("UNMASK-7", comment, "BAD_DEALER"))
