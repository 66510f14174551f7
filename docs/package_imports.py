"""Which module of ``secagg`` imports which, read from the source; nothing is imported for it.

``generate_architecture`` draws these arrows, and ``tests/unit/test_layout.py`` says which of them there may be.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator
from functools import cache
from pathlib import Path

PACKAGE = Path(__file__).parents[1] / "secagg"


def modules() -> dict[str, ast.Module]:
    """Every module's tree, by its dotted name."""
    found = {}
    for path in sorted(PACKAGE.rglob("*.py")):
        name = ".".join(
            path.relative_to(PACKAGE.parent).with_suffix("").parts
        ).removesuffix(".__init__")
        found[name] = ast.parse(path.read_text(encoding="utf-8"))
    return found


MODULES = modules()


@cache
def imports(name: str, *, lazy: bool = True) -> frozenset[str]:
    """The modules that a module imports, in full; ``lazy``: also those that a function imports when it runs.

    Raises ValueError for a relative import, which would not say from where.
    """
    found: set[str] = set()
    for node in _statements(MODULES[name], lazy=lazy):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            if node.level:
                raise ValueError(
                    f"{name}, line {node.lineno}: a relative import; write the module's full name"
                )
            submodules = {
                f"{node.module}.{alias.name}" for alias in node.names
            } & MODULES.keys()
            found |= submodules
            if len(submodules) < len(node.names):
                found.add(str(node.module))
    return frozenset(found)


def _statements(tree: ast.AST, *, lazy: bool) -> Iterator[ast.AST]:
    for node in ast.iter_child_nodes(tree):
        if _is_type_checking(node) or (not lazy and isinstance(node, ast.FunctionDef)):
            continue
        yield node
        yield from _statements(node, lazy=lazy)


def _is_type_checking(node: ast.AST) -> bool:
    return (
        isinstance(node, ast.If)
        and isinstance(node.test, ast.Name)
        and node.test.id == "TYPE_CHECKING"
    )
