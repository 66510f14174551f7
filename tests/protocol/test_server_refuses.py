"""Every code that the server can give, and what a client can send out of turn: none of it touches the sum."""

from __future__ import annotations

import ast
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import pytest

import secagg
from secagg import (
    AbortCode,
    Accepted,
    AlreadyMasked,
    ClientAborted,
    Duplicate,
    ErrorCode,
    Late,
    Misbehaved,
    Modulus,
    PeerError,
    Server,
    ThreatModel,
    UsageError,
)
from secagg.pairwise.rules.table import RULES, Role
from secagg.simulation.faults import phases_of
from tests.support import wire
from tests.support.sharded import offer
from tests.support.staging import MODELS, Stage, active, semi_honest

SEMI_HONEST, ACTIVE = ThreatModel.SEMI_HONEST, ThreatModel.ACTIVE
PRIME = Modulus(2**19 + 21)  # twenty bits; three elements leave four bits of padding
LENGTH = 3


def stage_in(threat_model: ThreatModel, phase: str, **options: Any) -> Stage:
    """A round whose server collects the messages of this phase."""
    options = {"modulus": PRIME, "length": LENGTH, **options}
    return Stage(MODELS[threat_model](5, **options)).play(phase)


def edited(message: bytes, **fields: Any) -> bytes:
    """The message with some fields changed, given as ``field_3=...``."""
    values = wire.read(message)
    for name, value in fields.items():
        values[int(name.removeprefix("field_"))] = value
    return wire.write(values)


def flipped(data: bytes, position: int = 0) -> bytes:
    return data[:position] + bytes([data[position] ^ 1]) + data[position + 1 :]


class Case(NamedTuple):
    """What client 1 sends in a phase, made of everybody's honest answers; ``first`` delivers client 0's before."""

    code: ErrorCode
    threat_model: ThreatModel
    phase: str
    make: Callable[[dict[int, bytes]], bytes]
    name: str
    reported: str = ""
    """The phase that the event names, where it is another: the message's own."""


def packed(*elements: int) -> bytes:
    bits = sum(element << 20 * position for position, element in enumerate(elements))
    return bits.to_bytes(8, "little")


