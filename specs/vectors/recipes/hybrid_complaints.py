"""Complaints in suite 3: what is complained about, opened and settled has a pair secret beside the pair."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator

from reference import hybrid, primitives, wire
from reference.client import Client, commitments
from reference.rules import Config
from reference.server import Server

from .cases import INDEX, Case, ClientCases, ServerCases, changed, flipped
from .common import Test, entry
from .complaints import whole
from .hybrid import four, four_active, three, three_active
from .intermediate import intermediate_of
from .rounds import LOOSE, Recorder

SEALER, OTHER, LAST = 1, 0, 3
"""Who seals for client INDEX, whom client INDEX seals for, and in a cohort of four the one that it seals for too."""
_BOX = wire.CIPHERTEXT[3] + wire.SEALED


class _FlipsSecret(Client):
    """Turns a bit of the pair secret that it seals for client INDEX."""

    def _seal_secrets(self) -> bytes:
        super()._seal_secrets()
        self.sent_secrets[INDEX] = _flipped_secret(self.sent_secrets[INDEX])
        return b"".join(self.sent_secrets.values())


def _flipped_secret(record: bytes) -> bytes:
    return flipped(record, wire.CIPHERTEXT[3])


# Configs, messages and rounds.


def sound_configs() -> Iterator[tuple[str, Config]]:
    """The first stands where complaints in suite 3 were refused."""
    yield "complaints in suite 3", four(clients=5, neighbours=4, threshold=3, min_survivors=4, complaints=1)
    yield "complaints in suite 3 in active", four_active(cohort=bytes(32), complaints=1)


def messages() -> Iterator[Test]:
    """Size limits."""
    for config in (three(complaints=1), four_active(complaints=1)):
        limits = {kind: config.max_bytes(kind) for kind in (*wire.to_server(2), *wire.to_client(2))}
        yield entry("COMPLAIN-13 HYBRID-16", "size limits", config=config.to_bytes().hex(), limits=limits)


def rounds() -> Iterator[Test]:
    """In which nobody lies: nobody complains."""
    for name, config in (
        ("hybrid-complaints", three(complaints=1)),
        ("hybrid-complaints-active", three_active(complaints=1)),
    ):
        recorder = Recorder(name, config, LOOSE)
        recorder.run({})
        between = intermediate_of(recorder.server, recorder.clients)
        about = "COMPLAIN-3 COMPLAIN-4 COMPLAIN-10 COMPLAIN-12 HYBRID-13"
        yield entry(about, "suite 3, and nobody complains", "COMPLAINTS", **recorder.setup(), intermediate=between)


# Clients.


def client_setups() -> dict[str, Recorder]:
    """Client INDEX gets a bad pair secret, and in `active` all that it should get."""
    made = {
        "hybrid-complaints": Recorder("refusals-hybrid-complaints", three(complaints=1), LOOSE, {SEALER: _FlipsSecret}),
        "hybrid-complaints-active": Recorder("refusals-hybrid-complaints-active", four_active(complaints=1), LOOSE),
    }
    for recorder in made.values():
        recorder.run({})
    return made


def client_refusals(tests: ClientCases) -> None:
    """Adds the tests."""
    _complaints(tests)
    _accusations(tests)
    _settled(tests)
    _accused(tests, OTHER, _without_record, "about a digest with no bytes in the place of the pair secret's record")


def _box_of(place: int) -> Callable[[bytes], bytes]:
    """Turns a bit of a sealed pair."""
    return lambda sealed: flipped(sealed, _BOX * place + wire.CIPHERTEXT[3])


def _complaints(tests: ClientCases) -> None:
    case, client, honest = tests.at("hybrid-complaints", "Shares")
    tests.get(case, client, honest, "shares")
    comment = "a pair secret that does not open, of a dealer whose pair is good"
    tests.add(case, "COMPLAIN-4 HYBRID-11", comment, "COMPLAINT", "")
    setup = "hybrid-complaints-active"
    case, client, honest = tests.at(setup, "Shares")
    tests.get(case, client, changed(honest, pair_secrets=flipped), "shares")
    comment = "a pair secret that does not match: its record is in the digest that is signed"
    tests.add(case, "COMPLAIN-4 HYBRID-12", comment, "COMPLAINT", "")
    first, last = _box_of(0), _box_of(2)
    wrong = tests.rule(setup, "Shares", "secret-unsealable", "COMPLAIN-4 HYBRID-11", "COMPLAINT")
    comment = "a pair and a pair secret that do not open"
    wrong(comment, lambda m, c: changed(m, sealed=first, pair_secrets=_flipped_secret))
    wrong = tests.rule(setup, "Shares", "secret-commitment", "COMPLAIN-4 HYBRID-12", "COMPLAINT")
    comment = "a pair that does not open and a pair secret that does not match"
    wrong(comment, lambda m, c: changed(m, sealed=first, pair_secrets=flipped))
    wrong = tests.rule(setup, "Shares", "shares-unsealable", "COMPLAIN-4", "COMPLAINT")
    comment = "a pair secret of one dealer and the pair of a later one do not open: it is the later one's fault"
    wrong(comment, lambda m, c: changed(m, sealed=last, pair_secrets=_flipped_secret))
    wrong = tests.rule(setup, "Shares", "shares-commitment", "COMPLAIN-4", "COMPLAINT")
    comment = "one dealer too many, whose pair does not match and whose pair secret does not open"

    def both(message: bytes, client: Client) -> bytes:
        matching = changed(message, commitments=lambda old: flipped(old, 64 + 63))
        return changed(matching, sealed=first, pair_secrets=_flipped_secret)

    wrong(comment, both)


def _two_fields(client: Client, holder: int) -> bytes:
    """The digest of what a client sent a holder, by the rule of other suites."""
    pair, _ = client.dealt[holder]
    both = commitments(client.labels, client.session, client.index, holder, pair)
    return client.labels.complaint_digest(client.sent[holder], both)


def _without_record(client: Client, holder: int) -> bytes:
    """As if the client were not the sealer."""
    pair, _ = client.dealt[holder]
    both = commitments(client.labels, client.session, client.index, holder, pair)
    return hybrid.complaint_digest(client.config, client.sent[holder], both, b"")


def _accusations(tests: ClientCases) -> None:
    for holder, comment in (
        (OTHER, "with its pair the pair secret that it sealed is opened"),
        (SEALER, "with a pair whose secret it did not seal 32 zeros are sent"),
    ):
        case, client, _ = tests.at("hybrid-complaints", "Settled")
        accused = wire.encode("Accusations", client.session, wire.ids([holder]), b"", version=2)
        tests.get(case, client, accused, "accusations")
        tests.add(case, "COMPLAIN-8 HYBRID-6", comment, "ACCUSED", "")
    for holder, make, comment in (
        (OTHER, _two_fields, "about a digest without the pair secret's record"),
        (SEALER, _two_fields, "about a digest of two fields, by a holder that seals itself"),
        (OTHER, lambda c, holder: c.dealt[LAST][1], "about what it sent somebody else"),
    ):
        _accused(tests, holder, make, comment)


def _accused(tests: ClientCases, holder: int, make: Callable[[Client, int], bytes], comment: str) -> None:
    """Somebody complains about client INDEX, and signs another digest than that of what it was sent."""
    setup = "hybrid-complaints-active"
    wrong = tests.rule(setup, "Settled", "accusation-signature", "COMPLAIN-7", "ACCUSED")

    def change(message: bytes, client: Client) -> bytes:
        signed = client.labels.signed_complaint(client.session, holder, INDEX, make(client, holder))
        signature = primitives.sign(tests.setups[setup].seeds[holder], signed)
        return wire.encode("Accusations", client.session, wire.ids([holder]), signature, version=2)

    wrong(comment, change)


def _settled(tests: ClientCases) -> None:
    setup = "hybrid-complaints"
    wrong = tests.rule(setup, "Settled", "secret-commitment", "COMPLAIN-11 HYBRID-12", "SETTLED")
    wrong("another pair secret than was committed to", lambda m, c: changed(m, pairs=flipped))
    wrong("zeros for the pair secret", lambda m, c: changed(m, pairs=lambda old: old[: wire.PAIR] + bytes(32)))
    wrong = tests.rule(setup, "Settled", "shares-commitment", "COMPLAIN-11", "SETTLED")
    wrong("another pair and another pair secret", lambda m, c: changed(m, pairs=lambda old: flipped(flipped(old, 143))))
    wrong = tests.rule(setup, "Settled", "malformed", "COMPLAIN-11", "SETTLED")
    wrong("a pair without its pair secret", lambda m, c: changed(m, pairs=lambda old: old[: wire.PAIR]))
    case, client, honest = tests.at(setup, "Settled")
    tests.get(case, client, honest, "settled")
    _masks(tests, case, client, "a mask with the pair secret that was opened", "COMPLAIN-11 HYBRID-13")
    setup = "hybrid-complaints-active"
    for comment, behind in (
        ("zeros behind the pair of a dealer that is not the sealer", bytes(32)),
        ("what is behind such a pair is nothing for a client to look at", bytes(range(32))),
    ):
        case, client, honest = tests.at(setup, "Shares")
        tests.get(case, client, changed(honest, sealed=_box_of(0)), "shares")
        pair, _ = tests.setups[setup].clients[OTHER].dealt[INDEX]
        tests.get(case, client, _settled_of(tests, client, OTHER, pair[: wire.PAIR] + behind), "settled")
        _masks(tests, case, client, comment, "COMPLAIN-11")
    case, client, honest = tests.at(setup, "Shares")
    tests.get(case, client, changed(honest, pair_secrets=_flipped_secret), "shares")
    opened, _ = tests.setups[setup].clients[SEALER].dealt[INDEX]
    tests.get(case, client, _settled_of(tests, client, SEALER, opened, opened[: wire.PAIR]), "settled")
    tests.add(case, "COMPLAIN-11", "the pair is signed without its pair secret", "SETTLED", "answer-signature")


def _settled_of(tests: ClientCases, client: Client, dealer: int, opened: bytes, signed: bytes = b"") -> bytes:
    """Settled with what the one dealer complained about opened, and with what it signed, if that is something else."""
    recorder = tests.setups["hybrid-complaints-active"]
    digest = client.complained[dealer][-1]
    answer = client.labels.signed_answer(client.session, dealer, INDEX, digest, signed or opened)
    signature = primitives.sign(recorder.seeds[dealer], answer)
    return wire.encode("Settled", client.session, wire.ids(client.peers), opened, signature, version=2)


def _masks(tests: ClientCases, case: Case, client: Client, comment: str, requirements: str) -> None:
    recorder = tests.setups[case.setup]
    masked = client.submit(recorder.vector(INDEX), recorder.attachment(INDEX))
    case.note("client.submit", out=case.name(masked, "masked"), state=client.state)
    tests.add(case, requirements, comment, "SETTLED", "")


# Servers.


def server_refusals(tests: ServerCases) -> None:
    """Adds the tests."""
    setup = "hybrid-complaints"
    recorder = Recorder("refusals-hybrid-complaints-server", four(complaints=1), LOOSE, {SEALER: _FlipsSecret})
    recorder.run({INDEX: "COMPLAIN"})
    comment = "the holder of a bad pair secret is lost in MASK: the mask falls with the one that was opened"
    whole(tests, setup, recorder, comment, "COMPLAIN-9 COMPLAIN-14 HYBRID-14", "RECOVERY")
    _answers(tests, setup, recorder)
    setup, config = "hybrid-complaints-active", three_active(complaints=1)
    recorder = Recorder("refusals-hybrid-complaints-server-active", config, LOOSE, {SEALER: _FlipsSecret})
    recorder.run({})
    tests.setups[setup] = recorder
    _signed(tests, setup, recorder)


def _answers(tests: ServerCases, setup: str, recorder: Recorder) -> None:
    answer = tests.message(setup, f"answer-{SEALER}")
    for error, comment, data in (
        ("wrong-length", "a pair without its pair secret", changed(answer, pairs=lambda old: old[: wire.PAIR])),
        ("bad-answer", "another pair secret", changed(answer, pairs=flipped)),
        ("bad-answer", "zeros for the pair secret", changed(answer, pairs=lambda old: old[: wire.PAIR] + bytes(32))),
    ):
        case, server = tests.at(setup, "ANSWER")
        _refused_and_taken(tests, case, server, (data, answer), error, comment)
    case, server = tests.at(setup, "COMPLAIN")
    for holder in server.recipients:
        about = wire.ids([SEALER] if holder == OTHER else [])
        tests.get(case, server, holder, wire.encode("Complaint", server.session, about, b"", version=2))
    tests.close(case, server)
    opened, _ = recorder.clients[SEALER].dealt[OTHER]
    shown = (opened[:-1] + b"\1", opened)
    answers = [wire.encode("Answer", server.session, pair, b"", version=2) for pair in shown]
    comment = "something behind the pair of a dealer that is not the sealer"
    _refused_and_taken(tests, case, server, answers, "bad-answer", comment)


def _refused_and_taken(
    tests: ServerCases, case: Case, server: Server, answers: Iterable[bytes], error: str, comment: str
) -> None:
    """A wrong answer of the sealer's, and behind it the right one."""
    met = [tests.get(case, server, SEALER, answer) for answer in answers]
    if met != [error, "accepted"]:
        raise ValueError(f"{comment}: {met}, not {error}")
    tests.tests.append(case.test("COMPLAIN-9", comment, "ANSWERED"))


