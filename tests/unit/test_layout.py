"""Which module may import which: the arrows of the architecture, read from the source."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from graphlib import TopologicalSorter

import pytest
from package_imports import MODULES, imports

from secagg.pairwise import transcript

OUTER = {
    *("audit", "certificate_files", "credentials", "differencing", "durable", "encoding", "privacy", "robust"),
    *("statistics", "simulation", "testing", "adapters", "cli", "__main__"),
}
"""What the protocol core must not know of."""
FACADE = "secagg"  # __init__.py
MEASURES_THE_BARE_LIBRARY = {"secagg.simulation.costs"}
MAKES_CERTIFICATES = "secagg.adapters.net.certificates"


def top(module: str) -> str:
    return module.split(".")[0]


def area(module: str) -> str:
    """The first name below the package."""
    return module.split(".")[1] if "." in module else ""


CORE = sorted(name for name in MODULES if name != FACADE and area(name) not in OUTER)


@pytest.mark.parametrize(
    ("libraries", "allowed"),
    [
        ({"cryptography", "nacl"}, {"secagg.primitives", MAKES_CERTIFICATES, *MEASURES_THE_BARE_LIBRARY}),
        ({"numba", "llvmlite"}, {"secagg.arithmetic"}),
        ({"typer", "rich", "sklearn"}, {"secagg.cli"}),
        ({"matplotlib"}, {"secagg.cli", "secagg.statistics.drawing"}),
        ({"hypothesis"}, {"secagg.testing"}),
        ({"websockets", "prometheus_client", "safetensors"}, {"secagg.adapters.net"}),
        ({"flwr"}, {"secagg.adapters.flower"}),
        ({"nvflare"}, {"secagg.adapters.nvflare"}),
        ({"dp_accounting"}, {"secagg.privacy"}),
        ({"simpleeval", "pandas", "pyarrow"}, {"secagg.statistics"}),
    ],
)
def test_each_library_has_one_home(libraries: set[str], allowed: set[str]) -> None:
    importers = {name for name in MODULES if {top(module) for module in imports(name)} & libraries}
    assert importers, "nobody imports it: the test looks for the wrong name"
    homes = tuple(f"{home}." for home in allowed)
    assert [name for name in importers if not f"{name}.".startswith(homes)] == []


@pytest.mark.parametrize("name", CORE)
def test_the_core_knows_nothing_of_what_is_built_on_it(name: str) -> None:
    own = {module for module in imports(name) if top(module) == "secagg"}
    assert {module for module in own if area(module) in OUTER} == set()
    assert FACADE not in own, "the facade imports the core, not the other way round"


@pytest.mark.parametrize("name", sorted(name for name in MODULES if area(name) == "simulation"))
def test_the_simulation_knows_nothing_of_those_who_use_it(name: str) -> None:
    assert {area(module) for module in imports(name)} & {"testing", "adapters", "cli"} == set()


def test_only_the_command_that_replays_vectors_uses_what_the_library_tests_itself_with() -> None:
    users = {name for name in MODULES if "testing" in {area(module) for module in imports(name)}}
    assert {name for name in users if area(name) != "testing"} == {"secagg.cli.vectors"}


ARROWS = {
    "errors": set(),
    "wording": set(),
    "arithmetic": {"errors", "wording"},
    "primitives": {"errors", "arithmetic", "wording"},
    "envelopes": {"errors", "primitives", "arithmetic", "wording"},
    "events": {"errors"},
    "outcome": {"errors", "arithmetic", "wording"},
    "identity": {"errors", "primitives", "pairwise", "wording"},  # its signatures are over the transcript's statements
    "durable": {"errors"},
    "credentials": {"errors", "identity", "durable"},
    "differencing": {"durable", "errors", "wording"},
    "pairwise": {"envelopes", "errors", "events", "outcome", "identity", "primitives", "arithmetic", "wording"},
    "machines": {"errors", "events", "identity", "outcome", "pairwise"},
    "hosting": {"errors", "events", "machines", "outcome", "pairwise", "wording"},
    "released": set(),
    "audit": {"errors", "identity", "pairwise"},
    "certificate_files": {"errors", "pairwise"},
    "encoding": {"errors", "primitives", "arithmetic", "wording"},
    "privacy": {"_install", "errors", "durable", "encoding", "primitives", "arithmetic", "wording"},
    "robust": {"_install", "encoding", "errors", "statistics", "wording"},
    "statistics": {
        *("_install", "differencing", "durable", "errors", "wording", "encoding", "arithmetic", "pairwise"),
        *("privacy", "simulation"),
    },
    "simulation": {
        *("envelopes", "errors", "events", "outcome", "machines", "identity", "pairwise", "primitives"),
        "arithmetic",
    },
}
"""What each room of the library may import from the others.  An arrow that nobody uses is taken out of the table."""


@pytest.mark.parametrize("room", ARROWS)
def test_arrows_point_one_way(room: str) -> None:
    own = {module for name in MODULES if area(name) == room for module in imports(name) if top(module) == "secagg"}
    assert {area(module) for module in own} - {room} == ARROWS[room]


def test_every_room_that_others_build_on_has_its_arrows() -> None:
    built_on = {area(module) for name in MODULES for module in imports(name) if top(module) == "secagg"}
    assert built_on - {"", "_install", "testing", "adapters", "cli"} == ARROWS.keys()


@pytest.mark.parametrize(
    ("name", "allowed"),
    [
        ("primitives.suites", set()),
        ("primitives.secret", set()),
        ("primitives.calls", set()),
        ("primitives.kdf", set()),
        ("primitives.agreement", {"suites"}),
        ("primitives.aead", {"suites"}),
        ("primitives.signing", {"suites"}),
        ("primitives.streams", {"suites"}),
        ("primitives.secret_sharing", set()),
        ("primitives.masking", {"streams", "suites"}),
        ("pairwise.transcript", set()),
        ("pairwise.phases", set()),
        ("pairwise.values", {"phases"}),
        ("pairwise.merkle", {"transcript"}),
        ("pairwise.keys", {"transcript"}),
        ("pairwise.rules.table", set()),
        ("pairwise.rules.wire", {"transcript"}),
        ("pairwise.rules.client", {"merkle", "phases", "transcript"}),
        ("pairwise.rules.server", {"phases"}),
        ("pairwise.records", {"rules.wire", "transcript"}),
        ("pairwise.messages", {"phases", "records", "rules.wire", "transcript"}),
        ("pairwise.transitions", {"messages", "phases"}),
        ("pairwise.explanation", set()),
        ("pairwise.tails", set()),
        ("pairwise.rates", set()),
        ("pairwise.parameters", {"explanation", "phases", "rates", "tails", "values"}),
        ("pairwise.grouping", {"explanation", "parameters", "tails", "transcript", "values"}),
        ("pairwise.graph", {"grouping", "parameters", "values"}),
        ("arithmetic.modulus", set()),
    ],
)
def test_the_lowest_modules_of_a_room(name: str, allowed: set[str]) -> None:
    room = f"secagg.{name.split('.')[0]}."
    assert {module.removeprefix(room) for module in imports(f"secagg.{name}") if module.startswith(room)} == allowed


def test_the_formulas_of_the_parameters_stand_once() -> None:
    """The quorum's, the fewest survivors', and the largest loss: whoever needs one asks a demand."""
    for formula in (r"colluders\) // 2 \+ 1", r"threshold \+ 1, .*colluders \+ 2\)", r"2 \* \S*quorum >"):
        holders = [name for name, tree in MODULES.items() if re.search(formula, ast.unparse(tree))]
        assert holders == ["secagg.pairwise.parameters"], formula


def test_client_and_server_do_not_know_each_other() -> None:
    for one, other in (("client", "server"), ("server", "client")):
        names = [name for name in MODULES if name.startswith(f"secagg.pairwise.{one}")]
        assert names
        met = {module for name in names for module in imports(name)}
        assert not {module for module in met if module.startswith(f"secagg.pairwise.{other}")}


def test_no_import_goes_round() -> None:
    arrows = {name: (imports(name, lazy=False) & MODULES.keys()) - {name} for name in MODULES}
    for name, targets in arrows.items():  # a package is not waiting for its own parts
        arrows[name] = {target for target in targets if not target.startswith(name + ".") or name == FACADE}
    order = list(TopologicalSorter(arrows).static_order())
    assert order.index("secagg.errors") < order.index("secagg.pairwise.client.machine") < order.index("secagg")


def test_labels_are_in_one_place() -> None:
    """Every domain-separation label begins with the protocol's name and version, and only one module has any."""
    with_labels = {
        name
        for name, tree in MODULES.items()
        for node in ast.walk(tree)
        if isinstance(node, ast.Constant) and isinstance(node.value, bytes | str)
        if (node.value if isinstance(node.value, bytes) else node.value.encode()).startswith(b"secagg/v")
    }
    assert with_labels == {"secagg.pairwise.transcript"}


