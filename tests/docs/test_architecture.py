"""docs/architecture.md draws the imports that there are, and tells the way of a vector with names that there are."""

from __future__ import annotations

import ast
import re
from graphlib import CycleError
from pathlib import Path

import generate_architecture
import pytest
from generate_architecture import arrows, drawn, reached

ROOT = Path(__file__).parents[2]
PAGE = generate_architecture.PAGE.read_text(encoding="utf-8")
STEPS = re.findall(r"^\| `(secagg/[\w/]+\.py)` \| `([\w.]+)` \|", PAGE, flags=re.MULTILINE)


def defined(tree: ast.AST, names: list[str]) -> bool:
    """Whether a class or function of that name is there, or a method for two names."""
    for node in ast.iter_child_nodes(tree):
        if isinstance(node, ast.ClassDef | ast.FunctionDef) and node.name == names[0]:
            return not names[1:] or defined(node, names[1:])
    return False


def test_the_committed_page_is_that_of_the_imports() -> None:
    assert generate_architecture.generated(PAGE) == PAGE, "run python docs/generate_architecture.py"


def test_the_drawn_arrows_say_all_that_the_imports_say() -> None:
    assert reached(drawn(arrows())) == reached(arrows())
    assert sum(map(len, drawn(arrows()).values())) < sum(map(len, arrows().values()))


def test_an_arrow_that_follows_from_others_is_not_drawn() -> None:
    assert drawn({"top": {"middle", "low"}, "middle": {"low"}, "low": set()}) == {
        "top": {"middle"},
        "middle": {"low"},
        "low": set(),
    }


def test_arrows_that_lead_round_are_refused() -> None:
    with pytest.raises(CycleError):
        drawn({"one": {"other"}, "other": {"one"}})


def test_every_room_says_what_it_holds() -> None:
    rows = generate_architecture.table().splitlines()[2:]
    assert len(rows) == len(arrows())
    assert [row for row in rows if "|  |" in row] == []


@pytest.mark.parametrize(("file", "name"), STEPS)
def test_a_step_of_the_way_is_where_the_page_says(file: str, name: str) -> None:
    assert defined(ast.parse((ROOT / file).read_text(encoding="utf-8")), name.split("."))


def test_the_way_begins_and_ends_with_the_encoder() -> None:
    assert [name for _, name in STEPS][:: len(STEPS) - 1] == ["Encoder.encode", "Encoder.decode"]


def test_every_file_that_the_page_names_is_there() -> None:
    named = set(re.findall(r"`((?:secagg|docs|tests)/[\w/]+\.py|[A-Z]+\.md)`", PAGE))
    assert len(named) > 15
    assert [file for file in named if not (ROOT / file).exists()] == []
