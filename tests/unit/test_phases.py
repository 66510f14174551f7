"""Phases and threat models: one list, one place for what a threat model changes, and the names stay strings."""

from __future__ import annotations

import ast
import json
import pickle
import sqlite3
from collections.abc import Iterator
from pathlib import Path

import msgspec
import pytest

import secagg
from secagg import ClientState, RoundConfig, ServerState, ThreatModel
from secagg.pairwise import messages, phases
from secagg.pairwise.messages import (
    Accusations,
    Advertise,
    Answer,
    Complaint,
    Confirm,
    Confirmations,
    MaskedInput,
    Roster,
    Settled,
    Share,
    Shares,
    Survivors,
    Unmask,
)
from secagg.pairwise.phases import STATE_AFTER, HostCall, Phase, collected_in
from secagg.pairwise.transitions import CLIENT, CLIENT_WITH_COMPLAINTS, SERVER, next_answer, phase_of
from secagg.simulation import FATES, PHASES, phases_of
from tests.support.staging import MODELS

SEMI_HONEST, ACTIVE = ThreatModel.SEMI_HONEST, ThreatModel.ACTIVE
PACKAGE = Path(secagg.__file__).parent
TREES = {
    str(path.relative_to(PACKAGE)): ast.parse(path.read_text(encoding="utf-8"))
    for path in sorted(PACKAGE.rglob("*.py"))
}
COMPLAINTS = {"COMPLAIN", "ANSWER"}
NAMES = {"ADVERTISE", "SHARE", "MASK", "CONFIRM", "UNMASK"} | COMPLAINTS


# What the specification says, written out once more.


def test_the_phases_of_each_threat_model() -> None:
    assert [*Phase] == ["ADVERTISE", "SHARE", "COMPLAIN", "ANSWER", "MASK", "CONFIRM", "UNMASK"]
    assert phases.phases(SEMI_HONEST, complaints=True) == ("ADVERTISE", "SHARE", "COMPLAIN", "ANSWER", "MASK", "UNMASK")
    assert phases.phases(ACTIVE, complaints=True) == (*Phase,)
    assert phases.phases(SEMI_HONEST) == ("ADVERTISE", "SHARE", "MASK", "UNMASK")
    assert phases.phases(ACTIVE) == ("ADVERTISE", "SHARE", "MASK", "CONFIRM", "UNMASK")
    assert (*Phase,) == PHASES == FATES[1:]
    for threat_model, make in MODELS.items():
        assert phases_of(make(5)) == phases.phases(threat_model)


def test_what_each_threat_model_is_capable_of() -> None:
    capabilities = {model: (model.signs, model.confirms, model.adversarial_drops) for model in ThreatModel}
    assert capabilities == {SEMI_HONEST: (False, False, False), ACTIVE: (True, True, True)}
    covered = {(one, other) for one in ThreatModel for other in ThreatModel if one.covers(other)}
    assert covered == {(SEMI_HONEST, SEMI_HONEST), (ACTIVE, ACTIVE), (ACTIVE, SEMI_HONEST)}
    assert phases.default_threat_model(identified=True) is ACTIVE
    assert phases.default_threat_model(identified=False) is SEMI_HONEST


def test_the_messages_of_each_phase() -> None:
    assert {
        Advertise: "ADVERTISE",
        Roster: "ADVERTISE",
        Share: "SHARE",
        Shares: "SHARE",
        Complaint: "COMPLAIN",
        Accusations: "COMPLAIN",
        Answer: "ANSWER",
        Settled: "ANSWER",
        MaskedInput: "MASK",
        Survivors: "MASK",
        Confirm: "CONFIRM",
        Confirmations: "CONFIRM",
        Unmask: "UNMASK",
        messages.HybridAdvertise: "ADVERTISE",
        messages.HybridRoster: "ADVERTISE",
        messages.ShareWithSecrets: "SHARE",
        messages.SharesWithSecrets: "SHARE",
        messages.UnmaskWithAttachment: "UNMASK",
    } == messages.PHASE_OF
    assert {phase: messages.beginnings(phase) for phase in Phase} == {
        "ADVERTISE": (),
        "SHARE": (Roster,),
        "COMPLAIN": (Shares,),
        "ANSWER": (Accusations,),
        "MASK": (Shares, Settled),
        "CONFIRM": (Survivors,),
        "UNMASK": (Survivors, Confirmations),
    }