# The fields of a message: 0 type, 1 version, 2 session, 3 and more its own.
CASES = [
    Case(ErrorCode.MALFORMED, SEMI_HONEST, "ADVERTISE", lambda sent: b"", "nothing"),
    Case(ErrorCode.MALFORMED, SEMI_HONEST, "SHARE", lambda sent: b"\xc1", "reserved byte"),
    Case(ErrorCode.MALFORMED, SEMI_HONEST, "MASK", lambda sent: b"\x80", "a map"),
    Case(ErrorCode.MALFORMED, SEMI_HONEST, "MASK", lambda sent: sent[1][:-1], "truncated"),
    Case(ErrorCode.MALFORMED, SEMI_HONEST, "UNMASK", lambda sent: sent[1] + b"\x00", "extended"),
    Case(ErrorCode.MALFORMED, ACTIVE, "CONFIRM", lambda sent: edited(sent[1], field_3=bytes(63)), "short signature"),
    Case(ErrorCode.MALFORMED, SEMI_HONEST, "SHARE", lambda sent: edited(sent[1], field_0=5), "a server's type"),
    Case(ErrorCode.MALFORMED, SEMI_HONEST, "SHARE", lambda sent: edited(sent[1], field_4=[]), "an array for bytes"),
    Case(ErrorCode.MALFORMED, ACTIVE, "ADVERTISE", lambda sent: edited(sent[1], field_5=b""), "unsigned in active"),
    Case(ErrorCode.MALFORMED, SEMI_HONEST, "ADVERTISE", lambda sent: edited(sent[1], field_5=bytes(64)), "signed"),
    Case(ErrorCode.TOO_LARGE, SEMI_HONEST, "MASK", lambda sent: sent[1] + bytes(10_000), "extended by much"),
    Case(ErrorCode.TOO_LARGE, ACTIVE, "ADVERTISE", lambda sent: edited(sent[1], field_5=bytes(9999)), "signature"),
    Case(ErrorCode.WRONG_VERSION, SEMI_HONEST, "SHARE", lambda sent: edited(sent[1], field_1=2), "version 2"),
    Case(ErrorCode.WRONG_VERSION, SEMI_HONEST, "SHARE", lambda sent: edited(sent[1], field_1=2**40), "far version"),
    Case(ErrorCode.WRONG_VERSION, ACTIVE, "MASK", lambda sent: wire.write([6, 3, b"", 0, 0]), "of another form"),
    Case(ErrorCode.WRONG_SESSION, SEMI_HONEST, "ADVERTISE", lambda sent: edited(sent[1], field_2=bytes(32)), "zero"),
    Case(ErrorCode.WRONG_SESSION, ACTIVE, "UNMASK", lambda sent: edited(sent[1], field_2=bytes(32)), "zeros"),
    Case(ErrorCode.WRONG_SESSION, SEMI_HONEST, "SHARE", lambda sent: wire.write([0, 1, bytes(32), 0]), "an abort"),
    Case(
        ErrorCode.WRONG_PHASE,
        SEMI_HONEST,
        "SHARE",
        lambda sent: wire.write([10, 1, wire.read(sent[1])[2], b""]),
        "an answer too early",
        reported="UNMASK",
    ),
    Case(
        ErrorCode.WRONG_PHASE,
        SEMI_HONEST,
        "MASK",
        lambda sent: wire.write([8, 1, wire.read(sent[1])[2], bytes(64)]),
        "a phase that semi_honest has not",
        reported="CONFIRM",
    ),
    Case(ErrorCode.KEY_UNUSABLE, SEMI_HONEST, "ADVERTISE", lambda sent: edited(sent[1], field_3=bytes(32)), "zero"),
    Case(
        ErrorCode.KEY_UNUSABLE,
        ACTIVE,
        "ADVERTISE",
        lambda sent: edited(sent[1], field_4=(2**255 - 19 + 2**255).to_bytes(32, "little")),
        "zero in another guise",
    ),
    Case(
        ErrorCode.KEY_REPEATED,
        SEMI_HONEST,
        "ADVERTISE",
        lambda sent: edited(sent[1], field_3=wire.read(sent[1])[4]),
        "one key for both",
    ),
    Case(
        ErrorCode.KEY_REPEATED,
        SEMI_HONEST,
        "ADVERTISE",
        lambda sent: edited(sent[1], field_3=wire.read(sent[0])[3]),
        "another client's",
    ),
    Case(
        ErrorCode.KEY_REPEATED,
        ACTIVE,
        "ADVERTISE",
        lambda sent: edited(sent[1], field_4=wire.read(sent[0])[3]),
        "another client's for the other use",
    ),
    Case(
        ErrorCode.BAD_SIGNATURE,
        ACTIVE,
        "ADVERTISE",
        lambda sent: edited(sent[1], field_5=wire.read(sent[0])[5]),
        "another client's signature",
    ),
    Case(
        ErrorCode.BAD_SIGNATURE,
        ACTIVE,
        "ADVERTISE",
        lambda sent: edited(sent[1], field_3=flipped(wire.read(sent[1])[3])),
        "another key than the signed one",
    ),
    Case(ErrorCode.BAD_SIGNATURE, ACTIVE, "ADVERTISE", lambda sent: sent[2], "another client's message"),
    Case(ErrorCode.BAD_SIGNATURE, ACTIVE, "CONFIRM", lambda sent: sent[0], "another client's confirmation"),
    Case(
        ErrorCode.BAD_SIGNATURE,
        ACTIVE,
        "CONFIRM",
        lambda sent: edited(sent[1], field_3=flipped(wire.read(sent[1])[3], 40)),
        "a damaged confirmation",
    ),
    Case(
        ErrorCode.WRONG_LENGTH,
        SEMI_HONEST,
        "SHARE",
        lambda sent: edited(sent[1], field_4=wire.read(sent[1])[4][:-160]),
        "a neighbour without shares",
    ),
    Case(
        ErrorCode.WRONG_LENGTH,
        ACTIVE,
        "SHARE",
        lambda sent: edited(sent[1], field_5=wire.read(sent[1])[5][:-1]),
        "a commitment short",
    ),
    Case(ErrorCode.WRONG_LENGTH, ACTIVE, "MASK", lambda sent: edited(sent[1], field_3=bytes(7)), "a byte short"),
    Case(ErrorCode.WRONG_LENGTH, ACTIVE, "MASK", lambda sent: edited(sent[1], field_3=bytes(9)), "a byte more"),
    Case(
        ErrorCode.WRONG_LENGTH,
        ACTIVE,
        "UNMASK",
        lambda sent: edited(sent[1], field_3=wire.read(sent[1])[3][:-72]),
        "a share short",
    ),
    Case(
        ErrorCode.PADDING,
        SEMI_HONEST,
        "MASK",
        lambda sent: edited(sent[1], field_3=packed(1, 2, 3, 1)),
        "a bit behind the last element",
    ),
    Case(
        ErrorCode.ELEMENT_RANGE,
        SEMI_HONEST,
        "MASK",
        lambda sent: edited(sent[1], field_3=packed(1, PRIME.value, 3)),
        "the prime itself",
    ),
    Case(
        ErrorCode.ELEMENT_RANGE,
        ACTIVE,
        "MASK",
        lambda sent: edited(sent[1], field_3=packed(1, 2, 2**20 - 1)),
        "all bits set",
    ),
]


