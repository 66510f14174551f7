"""What a specification names as the tests of its requirements: whether it is there."""

from __future__ import annotations

import ast

from tests.support.reference_parties import SPECS


def exists(test_id: str) -> bool:
    """Whether a file has a test function of this name, perhaps in a class."""
    file, *names = test_id.split("::")
    path = SPECS.parent / file
    if not path.exists() or not names:
        return False
    body = ast.parse(path.read_text(encoding="utf-8")).body
    for name in names:
        found = [node for node in body if isinstance(node, ast.FunctionDef | ast.ClassDef) and node.name == name]
        if not found:
            return False
        body = found[0].body
    return names[-1].startswith("test_")