@pytest.mark.parametrize("threat_model", ThreatModel)
def test_no_message_is_above_the_most_bytes_of_its_direction(threat_model: ThreatModel) -> None:
    config = MODELS[threat_model](5)
    up, down = messages.most_bytes_to_server(config), messages.most_bytes_to_client(config)
    answers, closings = zip(*messages.EXCHANGES.values(), strict=True)
    assert max(messages.max_bytes(config, kind) for kind in answers) == up
    assert max(messages.max_bytes(config, kind) for kind in closings if kind is not None) == down
    assert max(up, down) == max(config.max_message_bytes(phase) for phase in Phase)


def test_where_a_client_stands() -> None:
    told = {state: phase_of(ACTIVE, state) for state in ClientState}
    assert told == {
        "JOINED": "ADVERTISE",
        "ADVERTISED": "ADVERTISE",
        "SHARED": "SHARE",
        "CHECKED": "COMPLAIN",
        "ANSWERED": "ANSWER",
        "INPUT": "MASK",
        "MASKED": "MASK",
        "CONFIRMED": "CONFIRM",
        "DONE": None,
        "ABORTED": None,
    }
    answers = ["ADVERTISE", "SHARE", "MASK", "MASK"]
    for threat_model, further in ((SEMI_HONEST, ["UNMASK"]), (ACTIVE, ["CONFIRM", "UNMASK"])):
        states = dict.fromkeys(state for state, _ in CLIENT[threat_model])
        assert [next_answer(threat_model, state) for state in states] == answers + further
        states = dict.fromkeys(state for state, _ in CLIENT_WITH_COMPLAINTS[threat_model])
        sent = [next_answer(threat_model, state, complaints=True) for state in states]
        assert sent == ["ADVERTISE", "SHARE", "COMPLAIN", "ANSWER", "MASK", "MASK", *further]
    assert next_answer(ACTIVE, ClientState.DONE) is next_answer(ACTIVE, ClientState.ABORTED) is None


@pytest.mark.parametrize("threat_model", ThreatModel)
def test_each_message_of_the_server_s_comes_when_its_phase_is_answered(threat_model: ThreatModel) -> None:
    """The client's table is written out; what it says of messages has to be what the phases say."""
    for (state, given), after in CLIENT[threat_model].items():
        if not isinstance(given, HostCall):
            assert state is STATE_AFTER[messages.PHASE_OF[given]]
        assert after in {*STATE_AFTER.values(), ClientState.INPUT}
    sent = [next_answer(threat_model, state) for state, _ in CLIENT[threat_model]]
    assert tuple(dict.fromkeys(sent)) == phases.phases(threat_model)


@pytest.mark.parametrize("threat_model", ThreatModel)
def test_a_server_goes_through_the_phases_in_order(threat_model: ThreatModel) -> None:
    state, met = ServerState.ADVERTISE, []
    while (phase := collected_in(state)) is not None:
        met.append(phase)
        state = SERVER[threat_model][state, HostCall.CLOSE]
    assert tuple(met) == phases.phases(threat_model)
    assert SERVER[threat_model][state, HostCall.COMPUTE] is ServerState.DONE
    assert len(SERVER[threat_model]) == len(met) + 1


def test_places_are_the_order_of_the_phases() -> None:
    assert [phase.place for phase in Phase] == [0, 1, 2, 3, 4, 5, 6]
    assert [phase.has_sum for phase in Phase] == [False, False, False, False, False, True, True]


# A phase is its name wherever it goes.


