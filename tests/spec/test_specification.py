"""What the specification's tables say is what the code does."""

from __future__ import annotations

import re

import pytest
from reference import client as reference_client
from reference import server as reference_server
from reference import wire
from vectors import recipes

from secagg import AbortCode, Suite, ThreatModel
from secagg.errors import ErrorCode
from secagg.pairwise import config, messages, transcript
from secagg.pairwise.config import Policy, RoundConfig
from secagg.pairwise.messages import Abort, Invitation
from secagg.pairwise.parameters import DEFAULT_DELTA, DEFAULT_GAMMA
from secagg.pairwise.transitions import CLIENT, SERVER, input_name
from tests.support.reference_parties import SPECS

TEXT = (SPECS / "secagg-v1.md").read_text(encoding="utf-8")
SECOND = (SPECS / "secagg-v2.md").read_text(encoding="utf-8")


SINCE_2 = {messages.UnmaskWithAttachment, *(getattr(messages, name) for name in wire.SINCE_2)}


def section(title: str) -> str:
    """What stands under a heading, up to the next one of the same level or above."""
    level = re.search(rf"^(#+) {re.escape(title)}$", TEXT, re.MULTILINE)
    assert level, title
    rest = TEXT[level.end() :]
    end = re.search(rf"^#{{1,{len(level[1])}}} ", rest, re.MULTILINE)
    return rest[: end.start()] if end else rest


def tables(text: str) -> list[list[list[str]]]:
    """The tables in a text: rows of cells without backticks, the heading first."""
    found = re.findall(r"(?:^\|.*\|\n)+", text, re.MULTILINE)
    return [
        [[cell.strip().strip("`") for cell in line.strip("|\n").split("|")] for line in table.splitlines()]
        for table in found
    ]


def rows(title: str, number: int = 0) -> list[list[str]]:
    """The rows of a section's table, without its heading."""
    return tables(section(title))[number][2:]


@pytest.mark.parametrize("title", ["5.1 Client", "5.2 Server"])
def test_the_state_machines_are_those_of_the_code(title: str) -> None:
    code = CLIENT if title.endswith("Client") else SERVER
    for model, column in ((ThreatModel.SEMI_HONEST, 2), (ThreatModel.ACTIVE, 3)):
        told = {(row[0], row[1]): row[column] for row in rows(title) if row[column] != "-"}
        assert told == {(state.value, input_name(given)): to.value for (state, given), to in code[model].items()}


def test_the_state_machines_are_those_of_the_reference() -> None:
    for column, model in ((2, "semi_honest"), (3, "active")):
        states = [row[0] for row in rows("5.1 Client") if row[column] != "-"]
        assert [*states, "DONE"] == [*reference_client.STATES[model]]
        assert {row[0]: row[1] for row in rows("5.1 Client") if row[1][0].isupper()} == reference_client.AWAITED
        phases = [row[0] for row in rows("5.2 Server") if row[column] != "-"]
        assert [*phases, "DONE"] == [*reference_server.PHASES[model]]


def test_every_label_is_in_the_table_and_no_other() -> None:
    constants = {name: value for name, value in vars(transcript).items() if name.isupper() and isinstance(value, bytes)}
    ours = {value.decode() for name, value in constants.items() if name not in ("_OUTSIDE", "_SHARE_PHASE")}
    added = [row for table in tables(SECOND) if table[0] == ["label", "what", "fields"] for row in table[2:]]
    told = [row[0] for row in [*rows("6.2 Labels"), *added]]
    assert sorted(told) == sorted(ours)


def test_labels_stand_in_one_module_alone() -> None:
    package = SPECS.parent / "secagg"
    holders = [path for path in package.rglob("*.py") if "secagg/v" in path.read_text(encoding="utf-8")]
    assert [path.name for path in holders] == ["transcript.py"]


def test_message_types_are_those_of_the_code_and_of_the_reference() -> None:
    told = {row[1]: int(row[0]) for row in rows("12. Code points", 0)}
    kinds = (Abort, Invitation, *set(messages.PLAIN.values()) - SINCE_2)
    assert told == {kind.__name__: kind.__struct_config__.tag for kind in kinds}
    assert told == {name: number for name, (number, _) in wire.MESSAGES.items()}


def test_fields_are_those_of_the_code_and_of_the_reference() -> None:
    for name, _, told in rows("7.2 Messages"):
        fields = re.findall(r"`(\w+)`: ", f"`{told}`".replace("``", "`"))
        assert fields == list(getattr(messages, name).__struct_fields__[2:])
        assert fields == [field.partition(":")[0] for field in wire.MESSAGES[name][1].split()]


def test_suites_threat_models_and_abort_codes_are_those_of_the_code() -> None:
    suites, models, aborts = (rows("12. Code points", number) for number in (1, 2, 3))
    suites += [
        [number, name, masks, sealing]
        for table in tables(SECOND)
        if table[0][0] == "suite"
        for number, name, _, masks, sealing in table[2:]
    ]
    assert {(int(row[0]), row[1]) for row in suites} == {(suite.value, suite.name) for suite in Suite}
    for number, _, masks, sealing in suites:
        bits = 8 * Suite(int(number)).key_bytes
        assert (masks, sealing) == (f"AES-{bits}-CTR", f"AES-{bits}-GCM")
    assert {row[0] for row in models} == {model.value for model in ThreatModel}
    assert {int(row[0]): row[1] for row in aborts} == {code.value: code.name for code in AbortCode}
    assert [row[1].lower().replace("_", "-") for row in aborts] == [*wire.ABORTS]