@pytest.mark.parametrize("case", CASES, ids=lambda case: f"{case.code.value}: {case.name}")
def test_a_refused_message_leaves_its_sender_free_to_send_the_right_one(case: Case) -> None:
    stage = stage_in(case.threat_model, case.phase)
    answers = stage.answers()
    stage.deliver({0: answers[0]})
    before = stage.server.snapshot()
    step = stage.server.receive(1, case.make(answers))
    assert step.outgoing == ()
    event = step.event
    assert isinstance(event, Misbehaved)
    fault = (1, case.reported or case.phase, case.code)
    assert (event.sender, event.phase, event.code) == fault
    assert event.detail
    assert [(entry.sender, entry.phase, entry.code) for entry in stage.server.blame] == [fault]
    assert 1 in stage.server.missing
    assert stage.server.snapshot() != before, "the blame is part of the snapshot"
    events = stage.deliver({index: answer for index, answer in answers.items() if index != 0})
    assert all(type(event) is Accepted for event in events)
    stage.server.close_phase()
    result = stage.finish()
    assert result.sum.tolist() == stage.plain_sum(range(5))
    assert [entry.sender for entry in result.blame] == [1]


@pytest.mark.parametrize("case", [case for case in CASES if case.phase == "MASK"], ids=lambda case: case.name)
def test_a_worker_that_takes_a_message_for_the_server_has_its_verdict(case: Case) -> None:
    stage = stage_in(case.threat_model, case.phase)
    answers = stage.answers()
    refused, alone = case.make(answers), Server.restore(stage.server.snapshot(), **stage.trust)
    partial = stage.server.open_partial()
    before = partial.to_bytes()
    assert offer(stage.server, partial, 1, refused) == alone.receive(1, refused).event
    assert stage.server.blame == alone.blame
    assert partial.to_bytes() == before
    events = [offer(stage.server, partial, index, answer) for index, answer in answers.items()]
    assert all(type(event) is Accepted for event in events)
    stage.server.merge(partial)
    stage.server.close_phase()
    assert stage.finish().sum.tolist() == stage.plain_sum(range(5))


@pytest.mark.parametrize("sender", [-1, 5, 2**70, True, "1", 1.0, None])
def test_unknown_senders(sender: Any) -> None:
    stage = stage_in(SEMI_HONEST, "ADVERTISE")
    event = stage.server.receive(sender, stage.answer(1)).event
    assert isinstance(event, Misbehaved)
    assert event.code is ErrorCode.UNKNOWN_SENDER
    assert stage.server.blame == (), "there is no client to blame"
    assert set(stage.server.missing) == set(range(5))


@pytest.mark.parametrize("phase", ["ADVERTISE", "SHARE", "CONFIRM", "UNMASK"])
def test_a_second_message_that_differs_is_a_conflict(phase: str) -> None:
    stage = stage_in(ACTIVE, phase)
    answers = stage.collect()
    values = wire.read(answers[1])
    values[3] = flipped(values[3], 9)
    event = stage.server.receive(1, wire.write(values)).event
    assert isinstance(event, Misbehaved)
    assert (event.sender, event.phase, event.code) == (1, phase, ErrorCode.CONFLICT)
    stage.server.close_phase()
    assert stage.finish().sum.tolist() == stage.plain_sum(range(5))


@pytest.mark.parametrize("phase", ["ADVERTISE", "SHARE", "CONFIRM", "UNMASK"])
def test_the_same_message_again_is_none(phase: str) -> None:
    stage = stage_in(ACTIVE, phase)
    answers = stage.collect()
    before = stage.server.snapshot()
    assert stage.server.receive(2, answers[2]).event == Duplicate(2, phase)
    assert stage.server.snapshot() == before
    stage.server.close_phase()
    assert stage.server.receive(2, answers[2]).event == Duplicate(2, phase), "after the close, too"
    assert stage.finish().sum.tolist() == stage.plain_sum(range(5))


