"""Numbers in sentences: one of a thing is not many of it, and no message forgets that."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest

import secagg
from secagg.wording import counted, was

PACKAGE = Path(secagg.__file__).parent
SHOWN = sorted(PACKAGE.rglob("*.py"))
NOUNS = (
    "array|byte|client|coordinate|confirmation|element|neighbour|round|share|signature|survivor|value|vector|warning"
)


@pytest.mark.parametrize(
    ("count", "said"), [(0, "0 clients"), (1, "1 client"), (2, "2 clients"), (1000, "1,000 clients")]
)
def test_a_number_with_its_noun(count: int, said: str) -> None:
    assert counted(count, "client") == said
    assert was(count) == ("was" if count == 1 else "were")


def can_be_one(value: ast.FormattedValue) -> bool:
    """Whether this may be the number 1: a type is none; a threshold and the protocol's constants are larger."""
    shown = ast.unparse(value.value).split(".")[-1]
    return shown not in ("dtype", "threshold") and not shown.isupper()


def numbers_before_plurals(tree: ast.AST) -> list[str]:
    """The text behind a number in an f-string, where it begins with one of the nouns as a plural."""
    found = []
    for node in ast.walk(tree):
        if isinstance(node, ast.JoinedStr):
            for value, text in zip(node.values, node.values[1:], strict=False):
                if isinstance(value, ast.FormattedValue) and isinstance(text, ast.Constant) and can_be_one(value):
                    found += re.findall(rf"^ (?:more |of your )?(?:{NOUNS})s\b.*", str(text.value))
    return found


def test_no_message_says_one_of_many() -> None:
    """The library's ``counted`` knows one from many."""
    found = {
        path.relative_to(PACKAGE).as_posix(): numbers_before_plurals(ast.parse(path.read_text(encoding="utf-8")))
        for path in SHOWN
    }
    assert {name: texts for name, texts in found.items() if texts} == {}


def test_a_plural_behind_a_number_is_seen() -> None:
    assert numbers_before_plurals(ast.parse("f'{n} values'")) == [" values"]
    assert numbers_before_plurals(ast.parse("f'{n} bytes of {SIZE} bytes'")) == [" bytes of "]
    assert numbers_before_plurals(ast.parse("f'{n:,} more arrays of {name}'")) == [" more arrays of "]
    assert numbers_before_plurals(ast.parse("f'{name} has values'")) == []
