"""What the specification of version 2 says is what the code does, and library and reference keep its vectors."""

from __future__ import annotations

import copy
import dataclasses
import json
import re
from dataclasses import replace
from pathlib import Path

import msgspec
import pytest
from jsonschema import Draft202012Validator
from reference import client, rules, server, wire
from vectors import recipes
from vectors import replay as reference_replay
from vectors.recipes import cases
from vectors.recipes.configs import base_config

from secagg import RoundConfig, ThreatModel
from secagg.pairwise import config_wire, messages, transcript, transitions
from secagg.pairwise.values import MAX_ATTACHMENT_BYTES
from secagg.testing import vectors
from secagg.testing.replay import Mismatch, Replay
from tests.support.reference_parties import SPECS

TEXT = (SPECS / "secagg-v2.md").read_text(encoding="utf-8")
FILES = sorted((SPECS / "vectors" / "v2").glob("*.json"))
CONTENTS = {path.stem: json.loads(path.read_text(encoding="utf-8")) for path in FILES}


def test_there_are_files_of_the_kinds_that_the_text_names_and_no_others() -> None:
    listed = re.search(r"holds files of the kinds (.*?), for what", TEXT, re.DOTALL)
    assert listed
    assert sorted(re.findall(r"`([\w-]+)`", listed[1])) == sorted(CONTENTS)
    assert all((content["kind"], content["version"]) == (name, 2) for name, content in CONTENTS.items())


def test_they_are_small() -> None:
    """As far as they can be: a roster of suite 3 holds 2,432 bytes of keys for each neighbour."""
    assert sum(path.stat().st_size for path in FILES) < 5_800_000


@pytest.mark.parametrize("name", CONTENTS)
def test_files_follow_the_schema_and_describe_their_flags(name: str) -> None:
    content = CONTENTS[name]
    schema = json.loads((SPECS / "vectors" / "schema.json").read_text(encoding="utf-8"))
    Draft202012Validator(schema).validate(content)
    ids = [test["id"] for test in content["tests"]]
    assert len(set(ids)) == len(ids)
    assert {flag for test in content["tests"] for flag in test["flags"]} == set(content["flags"])


def test_generating_them_again_gives_the_same_bytes() -> None:
    generated = recipes.generated_for_version_2(SPECS)
    assert sorted(generated) == FILES
    for path, content in generated.items():
        assert path.read_text(encoding="utf-8") == content, f"{path.name}: run python specs/generate.py"


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_the_library_keeps_every_vector(path: Path) -> None:
    results = vectors.check_file(path)
    assert len(results) == len(CONTENTS[path.stem]["tests"])
    assert [result for result in results if not result.ok] == []


@pytest.mark.parametrize("name", CONTENTS)
def test_the_reference_keeps_every_vector(name: str) -> None:
    assert list(reference_replay.failures(CONTENTS[name])) == []


SECRETS = {"ciphertext": 0, "sealed": 1088, "commitment": -1}
"""Where a part of the last record of pair secrets begins or ends."""
CHANGED_SHARES = {
    "seed commitment": ("seed_commitment", 0),
    "commitments": ("commitments", -1),
    "ciphertext": ("sealed", 0),
    "sealed pair": ("sealed", -1),
    **{f"pair secret's {name}": ("pair_secrets", place - 1168 * (place >= 0)) for name, place in SECRETS.items()},
}


@pytest.mark.parametrize("part", CHANGED_SHARES)
def test_a_changed_share_of_suite_3_is_noticed(part: str) -> None:
    """The library cannot make it again, and compares what the receivers get of it."""
    test = next(test for test in CONTENTS["rounds"]["tests"] if "encapsulations" in test["draws"])
    of_client = (operation for operation in test["operations"] if operation["op"].startswith("client."))
    operations = [operation for operation in of_client if operation["client"] == 0][:3]
    Replay(test).run(operations)
    name, (field, place) = operations[-1]["out"], CHANGED_SHARES[part]
    message = bytes.fromhex(test["messages"][name])
    changed = cases.changed(message, **{field: lambda old: cases.flipped(old, place)})
    bad = {**test, "messages": {**test["messages"], name: changed.hex()}}
    with pytest.raises(Mismatch, match="Share"):
        Replay(bad).run(operations)


