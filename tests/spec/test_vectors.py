"""The vectors: valid, as the reference generates them, kept by the library; and the replayer looks at every value."""

from __future__ import annotations

import copy
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from jsonschema import Draft202012Validator
from typer.testing import CliRunner
from vectors import recipes
from vectors import replay as reference_replay

from secagg import ParameterError
from secagg.cli import vectors as command
from secagg.errors import ErrorCode
from secagg.pairwise.rules.table import RULES, Role
from secagg.testing import vectors
from tests.support.reference_parties import SPECS

FILES = sorted((SPECS / "vectors" / "v1").glob("*.json"))
CONTENTS = {path.stem: json.loads(path.read_text(encoding="utf-8")) for path in FILES}


def test_there_is_a_file_of_every_kind_and_no_other() -> None:
    since_2 = {"chains", "envelopes"}  # their tests are in test_version_2
    assert sorted(CONTENTS) == sorted(set(vectors.KINDS) - since_2)
    assert all(content["kind"] == name for name, content in CONTENTS.items())


def test_they_are_small() -> None:
    assert sum(path.stat().st_size for path in FILES) < 2_500_000


@pytest.mark.parametrize("name", CONTENTS)
def test_files_follow_the_schema(name: str) -> None:
    schema = json.loads((SPECS / "vectors" / "schema.json").read_text(encoding="utf-8"))
    Draft202012Validator.check_schema(schema)
    Draft202012Validator(schema).validate(CONTENTS[name])


@pytest.mark.parametrize("name", CONTENTS)
def test_ids_are_unique_and_flags_are_described_and_used(name: str) -> None:
    content = CONTENTS[name]
    ids = [test["id"] for test in content["tests"]]
    assert len(set(ids)) == len(ids)
    assert {flag for test in content["tests"] for flag in test["flags"]} == set(content["flags"])


def test_generating_them_again_gives_the_same_bytes() -> None:
    """Every file of version 1 and of the private encoding, and no other; those of version 2 are in test_version_2."""
    made = recipes.generated(SPECS)
    there = {path for folder in ("v1", "private-v1") for path in (SPECS / "vectors" / folder).glob("*.json")}
    assert {path for path in made if path.suffix == ".json"} == there
    for path, content in made.items():
        assert path.read_text(encoding="utf-8") == content, f"{path.name}: run python specs/generate.py"


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_the_library_keeps_every_vector(path: Path) -> None:
    results = vectors.check_file(path)
    assert [result.id for result in results] == [test["id"] for test in CONTENTS[path.stem]["tests"]]
    assert [result for result in results if not result.ok] == []


def drafts(*kinds: str) -> list[dict[str, Any]]:
    """The tests of some kinds in version 2."""
    paths = [SPECS / "vectors" / "v2" / f"{kind}.json" for kind in kinds]
    return [test for path in paths for test in json.loads(path.read_text(encoding="utf-8"))["tests"]]


AT_A_CLOSE = {ErrorCode.DISPUTED}
"""No message is refused with it: a server names somebody when it closes COMPLAIN."""


def test_every_refusal_of_a_client_and_of_a_server_has_a_vector() -> None:
    met = {test.get("error") for content in CONTENTS.values() for test in content["tests"]}
    met |= {test.get("error") for test in drafts("chains", "client-refusals", "server-refusals")}
    without = {ErrorCode.PEER_ABORTED, ErrorCode.TOO_FEW_LEFT} | AT_A_CLOSE  # the first two refuse nothing
    assert {code.value for code in ErrorCode} - met == {code.value for code in without}


@pytest.mark.parametrize(("role", "kind"), [(Role.CLIENT, "client-refusals"), (Role.SERVER, "server-refusals")])
def test_every_rule_has_a_vector_with_each_of_its_codes(role: Role, kind: str) -> None:
    tests = CONTENTS[kind]["tests"] + drafts(kind, "chains")
    for rule in (rule for rule in RULES if role in rule.role):
        about = [test for test in tests if {*test["requirements"]} & {*rule.requirements}]
        assert about, rule
        assert {code.value for code in {*rule.codes} - AT_A_CLOSE} <= {test.get("error") for test in about}, rule


# What a vector says is looked at: changed, it fails.

EXPECTED = {
    "hashes": ("output",),
    "keys": ("key", "mask_key", "commitment", "seed", "coefficients", "salts"),
    "masks": ("elements",),
    "packing": ("packed", "vector"),
    "sharing": ("shares", "secret"),
    "graphs": ("neighbours_of",),
    "parameters": ("neighbours", "threshold"),
    "configs": ("digest", "config"),
    "proofs": ("root",),
    "messages": ("encoded", "limits", "bitmap", "ids"),
}
"""What the tests of a kind that hold expect; of the others it is the error."""


def changed(value: Any) -> Any:
    """Something else of the same type."""
    if isinstance(value, list):
        return [*value[:-1], changed(value[-1])] if value else ["1"]
    if isinstance(value, dict):
        last = [*value][-1]
        return {**value, last: changed(value[last])}
    if isinstance(value, int):
        return value + 1
    return value[:-1] + ("0" if value[-1:] != "0" else "1")