@pytest.mark.parametrize("phase", Phase)
def test_a_phase_reads_as_a_string_everywhere(phase: Phase) -> None:
    name = str(phase.value)
    assert type(name) is str
    assert (str(phase), f"{phase}", repr(phase), repr({phase: 1})) == (name, name, repr(name), repr({name: 1}))
    assert {name: 1}[phase] == 1
    assert json.dumps({phase: [phase]}) == json.dumps({name: [name]})
    assert msgspec.msgpack.encode({phase: phase}) == msgspec.msgpack.encode({name: name})
    assert pickle.loads(pickle.dumps(phase)) is phase
    row = sqlite3.connect(":memory:").execute("SELECT ?, typeof(?)", (phase, phase)).fetchone()
    assert row == (name, "text")


# There is no other list, and no other place that tells threat models apart.


def nodes() -> Iterator[tuple[str, ast.AST]]:
    """All of the library but the module that these rules are about."""
    return ((name, node) for name, tree in TREES.items() if name != "pairwise/phases.py" for node in ast.walk(tree))


def phase_named(node: ast.AST | None) -> str | None:
    """The phase that an expression stands for: its string, or the member."""
    if isinstance(node, ast.Constant) and node.value in NAMES:
        return str(node.value)
    if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name) and node.value.id == "Phase":
        return node.attr if node.attr in NAMES else None
    return None


def test_no_list_of_phases_is_written_out() -> None:
    """Two or three phases may share a trait; whoever names more of them writes the list a second time."""
    written = [
        (name, node.lineno)
        for name, node in nodes()
        if isinstance(node, ast.Tuple | ast.List | ast.Set)
        if sum(phase_named(element) is not None for element in node.elts) > 3
    ]
    assert written == []


def test_what_is_told_by_phase_is_told_for_every_phase() -> None:
    """A new phase makes this fail at each table that it has to be put into."""
    tables = [
        (name, node.lineno, {phase_named(key) for key in node.keys})
        for name, node in nodes()
        if isinstance(node, ast.Dict) and sum(phase_named(key) is not None for key in node.keys) > 1
    ]
    assert len(tables) >= 4
    assert [(name, line) for name, line, told in tables if told != NAMES] == []


def test_phases_are_members_and_not_strings() -> None:
    """A string that is misspelt compares unequal for ever; a member that is misspelt does not exist."""
    labels = "pairwise/transcript.py"  # what is hashed is bytes of the specification's
    tags = {id(keyword.value) for _, node in nodes() if isinstance(node, ast.ClassDef) for keyword in node.keywords}
    strings = {
        (name, node.lineno)
        for name, node in nodes()
        if isinstance(node, ast.Constant) and node.value in NAMES and name != labels and id(node) not in tags
    }
    assert strings == set()


def test_nobody_inside_asks_for_is_active() -> None:
    """It stays for hosts; the library asks a threat model what it is capable of."""
    uses = [
        (name, node.lineno) for name, node in nodes() if isinstance(node, ast.Attribute) and node.attr == "is_active"
    ]
    assert uses == []
    assert [config.is_active for config in (make(5) for make in MODELS.values())] == [False, True]
    assert isinstance(RoundConfig.is_active, property)


def test_nobody_outside_tells_threat_models_apart_by_name() -> None:
    names = {model.name for model in ThreatModel} | {model.value for model in ThreatModel}
    is_active = [node for _, node in nodes() if isinstance(node, ast.FunctionDef) and node.name == "is_active"]
    exempt = {id(node) for definition in is_active for node in ast.walk(definition)}

    def names_a_model(node: ast.AST) -> bool:
        named = node.attr if isinstance(node, ast.Attribute) else node.value if isinstance(node, ast.Constant) else None
        return named in names

    told_apart = [
        (name, node.lineno)
        for name, node in nodes()
        if id(node) not in exempt
        if (isinstance(node, ast.Compare) and any(map(names_a_model, [node.left, *node.comparators])))
        or (isinstance(node, ast.MatchValue) and names_a_model(node.value))
    ]
    assert (len(is_active), told_apart) == (1, [])