def test_a_changed_encapsulation_is_noticed_by_the_reference() -> None:
    content = CONTENTS["rounds"]
    test = copy.deepcopy(next(test for test in content["tests"] if "encapsulations" in test["draws"]))
    test["draws"]["encapsulations"][0][0] = bytes(32).hex()
    ((name, difference),) = reference_replay.failures({**content, "tests": [test]})
    assert name == test["id"]
    assert "client.receive" in difference


def test_a_changed_operation_of_a_chain_is_noticed(tmp_path: Path) -> None:
    """Of a test with each set of operations and each outcome: every value that is expected."""
    content = CONTENTS["chains"]
    tests = {
        json.dumps([test.get("error"), *(op["op"] for op in test["operations"])]): test for test in content["tests"]
    }
    path, noticed = tmp_path / "broken.json", 0
    for test in tests.values():
        for place, operation in enumerate(test["operations"]):
            for field in [field for field in ("out", "error", "state", "sum") if field in operation]:
                bad = copy.deepcopy(test)
                bad["messages"]["another"] = "00"
                was = operation[field]
                bad["operations"][place][field] = [*was[:-1], f"{was[-1]}1"] if field == "sum" else "another"
                path.write_text(json.dumps({**content, "tests": [bad]}), encoding="utf-8")
                (result,) = vectors.check_file(path)
                # A total that is refused either way is as good as another one.
                assert not result.ok or (field == "sum" and "error" in operation), test["comment"]
                noticed += 1
    assert noticed > 40


def test_the_text_names_the_labels_that_stay() -> None:
    stay = re.findall(r"`secagg/v1 ([\w ]+)`", TEXT.replace("\n", " "))
    assert set(stay) == {"cohort", "login", "suspended client"}
    assert all(label.encode() in vars(transcript).values() for label in stay)


def test_the_extensions_are_those_of_the_code_and_of_the_reference() -> None:
    rows = re.findall(r"^\| (\d+) \| `(\w+)` \| (.*) \| (.*) \| [\d.]+ \|$", TEXT, re.MULTILINE)
    told = {int(number): (name, b"" if default == "no bytes" else int(default)) for number, name, _, default in rows}
    assert told == dict(config_wire.EXTENSIONS) == rules.EXTENSIONS
    most = re.search(r"`attachment_bytes` \| unsigned integer, at most (\d+) ", TEXT)
    assert most
    assert int(most[1]) == MAX_ATTACHMENT_BYTES


def test_every_field_of_a_config_is_on_the_wire() -> None:
    """In version 1 without the extensions, whose fields have their defaults there."""
    on_wire = {
        *config_wire._Version1.__struct_fields__,
        *(extension.field for extension in config_wire.EXTENSIONS.values()),
    }
    assert {field.name for field in dataclasses.fields(RoundConfig)} == on_wire - {"ring_bits", "prime"} | {"modulus"}


def test_the_message_that_changes_is_that_of_the_code_and_of_the_reference() -> None:
    message = re.compile(r"^\| (\w+) \| (?:client|server) \| (.*) \|$", re.MULTILINE)
    row, added = message.findall(TEXT)[0], message.findall(TEXT, TEXT.index("## 12. Complaints"))
    name, fields = row[0], re.findall(r"`(\w+)`: ", row[1])
    assert fields == wire.fields_of(name, 2) == list(messages.UnmaskWithAttachment.__struct_fields__[2:])
    assert name == messages.Unmask.__name__
    others = set(wire.MESSAGES) - {name}
    assert all(wire.fields_of(other, 1) == wire.fields_of(other, 2) for other in others)
    assert [name for name, _ in added] == [*wire.SINCE_2]
    for name, told in added:
        fields = re.findall(r"`(\w+)`: ", told)
        assert fields == wire.fields_of(name, 2) == list(getattr(messages, name).__struct_fields__[2:])
    numbers = {name: int(number) for number, name in re.findall(r"^\| (\d+) \| ([A-Z]\w+) \|$", TEXT, re.MULTILINE)}
    assert numbers == {name: number for name, (number, _) in wire.SINCE_2.items()}
    assert numbers == {name: getattr(messages, name).__struct_config__.tag for name in numbers}


