"""Writes the diagrams of docs/state-machines.md from the tables of ``secagg.pairwise.transitions``.

    python docs/generate_diagrams.py

A test compares the page with the tables.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from enum import StrEnum
from pathlib import Path
from typing import Any, TypeAlias

from generate_tables import replaced

from secagg.pairwise.config import ThreatModel
from secagg.pairwise.phases import (
    CLIENT_ENDED,
    SERVER_ENDED,
    ClientState,
    HostCall,
    ServerState,
)
from secagg.pairwise.transitions import (
    CLIENT,
    CLIENT_WITH_COMPLAINTS,
    SERVER,
    SERVER_WITH_COMPLAINTS,
    ClientInput,
    input_name,
)

PAGE = Path(__file__).with_name("state-machines.md")

Tables: TypeAlias = Mapping[ThreatModel, Mapping[tuple[Any, Any], StrEnum]]
_CALLS = {
    HostCall.START: "start()",
    HostCall.SUBMIT: "submit()",
    HostCall.CLOSE: "close_phase()",
    HostCall.COMPUTE: "compute()",
}


def diagram(
    table: Mapping[tuple[Any, Any], StrEnum], first: StrEnum, ended: Collection[StrEnum]
) -> str:
    """One machine as a Mermaid state diagram: every edge of the table, and one to ABORTED from every live state."""
    sources = {source for source, _ in table}
    live = [state for state in type(first) if state in sources]
    edges = [
        f"  {source} --> {target} : {_shown(given)}"
        for (source, given), target in sorted(
            table.items(), key=lambda edge: live.index(edge[0][0])
        )
    ]
    aborts = [f"  {state} --> ABORTED" for state in live]
    ends = [f"  {state} --> [*]" for state in type(first) if state in ended]
    return "\n".join(["stateDiagram-v2", f"  [*] --> {first}", *edges, *aborts, *ends])


def transition_table(models: Tables) -> str:
    """The same as rows: state, input, and the next state in each threat model."""
    pairs = dict.fromkeys(pair for table in models.values() for pair in table)
    order = list(type(next(iter(pairs))[0]))
    rows = [
        f"| {source} | `{_shown(given)}` | "
        + " | ".join(
            str(table.get((source, given), "refused")) for table in models.values()
        )
        + " |"
        for source, given in sorted(pairs, key=lambda pair: order.index(pair[0]))
    ]
    head = [
        "| state | input | " + " | ".join(f"`{model}`" for model in models) + " |",
        "|---" * (2 + len(models)) + "|",
    ]
    return "\n".join([*head, *rows])


def parts() -> dict[str, str]:
    """What stands between the page's markers, by name."""
    found = {
        "client transitions": transition_table(CLIENT),
        "server transitions": transition_table(SERVER),
        "client transitions with complaints": transition_table(CLIENT_WITH_COMPLAINTS),
        "server transitions with complaints": transition_table(SERVER_WITH_COMPLAINTS),
    }
    for model in ThreatModel:
        found[f"client {model}"] = _fenced(
            diagram(CLIENT[model], ClientState.JOINED, CLIENT_ENDED)
        )
        found[f"server {model}"] = _fenced(
            diagram(SERVER[model], ServerState.ADVERTISE, SERVER_ENDED)
        )
    return found


def generated(page: str) -> str:
    """The page with every diagram as the tables have it."""
    return replaced(page, parts())


def _shown(given: ClientInput) -> str:
    return _CALLS[given] if isinstance(given, HostCall) else input_name(given)


def _fenced(text: str) -> str:
    return f"```mermaid\n{text}\n```"


if __name__ == "__main__":
    PAGE.write_text(generated(PAGE.read_text(encoding="utf-8")), encoding="utf-8")