def test_labels_differ() -> None:
    constants = {name: value for name, value in vars(transcript).items() if name.isupper() and isinstance(value, bytes)}
    labels = [value for name, value in constants.items() if name not in ("_OUTSIDE", "_SHARE_PHASE")]
    assert len(labels) == len(set(labels)) >= 20


def test_every_key_is_derived_in_one_place() -> None:
    """The encoders alone have derivations of their own: they belong to no round."""
    infos = {name for name in vars(transcript.Labels) if name.endswith("_info")}
    assert len(infos) == 10
    steps = {("kdf", step) for step in ("derive", "extract", "expand")} | {("transcript", "suspended_state")}
    users = {
        name
        for name, tree in MODULES.items()
        for node in ast.walk(tree)
        if isinstance(node, ast.Attribute)
        if node.attr in infos or (isinstance(node.value, ast.Name) and (node.value.id, node.attr) in steps)
    } - {"secagg.pairwise.transcript"}
    importers = {
        name
        for name, tree in MODULES.items()
        for node in ast.walk(tree)
        if isinstance(node, ast.ImportFrom)
        if {(str(node.module).removeprefix("secagg.primitives."), alias.name) for alias in node.names} & steps
    }
    assert (users, importers) == ({"secagg.pairwise.keys"}, {"secagg.encoding.rounding", "secagg.privacy.keys"})


