"""Vectors that bind one rule of a server's each: everything else about the message, or the close, is in order."""

from __future__ import annotations

from collections.abc import Sequence
from unittest.mock import patch

from reference import arithmetic, wire
from reference.arithmetic import FIELD
from reference.client import Client

from .cases import INDEX, Case, ServerCases, changed, fields, flipped
from .common import LOW_ORDER
from .rounds import Recorder, small


def server_rules(tests: ServerCases) -> None:
    """Adds the tests."""
    _late_inputs(tests)
    _taken(tests)
    _keys(tests)
    _surplus(tests)
    _ended(tests)
    _committed_out_of_range(tests)


def _late_inputs(tests: ServerCases) -> None:
    """Masked inputs after MASK closed: one that was taken is known as such for ever, another is late."""
    for setup, phase in (("semi_honest", "UNMASK"), ("active", "CONFIRM")):
        masked = tests.message(setup, f"masked-input-{INDEX}")
        zeros = changed(masked, vector=lambda vector: bytes(len(vector)))
        again = [(INDEX, masked), (INDEX, zeros)]
        comment = "a masked input that was taken comes again after the close, as it was and otherwise"
        tests.sequence(setup, phase, "MASK-7", "FIRST_COUNTS", comment, lambda s, again=again: again)  # type: ignore[misc]
    late = changed(tests.message("large", f"masked-input-{INDEX}"), vector=lambda vector: bytes(len(vector)))
    comment = "a first masked input after the close"
    tests.sequence("large", "CONFIRM", "MASK-9", "ORDER", comment, lambda s: [(9, late)])


def _taken(tests: ServerCases) -> None:
    """An Unmask of which one opening is bad is taken all the same."""
    honest = tests.message("active", f"unmask-{INDEX}")
    bad = changed(honest, openings=lambda openings: flipped(openings, 3))
    comment = "an answer with one bad share, the same again, and then the right one"
    three = [(INDEX, bad), (INDEX, bad), (INDEX, honest)]
    tests.sequence("active", "UNMASK", "UNMASK-4 WIRE-8", "BAD_SHARE", comment, lambda s: three)


def _keys(tests: ServerCases) -> None:
    """Keys in an Advertise that no neighbour could use, or that somebody showed before."""
    for setup in ("semi_honest", "active"):
        wrong = tests.rule(setup, "advertise", "key-unusable", "ADVERTISE-4", "LOW_ORDER")
        for field in ("channel_key", "masking_key"):
            for low in (LOW_ORDER[0], LOW_ORDER[3], LOW_ORDER[5]):
                high = low[:31] + bytes([low[31] | 0x80])
                comment = f"a {field} of low order with its highest bit set: {high.hex()[:8]}"
                wrong(comment, lambda m, field=field, high=high: changed(m, **{field: high}))  # type: ignore[misc]
        first, second = tests.message(setup, "advertise-0"), tests.message(setup, f"advertise-{INDEX}")
        left = wire.abort(tests.setups[setup].server.round_id, "cancelled")
        for own, other in (
            ("channel_key", "masking_key"),
            ("masking_key", "channel_key"),
            ("masking_key", "masking_key"),
        ):
            stolen = changed(second, **{own: fields(first)[other]})
            comment = f"the {other} of a client that advertised and left, as the own {own}"
            given = [(0, first), (0, left), (INDEX, stolen)]
            tests.sequence(setup, "ADVERTISE", "ADVERTISE-4", "REPEATED", comment, lambda s, given=given: given)  # type: ignore[misc]
        comment = "a client that left advertises: what it sends is late"
        given = [(INDEX, left), (INDEX, second)]
        tests.sequence(setup, "ADVERTISE", "ADVERTISE-5 WIRE-9", "LEAVES", comment, lambda s, given=given: given)  # type: ignore[misc]
    first = tests.message("semi_honest", "advertise-0")
    wrong_key = changed(first, channel_key=LOW_ORDER[0])
    comment = "the other key of an Advertise that was refused may come from somebody else"
    given = [(INDEX, wrong_key), (0, first)]
    tests.sequence("semi_honest", "ADVERTISE", "WIRE-10 ADVERTISE-4", "REPEATED", comment, lambda s: given)


