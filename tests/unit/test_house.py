"""Where the repository's own modules lie, and how they find one another."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
TREES = {
    path.relative_to(ROOT).as_posix(): ast.parse(path.read_text(encoding="utf-8"))
    for folder in ("benchmarks", "docs", "examples", "secagg", "specs", "tests")
    for path in sorted((ROOT / folder).rglob("*.py"))
}
TESTS = [name for name in TREES if name.startswith("tests/")]


def changes_of_the_path(tree: ast.AST) -> list[int]:
    """The lines that assign to sys.path, or call a method of it that changes it."""
    found = []
    for node in ast.walk(tree):
        if isinstance(node, ast.Assign | ast.AugAssign):
            changed = node.targets if isinstance(node, ast.Assign) else [node.target]
        elif isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute):
            changed = [node.func.value]
        else:
            continue
        found += [node.lineno for place in changed if ast.unparse(place).startswith("sys.path")]
    return found


@pytest.mark.parametrize("name", [name for name in TREES if not name.startswith("secagg/")])
def test_nothing_changes_where_modules_are_found(name: str) -> None:
    """Pytest's setting ``pythonpath`` says it, once; a script finds what lies beside it."""
    assert changes_of_the_path(TREES[name]) == []


@pytest.mark.parametrize("line", ["sys.path.insert(0, here)", "sys.path += [here]", "sys.path[:0] = [here]"])
def test_a_change_of_the_path_is_seen(line: str) -> None:
    assert changes_of_the_path(ast.parse(line)) == [1]


@pytest.mark.parametrize("name", TESTS)
def test_what_tests_share_is_in_its_own_room(name: str) -> None:
    """Below tests there are test modules, conftests, and tests/support; no test module imports another."""
    path = Path(name)
    assert (
        "support" in path.parts
        or path.stem == "conftest"
        or path.stem.startswith("test_")
        or path.parts[1:] == ("__init__.py",)
    )
    for node in ast.walk(TREES[name]):
        if isinstance(node, ast.ImportFrom):
            imported = {str(node.module), *(f"{node.module}.{alias.name}" for alias in node.names)}
        elif isinstance(node, ast.Import):
            imported = {alias.name for alias in node.names}
        else:
            continue
        assert [module for module in imported if module.split(".")[-1].startswith("test_")] == []