def test_error_codes_are_those_of_the_code() -> None:
    since_2 = {row[0] for table in tables(SECOND) if table[0][0] == "code" for row in table[2:]}
    told = [row[0] for row in rows("9. Errors and blame")]
    assert told == [code.value for code in ErrorCode if code.value in told]
    assert {code.value for code in ErrorCode} == {*told, *since_2}


def test_size_limits_are_those_of_the_code() -> None:
    made = RoundConfig.for_cohort(1000, 777, gamma=0.1, delta=0.1)
    n, k, m, b = made.clients, made.neighbours, made.length, made.modulus.bits
    names = {
        "n": n,
        "k": k,
        "m": m,
        "b": b,
        "ceil": lambda value: -int(-value // 1),
        "min": min,
        "bitlength": int.bit_length,
    }
    for name, formula in tables(section("7.1 Encoding"))[0][2:]:
        product = re.sub(r"(\d)([a-z])", r"\1*\2", formula)
        product = re.sub(r"(\d) (min)", r"\1*\2", product)
        product = re.sub(r"\(k \+ 1\) bit", "(k + 1)*bit", product).replace("m b", "m*b")
        assert eval(product, names) + 64 == messages.max_bytes(made, getattr(messages, name)), name


def test_the_ranges_of_a_config_are_those_of_the_code() -> None:
    rule = re.search(r"\*\*R-CONFIG-4\.\*\*(.*?)\n\n", TEXT, re.DOTALL)
    assert rule
    exponents = {2 ** int(power) for power in re.findall(r"2\^(\d+)", rule[1])}
    assert exponents == {config.MAX_CLIENTS, config.MAX_LENGTH}
    assert f"{config.MAX_CONTEXT_BYTES} bytes" in rule[1]


def test_the_recommended_policy_is_the_codes_default() -> None:
    told = {row[0]: row[1] for row in rows("8.1 Joining")}
    assert set(told) == {
        *("sigma", "grinding_bits", "colluders", "neighbours"),
        *("min_survivors", "bits of inputs", "length", "context"),
    }
    policy = Policy()
    assert told["sigma"] == f"at least {policy.min_sigma}"
    assert told["grinding_bits"] == f"at least {policy.min_grinding_bits}"
    assert told["neighbours"] == f"at most {policy.max_neighbours}"
    assert f"max(1, floor({float(DEFAULT_GAMMA)} n))" in told["colluders"]
    assert f"A = max(1, floor({float(DEFAULT_GAMMA)} n)) and D = max(1, floor({float(DEFAULT_DELTA)} n))" in TEXT


def test_normative_text_points_at_no_file_of_code() -> None:
    normative = TEXT[TEXT.index("\n## 1. ") :].replace(section("13. Test vectors"), "")
    assert re.findall(r"[\w/]+\.py\b", normative) == []


def test_examples_are_there_for_every_message_and_are_what_is_sent() -> None:
    shown = dict(re.findall(r"<!-- example: (\w+) -->\n```text\n(.*?)\n```", TEXT, re.DOTALL))
    assert set(shown) == {"Config", *wire.MESSAGES}
    for name, lines in shown.items():
        data = bytes.fromhex("".join(line.split("  ")[0] for line in lines.splitlines()))
        if name == "Config":
            assert RoundConfig.from_bytes(data).to_bytes() == data
        elif name == "Invitation":
            assert messages.encode(messages.invitation.decode(data, len(data), None)) == data
        else:
            decoder = messages.to_client if name in ("Abort", *wire.TO_CLIENT) else messages.to_server
            decoded = decoder.decode(data, len(data), 1)
            assert type(decoded).__name__ == name
            assert messages.encode(decoded) == data
    assert recipes.with_examples(TEXT) == TEXT


def test_the_contents_name_every_section() -> None:
    listed = re.findall(r"^\d+\. \[(.*?)\]\(#(.*?)\)$", TEXT, re.MULTILINE)
    headings = re.findall(r"^## (\d+)\. (.*)$", TEXT, re.MULTILINE)
    assert [title for _, title in headings] == [title for title, _ in listed]
    anchors = [re.sub(r"[^\w -]", "", f"{number}. {title}".lower()).replace(" ", "-") for number, title in headings]
    assert anchors == [anchor for _, anchor in listed]


def test_decisions_are_numbered_pages_that_say_what_was_rejected() -> None:
    pages = sorted((SPECS / "decisions").glob("[0-9]*.md"))
    for number, path in enumerate(pages, 1):
        page = path.read_text(encoding="utf-8")
        assert path.name.startswith(f"{number:04}-")
        assert page.startswith(f"# {number}. ")
        assert len(page.splitlines()) <= 60, path.name
        assert [part for part in ("Context", "Decision", "Rejected") if f"**{part}.**" not in page] == [], path.name