def test_the_states_that_are_added_are_those_of_the_code_and_of_the_reference() -> None:
    section = TEXT[TEXT.index("## 12. Complaints") :]
    told = {
        (row[0], row[1]): row[2] for row in re.findall(r"^\| ([A-Z]+) \| (\w+) \| ([A-Z]+) \|$", section, re.MULTILINE)
    }
    for model in ThreatModel:
        for table, plain in (
            (transitions.CLIENT_WITH_COMPLAINTS, transitions.CLIENT),
            (transitions.SERVER_WITH_COMPLAINTS, transitions.SERVER),
        ):
            code = {
                (state.value, transitions.input_name(given)): to.value
                for (state, given), to in table[model].items()
                if plain[model].get((state, given)) is not to
            }
            assert code == {edge: to for edge, to in told.items() if edge in code}
    assert {edge[1]: to for edge, to in told.items() if edge[1] != "close"} == client.AFTER
    assert server.phases_of(replace(base_config(), complaints=1))[1:5] == ("SHARE", "COMPLAIN", "ANSWER", "MASK")


HYBRID_FORMS = {
    "Advertise": messages.HybridAdvertise,
    "Roster": messages.HybridRoster,
    "Share": messages.ShareWithSecrets,
    "Shares": messages.SharesWithSecrets,
}


def test_the_messages_of_suite_3_are_those_of_the_code() -> None:
    """Their fields, and the lengths of those that the text gives as bytes[x]."""
    table = TEXT[TEXT.index("### 10.3") : TEXT.index("**R-HYBRID-16.**")]
    rows = re.findall(r"^\| (\w+) \| (?:client|server) \| (.*) \|$", table, re.MULTILINE)
    assert [name for name, _ in rows] == list(HYBRID_FORMS)
    for name, told in rows:
        kind = HYBRID_FORMS[name]
        assert re.findall(r"`(\w+)`", told) == list(kind.__struct_fields__[2:])
        types = {field.name: field.type for field in msgspec.inspect.type_info(kind).fields}
        for field, length in re.findall(r"`(\w+)`: bytes\[(\d+)\]", told):
            assert (types[field].min_length, types[field].max_length) == (int(length), int(length))


@pytest.mark.parametrize("clients", [5, 40, 1000])
def test_the_limits_of_suite_3_are_those_of_the_code(clients: int) -> None:
    made = RoundConfig.for_cohort(clients, 7, suite="hybrid", version=2)
    n, k = made.clients, made.neighbours
    names = {"n": n, "k": k, "s": k // 2 + 1, "min": min, "bitlength": int.bit_length}
    table = TEXT[TEXT.index("**R-HYBRID-16.**") : TEXT.index("### 10.4")]
    limits = re.findall(r"^\| (\w+) \| (\d.*) \|$", table, re.MULTILINE)
    assert [name for name, _ in limits] == list(HYBRID_FORMS)
    for name, formula in limits:
        product = re.sub(r"(\d)([ks])", r"\1*\2", formula).replace("32 min", "32*min").replace(") bit", ")*bit")
        assert eval(product, names) + 64 == messages.max_bytes(made, HYBRID_FORMS[name]), name


def test_the_contents_name_every_section() -> None:
    listed = re.findall(r"^\d+\. \[(.*?)\]\(#(.*?)\)$", TEXT, re.MULTILINE)
    headings = re.findall(r"^## (\d+)\. (.*)$", TEXT, re.MULTILINE)
    assert [title for _, title in headings] == [title for title, _ in listed]
    anchors = [re.sub(r"[^\w -]", "", f"{number}. {title}".lower()).replace(" ", "-") for number, title in headings]
    assert anchors == [anchor for _, anchor in listed]
