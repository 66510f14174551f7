"""The diagrams of docs/state-machines.md are those of the transition tables."""

import re
from collections.abc import Mapping
from enum import StrEnum
from typing import Any

import generate_diagrams
import pytest

from secagg.pairwise.config import ThreatModel
from secagg.pairwise.phases import CLIENT_ENDED, SERVER_ENDED, ClientState, HostCall, ServerState
from secagg.pairwise.transitions import CLIENT, SERVER, input_name


def test_the_committed_diagrams_are_those_of_the_tables() -> None:
    page = generate_diagrams.PAGE.read_text(encoding="utf-8")
    assert generate_diagrams.generated(page) == page, "run python docs/generate_diagrams.py"


@pytest.mark.parametrize("model", ThreatModel)
@pytest.mark.parametrize(
    ("tables", "first", "ended"),
    [(CLIENT, ClientState.JOINED, CLIENT_ENDED), (SERVER, ServerState.ADVERTISE, SERVER_ENDED)],
    ids=["client", "server"],
)
def test_a_diagram_has_every_edge_and_no_other(
    model: ThreatModel, tables: Mapping[Any, Any], first: StrEnum, ended: frozenset[StrEnum]
) -> None:
    lines = generate_diagrams.diagram(tables[model], first, ended).splitlines()
    drawn = {match.groups() for line in lines if (match := re.fullmatch(r" +(\w+) --> (\w+) : (\w+)(?:\(\))?", line))}
    called = {"close": "close_phase"}
    edges = {(source, input_name(given), target) for (source, given), target in tables[model].items()}
    assert drawn == {(str(source), str(target), called.get(name, name)) for source, name, target in edges}
    live = {source for source, _ in tables[model]}
    assert {line for line in lines if line.endswith("--> ABORTED")} == {f"  {state} --> ABORTED" for state in live}
    assert {line for line in lines if line.endswith("--> [*]")} == {f"  {state} --> [*]" for state in ended}
    assert lines[1] == f"  [*] --> {first}"
    assert len(lines) == 2 + len(drawn) + len(live) + len(ended)


def test_a_changed_table_changes_the_page(monkeypatch: pytest.MonkeyPatch) -> None:
    page = generate_diagrams.PAGE.read_text(encoding="utf-8")
    table = {**CLIENT[ThreatModel.SEMI_HONEST], (ClientState.JOINED, HostCall.SUBMIT): ClientState.DONE}
    monkeypatch.setattr(generate_diagrams, "CLIENT", {**CLIENT, ThreatModel.SEMI_HONEST: table})
    assert generate_diagrams.generated(page) != page