def test_a_suite_becomes_a_number_where_bytes_are_made() -> None:
    numbered = {
        name
        for name, tree in MODULES.items()
        for node in ast.walk(tree)
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "int"
        if "suite" in ast.unparse(node).lower()
    }
    assert numbered == {"secagg.pairwise.config", "secagg.pairwise.keys"}


def test_the_core_does_no_io() -> None:
    """No clock, no socket, no file: ``credentials`` reads and writes the files of a member."""
    forbidden = {"time", "datetime", "asyncio", "socket", "logging", "subprocess", "random", "pathlib", "sqlite3"}
    offenders = {name: {top(module) for module in imports(name)} & forbidden for name in CORE}
    assert {name: found for name, found in offenders.items() if found} == {}


@pytest.mark.parametrize("name", CORE)
def test_the_core_starts_no_thread(name: str) -> None:
    """Work goes to the executor that it is handed, and it may look at what that is; a lock is no thread."""
    starters = {"Thread", "Timer", "Process", "ThreadPoolExecutor", "ProcessPoolExecutor", "start_new_thread"}
    looks = [node for node in ast.walk(MODULES[name]) if isinstance(node, ast.Call) and is_isinstance(node.func)]
    looked_at = {argument for look in looks for argument in look.args}
    used = {
        node.id if isinstance(node, ast.Name) else node.attr
        for node in ast.walk(MODULES[name])
        if is_name(node) and node not in looked_at
    }
    assert used & starters == set()


def is_isinstance(node: ast.AST) -> bool:
    return isinstance(node, ast.Name) and node.id == "isinstance"


def is_name(node: ast.AST) -> bool:
    return isinstance(node, ast.Name | ast.Attribute)


@pytest.mark.parametrize("name", CORE)
def test_input_is_not_checked_by_assert(name: str) -> None:
    assert not [node.lineno for node in ast.walk(MODULES[name]) if isinstance(node, ast.Assert)]


MOST_PARAMETERS = 10
"""What belongs together travels as one value: a command's options, for example, are one dataclass."""
WRITTEN_BY_ITS_USERS = {
    "secagg.adapters.flower.client.SecAggMod.__init__",
    "secagg.adapters.flower.server.SecAggStrategy.__init__",
    "secagg.adapters.nvflare.controller.SecAggFedAvg.__init__",
}
"""Keyword arguments of public classes, which users write into a ClientApp, a ServerApp or a job."""


def functions(tree: ast.AST, prefix: str) -> Iterator[tuple[str, ast.FunctionDef | ast.AsyncFunctionDef]]:
    """Every function and method, by its full name."""
    for node in ast.iter_child_nodes(tree):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            yield f"{prefix}.{node.name}", node
        named = isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef)
        yield from functions(node, f"{prefix}.{node.name}" if named else prefix)


def test_no_function_of_adapters_and_commands_takes_more_than_ten_arguments() -> None:
    found = {
        function: len([*node.args.posonlyargs, *node.args.args, *node.args.kwonlyargs])
        for name, tree in MODULES.items()
        if area(name) in {"adapters", "cli"}
        for function, node in functions(tree, name)
    }
    assert len(found) > 300, "the test looks in the wrong place"
    assert {name for name, count in found.items() if count > MOST_PARAMETERS} == WRITTEN_BY_ITS_USERS
