"""One list of refusals: the specification's, the library's table, its functions and the reference are the same."""

from __future__ import annotations

import ast
import re
from collections import defaultdict
from collections.abc import Iterator
from functools import cache, lru_cache
from pathlib import Path

import pytest

import secagg
from secagg.errors import ErrorCode
from secagg.pairwise.rules.table import RULES, Role, Rule
from secagg.pairwise.transcript import VERSIONS
from tests.support.reference_parties import SPECS

PACKAGE = Path(secagg.__file__).parent
RULES_ROOM = PACKAGE / "pairwise" / "rules"
TEXT = "\n".join((SPECS / f"secagg-v{version}.md").read_text(encoding="utf-8") for version in VERSIONS)
REQUIREMENTS = dict(re.findall(r"^\*\*(R-[A-Z]+-\d+)\.\*\* (.*?)(?=\n\n|\n#)", TEXT, re.MULTILINE | re.DOTALL))
CODES = {code.value for code in ErrorCode}
NO_REFUSALS = {ErrorCode.PEER_ABORTED, ErrorCode.TOO_FEW_LEFT}
"""Codes that no rule gives: the hosts' own, and one that is reserved."""
FUNCTIONS = [name for rule in RULES for name in rule.functions]


@cache
def read(path: Path) -> ast.Module:
    return ast.parse(path.read_text(encoding="utf-8"))


# -- The specification and the table -----------------------------------------------------------------------------------


def section_9() -> dict[str, tuple[str, set[str]]]:
    """By code: who raises it, and the requirements that it stands for."""
    rows = re.findall(r"^\| `([\w-]+)` \| (both|client|server|host) \| (.*) \|$", TEXT, re.MULTILINE)
    found: dict[str, tuple[str, set[str]]] = {}
    for code, role, requirements in rows:  # a later version adds to what a code stands for
        _, before = found.get(code, (role, set()))
        found[code] = role, before | set(re.findall(r"R-[A-Z]+-\d+", requirements))
    return found


def test_the_specifications_codes_name_the_rules_that_give_them() -> None:
    by_code: dict[str, tuple[Role, set[str]]] = defaultdict(lambda: (Role(0), set()))
    for rule in RULES:
        for code in rule.codes:
            role, requirements = by_code[code]
            by_code[code] = role | rule.role, requirements | {*rule.requirements}
    roles = {Role.BOTH: "both", Role.CLIENT: "client", Role.SERVER: "server"}
    told = section_9()
    assert {code for code, (_, requirements) in told.items() if not requirements} == NO_REFUSALS
    assert {code: row for code, row in told.items() if row[1]} == {
        code: (roles[role], requirements) for code, (role, requirements) in by_code.items()
    }


def test_what_the_text_marks_with_a_code_is_a_rule_of_the_client() -> None:
    marked = {(name, code) for name, text in REQUIREMENTS.items() for code in re.findall(r"\[`([\w-]+)`", text)}
    clients = {
        (name, code)
        for rule in RULES
        if rule.role is Role.CLIENT and rule.functions
        for name in rule.requirements
        for code in rule.codes
    }
    # R-SIGN-2 says which cohorts R-CONFIG-12 refuses; R-WIRE-7 stands in section 7, which marks nothing.
    assert clients - marked == {("R-SIGN-2", "cohort-not-vouched"), ("R-WIRE-7", "malformed")}
    assert marked - clients == set()


def test_what_holds_by_construction_has_no_function_and_no_code() -> None:
    marked = {name for name, text in REQUIREMENTS.items() if "[by construction]" in text}
    assert marked == {name for rule in RULES if not rule.functions for name in rule.requirements}
    assert not [rule for rule in RULES if not rule.functions and rule.codes]


OF_ANOTHER_RULE = {
    ("R-CONFIG-14", "too-large"): "which round id the answer to a refusal has",
    ("R-CONFIG-14", "malformed"): "the same",
    ("R-CONFIG-14", "wrong-version"): "the same",
    ("R-STATE-3", "wrong-session"): "R-WIRE-6 in the state DONE",
    ("R-UNMASK-4", "conflict"): "R-WIRE-8 for a message whose bad shares were left out",
    ("R-WIRE-7", "wrong-length"): "the server's lengths, which are R-SHARE-8's, R-MASK-6's and R-UNMASK-4's",
    ("R-WIRE-8", "malformed"): "R-WIRE-3 for an Invitation that comes again",
    ("R-WIRE-8", "survivors-changed"): "R-SURVIVORS-6",
}
"""Where a requirement speaks of a code that is another one's, and of what."""