@pytest.mark.parametrize("threat_model", ThreatModel)
def test_the_first_masked_input_counts(threat_model: ThreatModel) -> None:
    stage = stage_in(threat_model, "MASK")
    answers = stage.collect()
    before = stage.server.snapshot()
    others = [answers[1], edited(answers[1], field_3=packed(1, 2, 3)), edited(answers[1], field_3=packed(0, 2**20 - 1))]
    for again in (*others, edited(answers[1], field_3=b"")):
        assert stage.server.receive(1, again).event == AlreadyMasked(1)
    assert stage.server.snapshot() == before
    stage.server.close_phase()
    assert stage.server.receive(1, others[1]).event == AlreadyMasked(1)
    assert stage.finish().sum.tolist() == stage.plain_sum(range(5))


@pytest.mark.parametrize(
    ("threat_model", "phase"), [(model, phase) for model in ThreatModel for phase in phases_of(MODELS[model](5))]
)
def test_a_late_message_changes_nothing(threat_model: ThreatModel, phase: str) -> None:
    stage = stage_in(threat_model, phase)
    answers = stage.answers()
    late = answers.pop(1)
    stage.deliver(answers)
    stage.server.close_phase()
    before = stage.server.snapshot()
    assert stage.server.receive(1, late).event == Late(1, phase)
    assert stage.server.snapshot() == before
    in_sum = set(range(5)) - ({1} if phase in ("ADVERTISE", "SHARE", "MASK") else set())
    result = stage.finish()
    assert result.included == tuple(sorted(in_sum))
    assert result.sum.tolist() == stage.plain_sum(in_sum)
    assert result.dropped == {phase: (1,)}
    assert result.blame == ()


@pytest.mark.parametrize("threat_model", ThreatModel)
def test_who_left_is_not_heard_any_more(threat_model: ThreatModel) -> None:
    stage = stage_in(threat_model, "SHARE")
    answers = stage.answers()
    reply = stage.clients[3].abort(AbortCode.CANCELLED)
    assert stage.server.receive(3, reply).event == ClientAborted(3, "SHARE", AbortCode.CANCELLED)
    assert 3 not in stage.server.missing
    assert stage.server.receive(3, reply).event == Late(3, "SHARE")
    assert stage.server.receive(3, answers.pop(3)).event == Late(3, "SHARE")
    stage.deliver(answers)
    outgoing = stage.server.close_phase()
    assert 3 not in outgoing.recipients
    result = stage.finish()
    assert result.included == (0, 1, 2, 4)
    assert result.dropped == {"SHARE": (3,)}


def test_shares_taken_back_by_leaving() -> None:
    """A client that shared and left before the phase was closed is in nobody's masks."""
    stage = stage_in(SEMI_HONEST, "SHARE")
    stage.collect()
    stage.server.receive(3, stage.clients[3].abort())
    stage.server.close_phase()
    assert stage.finish().sum.tolist() == stage.plain_sum([0, 1, 2, 4])


@pytest.mark.parametrize("code", [99, -1, 2**63])
def test_an_abort_with_an_unknown_code(code: int) -> None:
    stage = stage_in(SEMI_HONEST, "MASK")
    session = wire.read(stage.answers()[0])[2]
    event = stage.server.receive(2, wire.write([0, 1, session, code])).event
    assert event == ClientAborted(2, "MASK", AbortCode.UNSPECIFIED)


def test_an_abort_before_there_is_a_session() -> None:
    stage = stage_in(SEMI_HONEST, "ADVERTISE")
    stage.collect()
    event = stage.server.receive(2, stage.clients[2].abort()).event
    assert event == ClientAborted(2, "ADVERTISE", AbortCode.CANCELLED)
    stage.server.close_phase()
    assert stage.finish().included == (0, 1, 3, 4)


def test_messages_of_another_round() -> None:
    """Same config, same clients, another nonce: every message is refused in every phase."""
    theirs = stage_in(ACTIVE, "ADVERTISE")
    ours = Stage(theirs.config, seed=2)
    theirs.finish()
    while ours.server.phase != "COMPUTE":
        for answers in theirs.sent.values():
            for event in ours.deliver(answers):
                assert isinstance(event, Misbehaved)
                assert event.code is ErrorCode.WRONG_SESSION
        ours.collect()
        ours.server.close_phase()
    assert ours.finish().sum.tolist() == ours.plain_sum(range(5))


def test_a_flood_fills_no_memory() -> None:
    stage = stage_in(SEMI_HONEST, "SHARE")
    size = len(stage.server.snapshot())
    for number in range(2000):
        stage.server.receive(number % 2, number.to_bytes(4, "big"))
    assert len(stage.server.blame) <= 4
    assert len(stage.server.snapshot()) < size + 4 * 400


