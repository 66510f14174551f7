"""Writes the diagram and the table of docs/architecture.md from the imports of the package.

    python docs/generate_architecture.py

A test compares the page with the code.
"""

from __future__ import annotations

import ast
from collections.abc import Mapping
from graphlib import TopologicalSorter
from pathlib import Path

from generate_tables import replaced
from package_imports import MODULES, imports

PAGE = Path(__file__).with_name("architecture.md")
APART = (
    "adapters.flower",
    "adapters.net",
    "adapters.nvflare",
    "pairwise.client",
    "pairwise.server",
    "pairwise.transcript",
    "testing.adversary",
)
"""Rooms within rooms: those that build on different others than what lies around them.

``pairwise.transcript`` is one because ``identity`` builds on it, and the rest of ``pairwise`` on ``identity``.
"""
NO_ROOMS = {"", "_install", "__main__"}
"""The public names, the text that says what to install, and the entry of the command."""

Arrows = dict[str, set[str]]


def room(module: str) -> str:
    """The room of a module, by its dotted name; of secagg's own, without ``secagg.``."""
    inner = module.removeprefix("secagg").removeprefix(".")
    return next(
        (apart for apart in APART if f"{inner}.".startswith(f"{apart}.")),
        inner.split(".")[0],
    )


def arrows() -> Arrows:
    """Which rooms each room imports from."""
    found: Arrows = {
        room(name): set() for name in MODULES if room(name) not in NO_ROOMS
    }
    for name in MODULES:
        if room(name) in found:
            found[room(name)] |= {
                room(module)
                for module in imports(name)
                if module.split(".")[0] == "secagg"
            }
    return {name: targets - NO_ROOMS - {name} for name, targets in found.items()}


def reached(graph: Arrows) -> Arrows:
    """What each room gets to over any number of arrows.  Raises graphlib.CycleError when arrows lead round."""
    found: Arrows = {}
    for name in TopologicalSorter(graph).static_order():
        found[name] = set(graph[name]).union(*(found[target] for target in graph[name]))
    return found


def drawn(graph: Arrows) -> Arrows:
    """The arrows that do not follow from others: with these alone, each room still gets to the same ones."""
    further = reached(graph)
    return {
        name: targets - set().union(*(further[target] for target in targets))
        for name, targets in graph.items()
    }


def diagram() -> str:
    """The rooms as a Mermaid flow chart, from those that others are built on, upwards."""
    graph = arrows()
    # Sorted before it is ordered, so that the same imports give the same page every time.
    from_below = TopologicalSorter(
        {name: sorted(graph[name]) for name in sorted(graph)}
    ).static_order()
    order = [name for name in from_below if graph[name] or _is_built_on(name, graph)]
    nodes = [f'  {_node(name)}["{name}"]' for name in order]
    edges = [
        f"  {_node(name)} --> {_node(target)}"
        for name in order
        for target in sorted(drawn(graph)[name])
    ]
    return "\n".join(["```mermaid", "flowchart TD", *nodes, *edges, "```"])


def table() -> str:
    """Each room: what it says of itself first, and the rooms that it imports from."""
    rows = []
    for name, targets in sorted(arrows().items()):
        below = ", ".join(f"`{target}`" for target in sorted(targets)) or "nothing"
        rows.append(f"| `{name}` | {_says_of_itself(name)} | {below} |")
    return "\n".join(
        ["| room | what it holds | imports from |", "|---|---|---|", *rows]
    )


def parts() -> Mapping[str, str]:
    """What stands between the page's markers, by name."""
    return {"rooms": diagram(), "what rooms hold": table()}


def generated(page: str) -> str:
    """The page with its diagram and its table as the code has them."""
    return replaced(page, parts())


def _node(name: str) -> str:
    return name.replace(".", "_")


def _is_built_on(name: str, graph: Arrows) -> bool:
    return any(name in targets for targets in graph.values())


def _says_of_itself(name: str) -> str:
    text = ast.get_docstring(MODULES[f"secagg.{name}"]) or ""
    return (
        " ".join(text.split("\n\n")[0].split()).replace("``", "`").replace("|", "\\|")
    )


if __name__ == "__main__":
    PAGE.write_text(generated(PAGE.read_text(encoding="utf-8")), encoding="utf-8")