def _surplus(tests: ServerCases) -> None:
    wrong = tests.rule("large", "share", "wrong-length", "SHARE-8", "LENGTH")
    wrong("a sealed pair more than neighbours", lambda m: changed(m, sealed=lambda s: s + s[: wire.SEALED]))
    wrong("commitments more than neighbours", lambda m: changed(m, commitments=lambda s: s + s[:64]))
    wrong(
        "pairs and commitments for k neighbours, two of whom are absent",
        lambda m: changed(m, sealed=bytes(9 * wire.SEALED), commitments=bytes(9 * 64)),
    )
    wrong = tests.rule("large", "unmask", "wrong-length", "UNMASK-4", "LENGTH")
    wrong("an opening more than dealers", lambda m: changed(m, openings=lambda o: o + o[: wire.OPENING]))
    wrong("no opening", lambda m: changed(m, openings=b""))
    wrong = tests.rule("large", "unmask", "bad-share", "UNMASK-4", "BAD_SHARE", then="conflict")
    wrong(
        "the last share's element is the prime",
        lambda m: changed(m, openings=lambda o: o[:-40] + FIELD.to_bytes(8, "little") + o[-32:]),
    )
    wrong(
        "the salt of the first is that of the second",
        lambda m: changed(m, openings=lambda o: o[:40] + o[112:144] + o[72:]),
    )
    limit = max(map(tests.setups["large"].config.max_bytes, wire.TO_SERVER))
    for size, comment in ((limit, "exactly as large as the largest message"), (limit + 1, "a byte larger")):
        data = tests.message("large", f"masked-input-{INDEX}")
        data = changed(data, vector=lambda v, size=size, data=data: bytes(size + len(v) - len(data) - 1))
        data += bytes(size - len(data)) if len(data) < size else b""
        given = [(INDEX, data)]
        tests.sequence("large", "MASK", "WIRE-5", "SIZE", comment, lambda s, given=given: given)  # type: ignore[misc]


def _ended(tests: ServerCases) -> None:
    """After the last phase, and after an abort, everything that is no fault of form is late."""
    recorder = tests.setups["large"]
    unmask = changed(tests.message("large", f"unmask-{INDEX}"), openings=b"")
    masked = changed(tests.message("large", f"masked-input-{INDEX}"), vector=b"")
    left = wire.abort(recorder.server.round_id, "cancelled")
    comment = "first answers and an ABORT after the sum; one that was taken comes again, and otherwise"
    given = [(9, unmask), (9, masked), (9, left), (INDEX, tests.message("large", f"unmask-{INDEX}")), (INDEX, unmask)]
    tests.sequence("large", "DONE", "STATE-2 ABORT-4 WIRE-8", "ORDER", comment, lambda s: given)
    case, server = tests.at("semi_honest", "UNMASK")
    for member in (0, 1, 3, 4):
        tests.get(case, server, member, tests.message("semi_honest", f"unmask-{member}"))
    tests.close(case, server)
    tests.get(case, server, INDEX, tests.message("semi_honest", f"unmask-{INDEX}"))
    tests.get(case, server, INDEX, wire.abort(server.round_id, "cancelled"))
    comment = "a first answer, and an ABORT, after UNMASK closed and before the sum"
    tests.tests.append(case.test("STATE-2 ABORT-4", comment, "ORDER"))
    case, server = tests.at("semi_honest", "SHARE")
    tests.close(case, server)
    tests.get(case, server, INDEX, tests.message("semi_honest", f"share-{INDEX}"))
    tests.get(case, server, INDEX, wire.abort(server.round_id, "cancelled"))
    comment = "nobody shared: the round is over, and what comes then is late"
    tests.tests.append(case.test("SHARE-9 STATE-2 ABORT-2", comment, "ORDER"))


class RangeDealer(Client):
    """Deals one holder a seed share whose first element is the prime, and commits to it."""

    def _deal(self) -> bytes:
        def share(secret: bytes, rows: Sequence[Sequence[int]], holder: int) -> bytes:
            shared = arithmetic.share(secret, rows, holder)
            bad = holder == INDEX and secret == self.seed
            return FIELD.to_bytes(8, "little") + shared[8:] if bad else shared

        with patch("reference.client.share", share):
            return super()._deal()


class _Careless(Client):
    """Takes shares whose elements are out of range."""

    def _take_shares(self, dealers: bytes, sealed: bytes, committed: bytes) -> None:
        with patch("reference.client.read_share", lambda data: []):
            super()._take_shares(dealers, sealed, committed)


def _committed_out_of_range(tests: ServerCases) -> None:
    recorder = Recorder("range-dealer", small(length=1), {}, {3: RangeDealer, INDEX: _Careless})
    recorder.run({})
    tests.setups[recorder.name] = recorder
    operations = recorder.of("server")
    place = next(place for place, operation in enumerate(operations) if operation.get("error") == "bad-share")
    case = Case(recorder.name, recorder, "server", place)
    case.operations = operations[place:]
    comment = "an element is the prime, and the dealer committed to it: it is left out, and the sum is right"
    tests.tests.append(case.test("UNMASK-4 UNMASK-6", comment, "BAD_SHARE"))