def test_every_requirement_that_names_a_code_is_a_rule_with_this_code() -> None:
    named = {(name, code) for name, text in REQUIREMENTS.items() for code in re.findall(r"`([\w-]+)`", text)}
    rules = {(name, code.value) for rule in RULES for name in rule.requirements for code in rule.codes}
    assert {(name, code) for name, code in named if code in CODES} - rules == set(OF_ANOTHER_RULE)


SAYS_REFUSE = {
    "R-SIGN-1": "when a signature does not verify, for R-ROSTER-6, R-CONFIRM-6 and the rules of a server",
    "R-STATE-3": "R-STATE-1 and R-WIRE-6, in the states that are ended",
    "R-MASK-1": "the host's vector: an error of the host's",
    "R-ATTACH-1": "what the host attaches to it: the same",
    "R-CONFIG-14": "what a client answers when it refuses",
    "R-ABORT-5": "the same",
    "R-ABORT-4": "which requirements give the codes",
    "R-JOIN-2": "what a refusal leaves as it was",
}
"""Requirements that speak of refusing without being a refusal, and of what."""


def test_every_requirement_that_says_refuse_is_a_rule() -> None:
    says = {name for name, text in REQUIREMENTS.items() if re.search(r"\b(refuse[sd]?|refusals?|reject)\b", text)}
    rules = {name for rule in RULES for name in rule.requirements}
    assert says - rules == set(SAYS_REFUSE)
    assert rules <= set(REQUIREMENTS)


def test_no_requirement_stands_in_two_rows() -> None:
    names = [name for rule in RULES for name in rule.requirements]
    assert len(set(names)) == len(names)


# -- The table and the functions ---------------------------------------------------------------------------------------


def functions_of(module: str) -> dict[str, ast.FunctionDef]:
    body = read(RULES_ROOM / f"{module}.py").body
    return {node.name: node for node in body if isinstance(node, ast.FunctionDef) and not node.name.startswith("_")}


MODULES = {module: functions_of(module) for module in ("wire", "client", "server")}


def test_every_function_is_in_the_table_once() -> None:
    assert sorted(FUNCTIONS) == sorted(f"{module}.{name}" for module, found in MODULES.items() for name in found)
    assert {path.stem for path in RULES_ROOM.glob("*.py")} == {"__init__", "table", *MODULES}


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule.requirements[0])
def test_functions_cite_what_they_carry_out(rule: Rule) -> None:
    cited: set[str] = set()
    for name in rule.functions:
        module, function = name.split(".")
        docstring = ast.get_docstring(MODULES[module][function]) or ""
        begins = re.match(r"((?:R-[A-Z]+-\d+, )*R-[A-Z]+-\d+): \S", docstring)
        assert begins, f"{name}: its docstring begins with the requirement"
        cited |= set(begins[1].split(", "))
    assert cited == ({*rule.requirements} if rule.functions else set())


def codes_under(module: str, name: str) -> set[str]:
    """The codes in a function, and in what it uses of the module's private helpers and tables."""
    body = read(RULES_ROOM / f"{module}.py").body
    parts: dict[str, ast.AST] = {node.name: node for node in body if isinstance(node, ast.FunctionDef)}
    parts |= {
        node.target.id: node.value
        for node in body
        if isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name) and node.value is not None
    }
    nodes = [*ast.walk(parts[name])]
    private = {node.id for node in nodes if isinstance(node, ast.Name) and node.id.startswith("_")} & set(parts)
    nodes += [node for part in private for node in ast.walk(parts[part])]
    return {
        node.attr
        for node in nodes
        if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name) and node.value.id == "ErrorCode"
    }


@pytest.mark.parametrize("rule", [rule for rule in RULES if rule.functions], ids=lambda rule: rule.requirements[0])
def test_functions_give_the_codes_of_their_row(rule: Rule) -> None:
    given = set()
    for name in rule.functions:
        module, function = name.split(".")
        given |= {ErrorCode[code] for code in codes_under(module, function)}
    assert given == {*rule.codes}