def _signed(tests: ServerCases, setup: str, recorder: Recorder) -> None:
    session, labels, seeds = recorder.server.session, recorder.server.labels, recorder.seeds
    wrong = tests.rule(setup, "complaint", "bad-signature", "COMPLAIN-5", "COMPLAINT")
    for dealer, comment in (
        (SEALER, "over a digest without the pair secret's record"),
        (OTHER, "over a digest of two fields, about a dealer that is not the sealer"),
    ):
        digest = _two_fields(recorder.clients[dealer], INDEX)
        signature = primitives.sign(seeds[INDEX], labels.signed_complaint(session, INDEX, dealer, digest))
        shown = wire.encode("Complaint", session, wire.ids([dealer]), signature, version=2)
        wrong(comment, lambda m, shown=shown: shown)  # type: ignore[misc]
    answer = tests.message(setup, f"answer-{SEALER}")
    pair, digest = recorder.clients[SEALER].dealt[INDEX]
    signed = labels.signed_answer(session, SEALER, INDEX, digest, pair[: wire.PAIR])
    case, server = tests.at(setup, "ANSWER")
    given = changed(answer, signatures=primitives.sign(seeds[SEALER], signed)), answer
    _refused_and_taken(tests, case, server, given, "bad-signature", "signed without the pair secret")
