"""Rounds with complaints: their configs, rounds, and what clients and servers refuse."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from typing import Any

from reference import hybrid, primitives, wire
from reference.arithmetic import FIELD
from reference.client import Client
from reference.rules import Config

from .cases import INDEX, Case, ClientCases, ServerCases, changed, fields, flipped, put, swapped
from .common import Test, entry
from .intermediate import intermediate_of
from .refused_invitations import join
from .rounds import LOOSE, Recorder, small, small_active
from .server_rules import RangeDealer

LIAR = 0
ROUND_FLAGS = {"COMPLAINTS": "a party that masks before it is settled whose shares count"}
CLIENT_FLAGS = {
    "COMPLAINT": "a holder that is silent about a bad pair, or says of which dealer it is but not of which bytes",
    "ACCUSED": "a dealer that opens a pair for a complaint that nobody made about what it sent",
    "SETTLED": "a client that masks with those whose shares it does not have, or whose shares are the server's",
}
SERVER_FLAGS = {
    "COMPLAINT": "a holder that has honest dealers leave, or be left out",
    "ANSWERED": "a dealer whose answer is none",
    "CONFLICTS": "a client that is in conflict with many and goes on, or is left out for a few",
}


def complaining(**changes: Any) -> Config:
    """Five clients, of which one may lie; t = 3."""
    return small(
        **{"version": 2, "length": 2, "threshold": 3, "complaints": 1, "min_survivors": 4, "dropouts": 1, **changes}
    )


def complaining_active(**changes: Any) -> Config:
    """Six in `active`; t = 4."""
    given = {
        "version": 2,
        "length": 2,
        "threshold": 4,
        "complaints": 1,
        "colluders": 1,
        "min_survivors": 5,
        "dropouts": 1,
    }
    return small_active(**{**given, **changes})


# Configs.


def sound_configs() -> Iterator[tuple[str, Config]]:
    """The least and the most that a dealer may open."""
    yield "one complaint", complaining()
    yield "one complaint in active", complaining_active()
    yield "as many complaints as the threshold less one", complaining(complaints=2)
    yield "one complaint where nobody colludes", complaining(colluders=0)
    yield "as many complaints as colluders", complaining_active(**_TWO, complaints=2)


_TWO = {
    "clients": 9,
    "neighbours": 8,
    "colluders": 2,
    "threshold": 6,
    "quorum": 6,
    "min_survivors": 7,
    "dropouts": 2,
    "ring_bits": 20,
}


def unsound_configs() -> Iterator[tuple[str, Config]]:
    """One more, and one less."""
    yield "as many complaints as the threshold", complaining(complaints=3)
    yield "fewer complaints than colluders", complaining_active(**_TWO, complaints=1)
    grouped = small(version=2, clients=8, groups=2, neighbours=3, colluders=1, threshold=2, sigma=1, min_group=3)
    yield "as many complaints as the threshold of a group", replace(grouped, complaints=2)


# Rounds.


def rounds() -> Iterator[Test]:
    """In which nobody lies: nobody complains."""
    for name, config, comment, fates in (
        ("complaints", complaining(), "nobody complains", {}),
        ("complaints-lost", complaining(), "one is lost when shares are checked", {1: "SHARE"}),
        ("complaints-active", complaining_active(), "one is lost in MASK", {5: "COMPLAIN"}),
        ("complaints-too-few", complaining(), "two are lost when shares are checked", {1: "SHARE", 3: "SHARE"}),
    ):
        recorder = Recorder(name, config, LOOSE)
        recorder.run(fates)
        between = intermediate_of(recorder.server, recorder.clients)
        about = "COMPLAIN-3 COMPLAIN-4 COMPLAIN-10 COMPLAIN-12"
        yield entry(about, comment, "COMPLAINTS", **recorder.setup(), intermediate=between)


# Liars.


class _Flips(Client):
    """Turns a bit of what it seals for some holders."""

    holders: tuple[int, ...] = (INDEX,)

    def _deal(self) -> bytes:
        dealt = super()._deal()
        places = [place for place, peer in enumerate(self.peers) if peer in self.holders]
        sealed = fields(dealt)["sealed"]
        for place in places:
            box = sealed[place * wire.SEALED : (place + 1) * wire.SEALED]
            sealed = put(sealed, wire.SEALED, place, flipped(box))
            peer = [*self.peers][place]
            committed = wire.records(fields(dealt)["commitments"], wire.COMMITMENTS, len(self.peers))[place]
            self.dealt[peer] = self.dealt[peer][0], self.labels.complaint_digest(flipped(box), committed)
        return changed(dealt, sealed=sealed)


class _FlipsAll(_Flips):
    """For all of them."""

    holders = tuple(range(20))


class _AnswersBadly(_Flips):
    """And opens another pair."""

    def _take_accusations(self, holders: bytes, signatures: bytes) -> bytes:
        dealt = self.dealt
        self.dealt = {peer: (flipped(pair), digest) for peer, (pair, digest) in dealt.items()}
        return super()._take_accusations(holders, signatures)


class Accuses(Client):
    """Complains about a dealer whose pair is good."""

    dealers: tuple[int, ...] = (INDEX,)

    def _take_shares(self, dealers: bytes, sealed: bytes, committed: bytes, secrets: bytes = b"") -> bytes | None:
        complaint = super()._take_shares(dealers, sealed, committed, secrets)
        if complaint is None:
            return None
        ids = wire.read_ids(dealers)
        size = wire.CIPHERTEXT[self.suite] + wire.SEALED
        boxes, both = (wire.records(part, size, len(ids)) for part, size in ((sealed, size), (committed, 64)))
        sealers = [dealer for dealer in ids if dealer in self.sealers]
        records = dict(zip(sealers, wire.records(secrets, wire.PAIR_SECRET, len(sealers)), strict=True))
        came = {}
        for dealer, box, pair in zip(ids, boxes, both, strict=True):
            record = records.get(dealer, b"")
            came[dealer] = pair, record, hybrid.complaint_digest(self.config, box, pair, record)
        self.complained = {dealer: came[dealer] for dealer in self.dealers}
        signatures = b"".join(
            self._sign(self.labels.signed_complaint(self.session, self.index, dealer, digest))
            for dealer, (*_, digest) in self.complained.items()
        )
        return self._encode("Complaint", self.session, wire.ids(self.complained), signatures)


class _FlipsAndAccuses(_FlipsAll, Accuses):
    """Is named for what it dealt, so that its own complaint accuses nobody."""


class _AccusesTwo(Accuses):
    """And about another one: more than it may."""

    dealers = (1, INDEX)


def _lied(
    name: str, config: Config, kinds: Mapping[int, type[Client]], fates: Mapping[int, str] | None = None
) -> Recorder:
    recorder = Recorder(name, config, LOOSE, kinds)
    recorder.run(fates or {})
    return recorder


def example() -> Recorder:
    """A round with a message of each type."""
    return _lied("complaints-example", complaining_active(), {LIAR: _Flips})


def setups() -> dict[str, Recorder]:
    """Client INDEX gets a bad pair, or is accused falsely."""
    made = {}
    for name, config in (("complaints", complaining()), ("complaints-active", complaining_active())):
        made[f"{name}-bad"] = _lied(f"{name}-bad", config, {LIAR: _Flips})
        made[f"{name}-false"] = _lied(f"{name}-false", config, {LIAR: Accuses})
    return made


# Clients.


def client_refusals(tests: ClientCases) -> None:
    """Adds the tests."""
    _complaints(tests)
    _accusations(tests)
    _settled(tests)
    for error, comment, policy in (
        ("config-below-policy", "a host that opens nothing", {"max_complaints": 0}),
        ("", "as many pairs", {"max_complaints": 1}),
    ):
        join(tests, "complaints-bad", error, "COMPLAIN-2", "POLICY", comment, policy=policy)


def _complaints(tests: ClientCases) -> None:
    for setup in ("complaints-bad", "complaints-active-bad", "complaints-active-false"):
        case, client, honest = tests.at(setup, "Shares")
        tests.get(case, client, honest, "shares")
        tests.add(case, "COMPLAIN-4", "what it says of the shares that came", "COMPLAINT", "")
    setup = "complaints-active-false"

    def spoilt(data: bytes, places: tuple[int, ...], field: str, size: int, change: Callable[[bytes], bytes]) -> bytes:
        old = fields(data)[field]
        for place in places:
            old = put(old, size, place, change(old[place * size : (place + 1) * size]))
        return changed(data, **{field: old})

    for comment, places, field, size in (
        ("a pair that does not open", (1,), "sealed", wire.SEALED),
        ("a pair that is not what was committed to", (1,), "commitments", 64),
    ):
        case, client, honest = tests.at(setup, "Shares")
        tests.get(case, client, spoilt(honest, places, field, size, flipped), "shares")
        tests.add(case, "COMPLAIN-4", comment, "COMPLAINT", "")
    wrong = tests.rule(setup, "Shares", "shares-unsealable", "COMPLAIN-4", "COMPLAINT")
    wrong("two pairs that do not open", lambda m, c: spoilt(m, (1, 3), "sealed", wire.SEALED, flipped))
    wrong = tests.rule(setup, "Shares", "shares-commitment", "COMPLAIN-4", "COMPLAINT")
    wrong("two pairs that do not match", lambda m, c: spoilt(m, (1, 3), "commitments", 64, flipped))
    wrong = tests.rule(setup, "Shares", "shares-too-few", "COMPLAIN-4", "COMPLAINT")
    wrong("fewer dealers than the threshold", lambda m, c: _first(m, 3))
    wrong = tests.rule(setup, "Shares", "wrong-phase", "COMPLAIN-3", "COMPLAINT")
    wrong("Settled before the shares", lambda m, c: wire.encode("Settled", c.session, b"", b"", b"", version=2))
    wrong("Accusations before the shares", lambda m, c: wire.encode("Accusations", c.session, b"", b"", version=2))
    wrong = tests.rule(setup, "Accusations", "wrong-phase", "COMPLAIN-3", "SETTLED")
    survivors = bytes.fromhex(tests.setups[setup].messages["survivors"])
    wrong("Survivors before it is settled whose shares count", lambda m, c: survivors)


def _first(shares: bytes, count: int) -> bytes:
    met = fields(shares)
    cut = {"dealers": 4, "sealed": wire.SEALED, "commitments": 64}
    return changed(shares, **{name: met[name][: size * count] for name, size in cut.items()})


def _accusations(tests: ClientCases) -> None:
    for setup in ("complaints-false", "complaints-active-false"):
        wrong = tests.rule(setup, "Accusations", "accusation-holders", "COMPLAIN-6", "ACCUSED")
        signature = 64 if "active" in setup else 0
        wrong("nobody", lambda m, c: changed(m, holders=b"", signatures=b""))
        wrong("two holders", lambda m, c, s=signature: changed(m, holders=wire.ids([0, 1]), signatures=bytes(2 * s)))  # type: ignore[misc]
        wrong("itself", lambda m, c: changed(m, holders=wire.ids([INDEX])))
        wrong("a client that is not there", lambda m, c: changed(m, holders=wire.ids([20])))
        wrong = tests.rule(setup, "Accusations", "malformed", "COMPLAIN-6", "ACCUSED")
        wrong("a byte of a signature more", lambda m, c: changed(m, signatures=lambda old: old + b"\0"))
        case, client, honest = tests.at(setup, "Accusations")
        tests.get(case, client, honest, "accusations")
        tests.add(case, "COMPLAIN-8", "the pair that it dealt is opened", "ACCUSED", "")
        case, client, honest = tests.at(setup, "Accusations")
        other = changed(honest, holders=wire.ids([1]))
        for data in (honest, honest, other):
            tests.get(case, client, data, "accusations")
        tests.add(case, "COMPLAIN-8", "it answers once", "ACCUSED", "conflict")
    two = tests.setups["complaints-active-false"]
    wrong = tests.rule("complaints-active-false", "Accusations", "accusation-signature", "COMPLAIN-7", "ACCUSED")
    wrong("a signature that nobody made", lambda m, c: changed(m, signatures=flipped))
    wrong("of another holder", lambda m, c: changed(m, holders=wire.ids([1])))

    def signed(client: Client, holder: int, dealer: int, digest: bytes) -> bytes:
        return primitives.sign(
            two.seeds[holder], client.labels.signed_complaint(client.session, holder, dealer, digest)
        )

    wrong("about other bytes than it sent", lambda m, c: changed(m, signatures=signed(c, 0, INDEX, bytes(32))))
    wrong("about another dealer", lambda m, c: changed(m, signatures=signed(c, 0, 1, c.dealt[0][1])))
    wrong("about what it sent somebody else", lambda m, c: changed(m, signatures=signed(c, 0, INDEX, c.dealt[1][1])))


def _settled(tests: ClientCases) -> None:
    for setup in ("complaints-bad", "complaints-active-bad"):
        wrong = tests.rule(setup, "Settled", "settled-dealers", "COMPLAIN-12", "SETTLED")
        wrong("a dealer that is not there", lambda m, c: changed(m, dealers=lambda old: old[:-4] + wire.ids([20])))
        wrong("itself", lambda m, c: changed(m, dealers=lambda old: put(old, 4, 1, wire.ids([INDEX]))))
        wrong("dealers that do not ascend", lambda m, c: changed(m, dealers=lambda old: swapped(old, 4, 1, 2)))
        wrong("a dealer twice", lambda m, c: changed(m, dealers=lambda old: old[:4] + old))
        few = 4 * tests.setups[setup].config.threshold - 4
        wrong = tests.rule(setup, "Settled", "shares-too-few", "COMPLAIN-12", "SETTLED")
        wrong("fewer dealers than the threshold", lambda m, c, few=few: changed(m, dealers=lambda old: old[:few]))  # type: ignore[misc]
        wrong = tests.rule(setup, "Settled", "malformed", "COMPLAIN-11", "SETTLED")
        wrong("no pair", lambda m, c: changed(m, pairs=b""))
        wrong("a pair more", lambda m, c: changed(m, pairs=lambda old: 2 * old))
        wrong("a byte of a signature more", lambda m, c: changed(m, signatures=lambda old: old + b"\0"))
        _masks(tests, setup, lambda m: m, "COMPLAIN-11", "with the pair that was opened")
        comment = "without the dealer that it complained about: no mask with it"
        _masks(tests, setup, _without_first, "COMPLAIN-12", comment)
    wrong = tests.rule("complaints-active-bad", "Settled", "answer-signature", "COMPLAIN-11", "SETTLED")
    wrong("a signature that is not the dealer's", lambda m, c: changed(m, signatures=flipped))
    wrong("another pair than was signed", lambda m, c: changed(m, pairs=flipped))
    wrong = tests.rule("complaints-bad", "Settled", "shares-commitment", "COMPLAIN-11", "SETTLED")
    wrong("another pair than was committed to", lambda m, c: changed(m, pairs=flipped))
    wrong = tests.rule("complaints-bad", "Settled", "shares-range", "COMPLAIN-11", "SETTLED")
    wrong("an element is the prime", lambda m, c: changed(m, pairs=lambda old: FIELD.to_bytes(8, "little") + old[8:]))


def _without_first(settled: bytes) -> bytes:
    return changed(settled, dealers=lambda old: old[4:], pairs=b"", signatures=b"")


def _masks(tests: ClientCases, setup: str, change: Callable[[bytes], bytes], requirement: str, comment: str) -> None:
    """A Settled that is taken, and the vector that is masked by it."""
    case, client, honest = tests.at(setup, "Settled")
    tests.get(case, client, change(honest), "settled")
    recorder = tests.setups[setup]
    masked = client.submit(recorder.vector(INDEX), recorder.attachment(INDEX))
    case.note("client.submit", out=case.name(masked, "masked"), state=client.state)
    tests.add(case, requirement, comment, "SETTLED", "")


# Servers.


def server_refusals(tests: ServerCases) -> None:
    """Adds the tests."""
    for name, config in (("complaints", complaining()), ("complaints-active", complaining_active())):
        whole(tests, f"{name}-all", _lied(f"{name}-all", config, {LIAR: _FlipsAll}), "a bad pair for everybody")
        whole(tests, f"{name}-one", _lied(f"{name}-one", config, {LIAR: _Flips}), "a bad pair, which is opened")
        lies = {LIAR: _FlipsAndAccuses}
        whole(tests, f"{name}-both", _lied(f"{name}-both", config, lies), "a complaint of somebody who is named")
        lies = {LIAR: _AccusesTwo}
        whole(tests, f"{name}-many", _lied(f"{name}-many", config, lies), "complaints about more than r dealers")
        lies = {LIAR: RangeDealer}
        comment = "an element of the pair is the prime, and the dealer committed to it"
        whole(tests, f"{name}-range", _lied(f"{name}-range", config, lies), comment)
        lies = {LIAR: _AnswersBadly}
        whole(tests, f"{name}-badly", _lied(f"{name}-badly", config, lies), "another pair is opened")
        silent = _lied(f"{name}-silent", config, {LIAR: _Flips}, {LIAR: "COMPLAIN"})
        whole(tests, f"{name}-silent", silent, "nothing is opened")
        _complained(tests, f"{name}-one")


def whole(
    tests: ServerCases,
    name: str,
    recorder: Recorder,
    comment: str,
    requirements: str = "COMPLAIN-9 COMPLAIN-10",
    flag: str = "CONFLICTS",
) -> None:
    """From the complaints to the sum."""
    tests.setups[name] = recorder
    operations = recorder.of("server")
    after = next(
        place
        for place, operation in enumerate(operations)
        if operation["op"] == "server.close" and operation["phase"] == "SHARE"
    )
    case = Case(name, recorder, "server", after + 1)
    case.operations = operations[after + 1 :]
    tests.tests.append(case.test(requirements, comment, flag))


def _complained(tests: ServerCases, setup: str) -> None:
    active = "active" in setup
    wrong = tests.rule(setup, "complaint", "complaint-dealers", "COMPLAIN-5", "COMPLAINT")
    two = bytes(128 if active else 0)
    wrong("about two dealers", lambda m: changed(m, dealers=wire.ids([0, 1]), signatures=two))
    wrong("about itself", lambda m: changed(m, dealers=wire.ids([INDEX])))
    wrong("about a client that is not there", lambda m: changed(m, dealers=wire.ids([20])))
    wrong("about nobody, in a byte too few", lambda m: changed(m, dealers=wire.ids([0, 0]), signatures=two))
    wrong = tests.rule(setup, "complaint", "malformed", "COMPLAIN-5", "COMPLAINT")
    wrong("half an id", lambda m: changed(m, dealers=lambda old: old[:2]))
    wrong = tests.rule(setup, "complaint", "wrong-length", "COMPLAIN-5", "COMPLAINT")
    wrong("a byte of a signature more", lambda m: changed(m, signatures=lambda old: old + b"\0"))
    answer = tests.message(setup, f"answer-{LIAR}")
    given = [
        ("wrong-length", "no pair", changed(answer, pairs=b"")),
        ("wrong-length", "a pair more", changed(answer, pairs=lambda old: 2 * old)),
        ("wrong-length", "a byte of a signature more", changed(answer, signatures=lambda old: old + b"\0")),
        ("bad-answer", "another salt", changed(answer, pairs=flipped)),
        ("bad-answer", "another share", changed(answer, pairs=lambda old: flipped(old, 0))),
    ]
    if active:
        given.append(("bad-signature", "a signature that is not the dealer's", changed(answer, signatures=flipped)))
        wrong = tests.rule(setup, "complaint", "bad-signature", "COMPLAIN-5", "COMPLAINT")
        wrong("a signature that is not the holder's", lambda m: changed(m, signatures=flipped))
        wrong("about another dealer than it signed", lambda m: changed(m, dealers=wire.ids([1])))
    for error, comment, data in given:
        case, server = tests.at(setup, "ANSWER")
        if [tests.get(case, server, LIAR, shown) for shown in (data, answer)] != [error, "accepted"]:
            raise ValueError(comment)
        tests.tests.append(case.test("COMPLAIN-9", comment, "ANSWERED"))
    comment = "an answer of somebody who is not accused is late"
    tests.sequence(setup, "ANSWER", "COMPLAIN-3", "ANSWERED", comment, lambda s: [(1, answer)])
