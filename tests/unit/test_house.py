"""Where the repository's own modules lie, and how they find one another."""

from __future__ import annotations

import ast
import re
from collections.abc import Collection
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


def test_nothing_changes_where_modules_are_found() -> None:
    """Pytest's setting ``pythonpath`` says it, once; a script finds what lies beside it."""
    lines = {name: changes_of_the_path(tree) for name, tree in TREES.items()}
    assert {name: found for name, found in lines.items() if found} == {}


@pytest.mark.parametrize("line", ["sys.path.insert(0, here)", "sys.path += [here]", "sys.path[:0] = [here]"])
def test_a_change_of_the_path_is_seen(line: str) -> None:
    assert changes_of_the_path(ast.parse(line)) == [1]


def test_what_tests_share_is_in_its_own_room() -> None:
    """Below tests there are test modules, conftests, and tests/support."""
    paths = [Path(name) for name in TESTS if not name.startswith("tests/support/")]
    strangers = [path for path in paths if path.name not in ("__init__.py", "conftest.py")]
    assert [path for path in strangers if not path.name.startswith("test_")] == []


def test_no_test_module_imports_another() -> None:
    imported = {
        (name, alias.name)
        for name in TESTS
        for node in ast.walk(TREES[name])
        if isinstance(node, ast.Import | ast.ImportFrom)
        for alias in [*node.names, ast.alias(str(getattr(node, "module", "")))]
    }
    assert {(name, module) for name, module in imported if module.split(".")[-1].startswith("test_")} == set()


CALLED_FROM_OUTSIDE = {
    "log_message": "the standard library's HTTP server calls it",
}
"""Names that nothing in the library uses, and why they are there."""


def exported(tree: ast.Module) -> set[str]:
    """What a module lists in ``__all__``."""
    lists = [node for node in tree.body if isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == "__all__"]
    return {name for node in lists for name in ast.literal_eval(node.value)}


def names_of(tree: ast.AST, public: Collection[str] = ()) -> list[str]:
    """What a module defines at its top, and what its classes define: a public class is whole, and for its users.

    What Hypothesis and the command line find by a decorator is left out, and so is what Python itself looks up, and
    what pytest finds by its name in a contract that others subclass.
    """
    found = []
    for node in ast.iter_child_nodes(tree):
        if isinstance(node, ast.ClassDef):
            found += [node.name, *(names_of(node) if node.name not in public else [])]
        elif isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            rules = [ast.unparse(decorator).split("(")[0] for decorator in node.decorator_list]
            is_contract = isinstance(tree, ast.ClassDef) and node.name.startswith("test_")
            found += [] if is_contract or {"rule", "invariant", "app.command"} & set(rules) else [node.name]
        elif isinstance(tree, ast.Module) and isinstance(node, ast.Assign | ast.AnnAssign):
            targets = node.targets if isinstance(node, ast.Assign) else [node.target]
            found += [target.id for target in targets if isinstance(target, ast.Name)]
    return [name for name in found if not name.startswith("__")]


def used_in(tree: ast.AST) -> set[str]:
    """Every name that a module reads, imports, looks up or spells out in a string."""
    found: set[str] = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Name) and not isinstance(node.ctx, ast.Store):
            found.add(node.id)
        elif isinstance(node, ast.Attribute):
            found.add(node.attr)
        elif isinstance(node, ast.alias):
            found.add(node.name)
        elif isinstance(node, ast.Constant) and isinstance(node.value, str):
            found |= set(re.findall(r"\w+", node.value)) if len(node.value) < 80 else set()
    return found


def test_the_library_has_no_dead_code() -> None:
    """The tools of ``secagg.testing`` are used by tests; what the documentation shows or is
    generated from, by whoever reads it."""
    library = {name: tree for name, tree in TREES.items() if name.startswith("secagg/")}
    used = set().union(*(used_in(tree) for name, tree in TREES.items() if name.startswith(("secagg/", "docs/"))))
    public = set().union(*map(exported, library.values()))
    tools = set().union(*(used_in(TREES[name]) for name in TESTS))
    pages = "\n".join(path.read_text(encoding="utf-8") for path in (ROOT / "docs").rglob("*.md"))
    shown = set(re.findall(r"\w+", pages))
    dead = {
        defined
        for name, tree in library.items()
        for defined in names_of(tree, public)
        if defined not in used | shown | public and not (name.startswith("secagg/testing/") and defined in tools)
    }
    assert dead == CALLED_FROM_OUTSIDE.keys()


def test_dead_code_is_seen() -> None:
    tree = ast.parse("LIMIT = 3\n\nclass Used:\n    def idle(self): ...\n\ndef caller(): return Used()\n")
    assert set(names_of(tree)) - used_in(tree) == {"LIMIT", "idle", "caller"}
