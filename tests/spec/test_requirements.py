"""Every requirement has a test, every tie names a requirement and a test that exist."""

from __future__ import annotations

import json
import re
import tomllib
from collections import defaultdict
from pathlib import Path

import pytest

from secagg.pairwise.transcript import VERSIONS
from tests.support.reference_parties import SPECS
from tests.support.ties import exists

TEXT = "\n".join((SPECS / f"secagg-v{version}.md").read_text(encoding="utf-8") for version in VERSIONS)
TIES: dict[str, list[str]] = tomllib.loads((SPECS / "requirements.toml").read_text(encoding="utf-8"))
DEFINED = re.findall(r"^\*\*(R-[A-Z]+-\d+)\.\*\*", TEXT, re.MULTILINE)


def named_by_vectors() -> dict[str, set[str]]:
    """Requirement to the kinds of files of which a test names it."""
    found = defaultdict(set)
    for path in (path for version in VERSIONS for path in (SPECS / "vectors" / f"v{version}").glob("*.json")):
        for test in json.loads(path.read_text(encoding="utf-8"))["tests"]:
            for requirement in test["requirements"]:
                found[requirement].add(f"vectors:{path.stem}")
    return found


def test_numbers_are_given_once_and_in_order() -> None:
    assert len(set(DEFINED)) == len(DEFINED)
    by_name = defaultdict(list)
    for requirement in DEFINED:
        name, number = requirement.rsplit("-", 1)
        by_name[name].append(int(number))
    assert all(sorted(numbers) == list(range(1, len(numbers) + 1)) for numbers in by_name.values())


def test_every_requirement_has_a_test() -> None:
    assert [requirement for requirement in DEFINED if not TIES.get(requirement)] == []


def test_no_tie_names_an_unknown_requirement() -> None:
    assert sorted(set(TIES) - set(DEFINED)) == []
    assert sorted(set(named_by_vectors()) - set(DEFINED)) == []


@pytest.mark.parametrize("requirement", TIES)
def test_named_tests_exist(requirement: str) -> None:
    vectors = named_by_vectors()[requirement]
    listed = {tie for tie in TIES[requirement] if tie.startswith("vectors:")}
    assert listed == vectors, "the vectors that name a requirement are those that it names"
    assert [tie for tie in TIES[requirement] if tie not in vectors and not exists(tie)] == []


def test_references_between_requirements_lead_somewhere() -> None:
    root = SPECS.parent
    paths = [path for place in ("specs", "secagg", "tests", "docs") for path in (root / place).rglob("*.*")]
    for path in (path for path in paths if path.suffix in (".md", ".py", ".tla")):
        mentioned = set(re.findall(r"\bR-[A-Z]+-\d+\b", path.read_text(encoding="utf-8")))
        assert mentioned - set(DEFINED) == set(), path.relative_to(root)


def test_what_does_not_exist_is_noticed() -> None:
    this = Path(__file__).relative_to(SPECS.parent).as_posix()
    assert exists(f"{this}::test_what_does_not_exist_is_noticed")
    assert not exists(f"{this}::test_that_nobody_wrote")
    assert not exists(f"{this}::exists")
    assert not exists("tests/spec/test_nothing.py::test_nothing")