def broken(name: str) -> Iterator[tuple[str, dict[str, Any]]]:
    """The file with a single test, of which one expected value is changed: for every test and every value."""
    content = CONTENTS[name]
    for test in content["tests"]:
        for field in EXPECTED[name] if test["ok"] else ("error",):
            if field in test:
                yield f"{test['id']}: {field}", {**content, "tests": [{**test, field: changed(test[field])}]}


@pytest.mark.parametrize("name", EXPECTED)
def test_a_changed_value_is_noticed(name: str, tmp_path: Path) -> None:
    path = tmp_path / "broken.json"
    for where, content in broken(name):
        path.write_text(json.dumps(content), encoding="utf-8")
        (result,) = vectors.check_file(path)
        assert not result.ok, where
        assert result.detail, where


def test_a_changed_intermediate_value_is_noticed(tmp_path: Path) -> None:
    """Of the first round with a ring: every level of the tree, every value of a client and of a pair."""
    content = CONTENTS["rounds"]
    test = next(test for test in content["tests"] if test["intermediate"].get("ring"))
    path, between = tmp_path / "broken.json", test["intermediate"]
    client, pair = next(iter(between["clients"])), between["pairs"][0]
    places = [("tree", level) for level in range(len(between["tree"]))]
    places += [(name,) for name in ("round_id", "roster_digest", "session", "ring")]
    places += [("clients", client, name) for name in between["clients"][client]]
    places += [("pairs", 0, name) for name in pair if name != "clients"]
    for place in places:
        bad = copy.deepcopy(test)
        holder = bad["intermediate"]
        for step in place[:-1]:
            holder = holder[step]
        holder[place[-1]] = changed(holder[place[-1]])
        path.write_text(json.dumps({**content, "tests": [bad]}), encoding="utf-8")
        (result,) = vectors.check_file(path)
        assert not result.ok, place


@pytest.mark.parametrize("name", CONTENTS)
def test_the_reference_keeps_every_vector(name: str) -> None:
    """As an implementation that looks at the file alone; the test above sees to it that the file is the recipes'."""
    assert list(reference_replay.failures(CONTENTS[name])) == []


@pytest.mark.parametrize("name", ["rounds", "client-refusals", "server-refusals"])
def test_a_changed_operation_is_noticed(name: str, tmp_path: Path) -> None:
    content = CONTENTS[name]
    tests = {json.dumps(sorted({op["op"] for op in test["operations"]})): test for test in content["tests"]}
    path, noticed = tmp_path / "broken.json", 0
    for test in tests.values():
        for place, operation in enumerate(test["operations"]):
            for field in ("out", "event", "error", "culprits", "state", "sum", "included", "phase", "token"):
                if field not in operation:
                    continue
                bad = copy.deepcopy(test)
                other = _other_message(operation[field], bad) if field == "out" else changed(operation[field])
                bad["operations"][place][field] = other
                path.write_text(json.dumps({**content, "tests": [bad]}), encoding="utf-8")
                (result,) = vectors.check_file(path)
                assert not result.ok, f"{test['id']}, operation {place}: {field}"
                noticed += 1
    assert noticed


def _other_message(out: Any, test: dict[str, Any]) -> Any:
    """The name of a message with other bytes."""
    test["messages"]["another"] = "00"
    return "another" if isinstance(out, str) else {**out, "0": "another"}


@pytest.mark.parametrize(
    "content", ["", "[]", "{}", "[" * 100_000, '{"protocol": "secagg", "version": 1, "kind": "other", "tests": []}']
)
def test_what_is_no_file_of_vectors_is_refused(content: str, tmp_path: Path) -> None:
    path = tmp_path / "other.json"
    path.write_text(content, encoding="utf-8")
    with pytest.raises(ParameterError, match="not a file of test vectors"):
        vectors.check_file(path)


def test_vectors_of_another_version_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "v3.json"
    path.write_text(json.dumps({**CONTENTS["hashes"], "version": 3}), encoding="utf-8")
    with pytest.raises(ParameterError, match="version 3"):
        vectors.check_file(path)


# The command.


def test_the_command_counts_tests() -> None:
    ran = CliRunner().invoke(command.app, [str(FILES[0]), "--json"])
    assert ran.exit_code == 0
    tests = len(CONTENTS[FILES[0].stem]["tests"])
    assert json.loads(ran.stdout) == {"ok": True, "files": {str(FILES[0]): {"tests": tests, "failed": {}}}}
    ran = CliRunner().invoke(command.app, [str(path) for path in FILES[3:6]])
    assert ran.exit_code == 0
    assert "hashes" in ran.stdout


def test_the_command_names_what_fails(tmp_path: Path) -> None:
    _, content = next(broken("hashes"))
    path = tmp_path / "broken.json"
    path.write_text(json.dumps(content), encoding="utf-8")
    ran = CliRunner().invoke(command.app, [str(path)])
    assert ran.exit_code == 1
    assert "hashes-1: output" in ran.stdout
    path.write_text("?", encoding="utf-8")
    ran = CliRunner().invoke(command.app, [str(path)])
    assert ran.exit_code == 2
    assert ran.stderr.startswith("secagg vectors check: ")