def aliases(tree: ast.Module) -> dict[str, str]:
    """What a module calls the modules of rules."""
    return {
        alias.asname or alias.name: alias.name
        for node in ast.walk(tree)
        if isinstance(node, ast.ImportFrom) and node.module == "secagg.pairwise.rules"
        for alias in node.names
    }


@lru_cache(maxsize=1)
def called() -> dict[str, set[str]]:
    """By function of a rule: the modules of the library that call it."""
    found: dict[str, set[str]] = defaultdict(set)
    for path in PACKAGE.rglob("*.py"):
        tree = read(path)
        known = aliases(tree)
        for node in ast.walk(tree):
            if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name) and node.value.id in known:
                name = f"{known[node.value.id]}.{node.attr}"
                found[name].add(".".join(path.relative_to(PACKAGE).with_suffix("").parts))
    return found


def test_every_function_is_called_and_by_those_who_keep_it() -> None:
    calls = called()
    assert set(calls) == set(FUNCTIONS)
    for rule in RULES:
        for name in rule.functions:
            if name.startswith("wire."):
                continue
            # A partial sum, and what it adds with, are the server's part of MASK at another place.
            at_server = ("pairwise.server", "pairwise.partial", "pairwise.sums")
            kept_by = "pairwise.client" if rule.role is Role.CLIENT else at_server
            places = {place for place in calls[name] if not place.startswith(kept_by)}
            assert places == ({"pairwise.policy"} if name == "client.within_policy" else set()), name


@pytest.mark.parametrize("role", [Role.CLIENT, Role.SERVER])
def test_both_roles_call_what_both_keep(role: Role) -> None:
    package = "pairwise.client" if role is Role.CLIENT else "pairwise.server"
    for name in ("wire.of_session", "wire.in_phase", "wire.not_conflicting"):
        assert any(place.startswith(package) for place in called()[name]), name


def test_nothing_else_in_the_protocol_refuses() -> None:
    """PeerError is made, and a code is given, in the room of the rules alone."""
    makers, givers = set(), set()
    for path in (PACKAGE / "pairwise").rglob("*.py"):
        if path.parent == RULES_ROOM:
            continue
        for node in ast.walk(read(path)):
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "PeerError":
                makers.add(path.name)
            if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name) and node.value.id == "ErrorCode":
                givers.add((path.parent.name, path.name, node.attr))
    assert makers == set()
    assert givers == {("server", "machine.py", "UNKNOWN_SENDER")}, "a stranger is not remembered, as members are"


def test_every_requirement_is_cited_where_the_library_carries_it_out() -> None:
    """What is refused, by its function (see above); everything else, outside of this room."""
    elsewhere = (path for path in PACKAGE.rglob("*.py") if path.parent != RULES_ROOM)
    cited = {name for path in elsewhere for name in re.findall(r"\bR-[A-Z]+-\d+\b", path.read_text(encoding="utf-8"))}
    refused = {name for rule in RULES if rule.functions for name in rule.requirements}
    assert set(REQUIREMENTS) - refused - cited == set()


# -- The reference -----------------------------------------------------------------------------------------------------


def refusals_of_the_reference() -> Iterator[tuple[str, str, str]]:
    """Where the reference refuses with a code of section 9: the place, the code, and the function up to there."""
    for path in (SPECS / "reference").glob("*.py"):
        tree, lines = read(path), path.read_text(encoding="utf-8").splitlines()
        classes = [node for node in tree.body if isinstance(node, ast.ClassDef)]
        bodies = [tree.body, *(node.body for node in classes)]
        for function in (node for body in bodies for node in body if isinstance(node, ast.FunctionDef)):
            for node in ast.walk(function):
                if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "require":
                    for constant in ast.walk(node.args[1]):
                        if isinstance(constant, ast.Constant) and constant.value in CODES:
                            upto = "\n".join(lines[function.lineno - 1 : node.end_lineno])
                            yield f"{path.name}:{node.lineno}", str(constant.value), upto


def test_the_reference_cites_what_it_carries_out() -> None:
    requirements = {code: names for code, (_, names) in section_9().items()}
    places = [
        place
        for place, code, upto in refusals_of_the_reference()
        if not requirements[code] & set(re.findall(r"R-[A-Z]+-\d+", upto))
        # A config that does not decode is unsound, whatever is wrong with its bytes.
        and not (place.startswith("rules.py") and code == "malformed")
    ]
    assert places == []
    assert len([*refusals_of_the_reference()]) > 50