@pytest.mark.parametrize("kind", [bytes, bytearray, memoryview])
def test_any_buffer_will_do(kind: type) -> None:
    stage = stage_in(ACTIVE, "ADVERTISE")
    while stage.server.phase != "COMPUTE":
        for index, answer in stage.answers().items():
            assert stage.server.receive(index, kind(answer)).event == Accepted(index, stage.server.phase.value)
        stage.server.close_phase()
    assert stage.server.compute().sum.tolist() == stage.plain_sum(range(5))


@pytest.mark.parametrize("data", ["text", None, 7, [1, 2]])
def test_what_is_no_bytes_is_the_host_s_fault(data: Any) -> None:
    stage = stage_in(SEMI_HONEST, "SHARE")
    with pytest.raises(UsageError, match="receive"):
        stage.server.receive(0, data)
    assert stage.finish().included == (0, 1, 2, 3, 4)


def test_a_vector_of_the_sender_s_choice_is_its_own_input() -> None:
    """A change inside the packed elements is that client's input: the sum has exactly that difference."""
    stage = stage_in(SEMI_HONEST, "MASK")
    answers = stage.answers()
    bits = int.from_bytes(wire.read(answers[1])[3], "little")
    elements = [bits >> 20 * position & 0xFFFFF for position in range(LENGTH)]
    changed = [elements[0], 5, elements[2]]
    answers[1] = edited(answers[1], field_3=packed(*changed))
    stage.deliver(answers)
    stage.server.close_phase()
    expected = stage.plain_sum(range(5))
    expected[1] = (expected[1] + 5 - elements[1]) % PRIME.value
    assert stage.finish().sum.tolist() == expected


def test_encodings_that_are_not_the_shortest_are_taken() -> None:
    rng = random.Random(4)
    stage = Stage(active(5, LENGTH, modulus=PRIME))
    while stage.server.phase != "COMPUTE":
        answers = stage.answers()
        for index, answer in answers.items():
            loose = wire.write(wire.read(answer), rng)
            if len(loose) > len(answer) + 20:  # long headers, all together, can exceed what a message may have
                loose = answer
            assert stage.server.receive(index, loose).event == Accepted(index, stage.server.phase.value)
        stage.server.close_phase()
    assert stage.server.compute().sum.tolist() == stage.plain_sum(range(5))


def test_shares_that_do_not_open_make_the_neighbours_leave_and_name_the_dealer() -> None:
    """The server cannot look into sealed shares; who holds them can, and says who dealt them."""
    stage = Stage(semi_honest(5))
    stage.play("SHARE")
    answers = stage.answers()
    sealed = wire.read(answers[1])[4]
    answers[1] = edited(answers[1], field_4=flipped(sealed, 5))
    assert stage.deliver(answers)[1] == Accepted(1, "SHARE")
    stage.server.close_phase()
    with pytest.raises(PeerError) as caught:
        stage.answer(0)
    assert (caught.value.code, caught.value.culprit) == (ErrorCode.SHARES_UNSEALABLE, (1,))
    assert isinstance(stage.server.receive(0, caught.value.reply).event, ClientAborted)
    result = stage.finish()
    assert result.included == (1, 2, 3, 4)
    assert result.sum.tolist() == stage.plain_sum(result.included)


# Every code.

PACKAGE = Path(secagg.__file__).parent
TESTED_ELSEWHERE = {
    ErrorCode.UNKNOWN_SENDER,  # above, without a sender to go on with
    ErrorCode.CONFLICT,  # above
    ErrorCode.BAD_SHARE,  # test_unmask
    ErrorCode.BAD_DEALER,  # test_unmask
    ErrorCode.BAD_ENVELOPE,  # test_carrier
    ErrorCode.COMPLAINT_DEALERS,  # test_complaints
    ErrorCode.BAD_ANSWER,  # test_complaints
    ErrorCode.DISPUTED,  # test_complaints
}


def codes_in(module: Path) -> set[ErrorCode]:
    source = module.read_text(encoding="utf-8")
    names = (
        node.attr
        for node in ast.walk(ast.parse(source))
        if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name) and node.value.id == "ErrorCode"
    )
    return {ErrorCode[name] for name in names}


def test_every_code_that_the_server_gives_has_a_test() -> None:
    given = {code for rule in RULES if Role.SERVER in rule.role for code in rule.codes}
    assert given == {case.code for case in CASES} | TESTED_ELSEWHERE


def test_hardly_a_code_is_never_given() -> None:
    modules = [*PACKAGE.joinpath("pairwise").rglob("*.py"), PACKAGE / "identity.py"]
    assert set(ErrorCode) - set().union(*map(codes_in, modules)) <= {"peer-aborted", "too-few-left"}
