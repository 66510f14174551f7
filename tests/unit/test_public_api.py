"""The public names: exactly these, each explained, and cheap to import."""

from __future__ import annotations

import ast
import inspect
import subprocess
import sys
import tomllib
from pathlib import Path
from types import ModuleType

import pytest

import secagg
import secagg.simulation
import secagg.simulation.costs
import secagg.simulation.traffic
import secagg.testing

PACKAGE = Path(secagg.__file__).parent
PUBLIC = [
    "AbortCode",
    "Accepted",
    "Admitted",
    "AlreadyMasked",
    "Blame",
    "Client",
    "ClientAborted",
    "ClientEvent",
    "ClientMachine",
    "ClientState",
    "ClientStep",
    "Contribution",
    "Coordinator",
    "Directory",
    "Duplicate",
    "DurableTokens",
    "Encoder",
    "ErrorCode",
    "Event",
    "Exact",
    "Failure",
    "Finished",
    "GroupSum",
    "Identity",
    "InHand",
    "InputError",
    "InputNeeded",
    "Late",
    "LayoutPolicy",
    "MemoryDirectory",
    "Merged",
    "Misbehaved",
    "Modulus",
    "Outgoing",
    "ParameterError",
    "PartialSum",
    "PeerError",
    "Policy",
    "ReleasedInputs",
    "Result",
    "RoundAborted",
    "RoundConfig",
    "SecAggError",
    "Security",
    "Server",
    "ServerEvent",
    "ServerMachine",
    "ServerState",
    "ServerStep",
    "StateError",
    "Step",
    "Suite",
    "ThreatModel",
    "UsageError",
    "UsedTokens",
    "load_directory",
    "load_identity",
    "save_directory",
]
SIMULATION = [
    "FATES",
    "PHASES",
    "Faults",
    "Nuisance",
    "Outcome",
    "PhaseCost",
    "RoundDriver",
    "SeededRandomness",
    "Trouble",
    "cheaper_carrier",
    "choose_full",
    "expected_sum",
    "make_cohort",
    "phases_of",
    "simulate",
    "simulate_prepared",
]
COSTS = ["UnitCosts", "Work", "client_work", "mask_bytes", "measure", "server_work", "work_of"]
MOVED_TO_SIMULATION = [
    "FATES",
    "PHASES",
    "Faults",
    "Nuisance",
    "Outcome",
    "PhaseCost",
    "SeededRandomness",
    "Trouble",
    "expected_sum",
    "make_cohort",
    "simulate",
]
UNIONS = {"ClientEvent", "Event", "ServerEvent"}
FORMER = {"Step": "ClientStep"}
"""Names that stay for one release, and what they are called now."""
HEAVY = (
    "numba",
    "llvmlite",
    "scipy",
    "torch",
    "sklearn",
    "matplotlib",
    "typer",
    "rich",
    "hypothesis",
    "pytest",
    "dp_accounting",
)


def in_a_fresh_process(code: str) -> str:
    """What it prints, with this very package on the path."""
    command = [sys.executable, "-c", code]
    done = subprocess.run(command, cwd=PACKAGE.parent, capture_output=True, text=True, check=True)
    return done.stdout.strip()


def loaded_by(statement: str) -> list[str]:
    report = f"print(*sorted({{name.split('.')[0] for name in sys.modules}} & set({HEAVY!r})))"
    return in_a_fresh_process(f"import sys; {statement}; {report}").split()


def test_the_names() -> None:
    assert secagg.__all__ == PUBLIC
    assert sorted(PUBLIC) == PUBLIC


def test_there_is_nothing_else_in_the_package() -> None:
    """Imports, the version, the list, and what finds the encoding at its first use: no class, no side effect."""
    docstring, *body = ast.parse((PACKAGE / "__init__.py").read_text(encoding="utf-8")).body
    assert isinstance(docstring, ast.Expr)
    (for_type_checkers,) = [node for node in body if isinstance(node, ast.If)]
    assert ast.unparse(for_type_checkers.test) == "TYPE_CHECKING"
    rest = [*(node for node in body if node is not for_type_checkers), *for_type_checkers.body]
    imports = [node for node in rest if isinstance(node, ast.ImportFrom) and node.module != "typing"]
    imported = {name.asname or name.name for node in imports for name in node.names}
    assigned = {target.id for node in rest if isinstance(node, ast.Assign) for target in node.targets}  # type: ignore[attr-defined]
    assert all(isinstance(node, ast.ImportFrom | ast.Assign | ast.FunctionDef) for node in rest)
    assert imported == {*PUBLIC, "encoding"}
    assert assigned == {"__all__", "__version__"}
    assert [node.name for node in rest if isinstance(node, ast.FunctionDef)] == ["__getattr__", "__dir__"]


def members(kind: type) -> list[tuple[str, object]]:
    """The public methods and properties that a class defines itself."""
    defined = vars(kind).items()
    return [(name, thing) for name, thing in defined if not name.startswith("_") and explainable(thing)]


def explainable(thing: object) -> bool:
    return isinstance(thing, property | classmethod | staticmethod) or inspect.isfunction(thing)


def explained(thing: object) -> bool:
    text = getattr(thing, "__doc__", None)
    return bool(text and len(text.split()) >= 2)


@pytest.mark.parametrize("name", FORMER)
def test_a_former_name_is_the_same_thing(name: str) -> None:
    assert getattr(secagg, name) is getattr(secagg, FORMER[name])


@pytest.mark.parametrize("name", sorted(set(PUBLIC) - UNIONS))
def test_every_name_is_explained(name: str) -> None:
    thing = getattr(secagg, name)
    assert explained(thing)
    assert not thing.__doc__.startswith(f"{name}("), "what the dataclass decorator says is no explanation"
    if inspect.isclass(thing):
        unexplained = [member for member, value in members(thing) if not explained(value)]
        assert unexplained == []


def test_the_names_of_the_simulation() -> None:
    assert secagg.simulation.__all__ == SIMULATION
    assert secagg.simulation.costs.__all__ == COSTS
    assert secagg.simulation.traffic.__all__ == ["traffic"]


@pytest.mark.parametrize("module", [secagg.simulation, secagg.simulation.costs, secagg.simulation.traffic])
def test_every_name_of_the_simulation_is_explained(module: ModuleType) -> None:
    for name in module.__all__:
        thing = getattr(module, name)
        assert explained(thing) or isinstance(thing, tuple)


def test_the_names_that_moved_to_the_simulation_are_still_in_testing() -> None:
    """For one release: what a host's tests import from ``secagg.testing`` is the very same object."""
    assert secagg.testing.__all__ == MOVED_TO_SIMULATION
    for name in MOVED_TO_SIMULATION:
        assert getattr(secagg.testing, name) is getattr(secagg.simulation, name)


@pytest.mark.parametrize(
    "statement",
    [
        "import secagg",
        "import secagg.simulation",
        "import secagg.testing",
        "import secagg.robust",
        "import secagg.privacy.noisy_sum, secagg.privacy.adaptive_clipping",
        "import secagg.privacy.terms, secagg.privacy.layout_file, secagg.privacy.ask",
        "import secagg.__main__",
    ],
)
def test_importing_loads_nothing_heavy(statement: str) -> None:
    assert loaded_by(statement) == []


@pytest.mark.parametrize(
    "module", ["secagg.adapters.net", "secagg.adapters.flower", "secagg.cli.serve_run", "secagg.cli.join_run"]
)
def test_hosts_load_no_accountant_where_no_privacy_is_asked_for(module: str) -> None:
    assert "dp_accounting" not in loaded_by(f"import {module}")


@pytest.mark.parametrize("module", ["secagg.adapters.net", "secagg.cli.app", "secagg.statistics"])
def test_commands_and_hosts_without_a_study_need_nothing_of_the_extra_for_statistics(module: str) -> None:
    extra = {"matplotlib", "pandas", "pyarrow", "scipy", "simpleeval"}
    assert in_a_fresh_process(f"import sys, {module}; print({extra!r} & {{*sys.modules}})") == "set()"


def test_a_config_and_an_invitation_load_no_kernel() -> None:
    """Hosts that run a process for each message pay the import each time: ADVERTISE needs no compiled code."""
    statement = (
        "import secagg; server = secagg.Server(secagg.RoundConfig.for_cohort(5, 10)); "
        "client = secagg.Client.join(server.invitation(), 0); server.receive(0, client.start()); server.snapshot()"
    )
    assert loaded_by(statement) == []


LATE = (
    *("asyncio", "concurrent.futures", "multiprocessing", "queue", "subprocess"),
    *("email", "http", "ipaddress", "socket", "ssl", "urllib"),
    *("pathlib", "shutil", "sqlite3", "tempfile", "tomllib", "zipfile"),
    *("importlib.metadata", "logging", "random", "secrets", "statistics", "unittest"),
)
"""Of the standard library, what a round needs at most later: work in parallel, networks, files, logs."""


def test_importing_the_library_loads_no_archives_and_no_networks() -> None:
    """Each takes about as long to import as ten of the library's own modules.  What NumPy loads is there anyway."""
    added = "import sys, numpy; before = {*sys.modules}; import secagg; added = sys.modules.keys() - before"
    assert in_a_fresh_process(f"{added}; print(*sorted(added & {{*{LATE!r}}}))") == ""


def test_importing_the_library_leaves_the_encoding_for_its_first_use() -> None:
    """It takes a fifth of the time of the import, and a server, or a host with sums of its own, has no use for it."""
    loaded = (
        "sorted({name.split('.')[1] for name in sys.modules if name.startswith('secagg.')} & {'encoding', 'privacy'})"
    )
    assert in_a_fresh_process(f"import sys, secagg; print({loaded})") == "[]"
    for use in ("secagg.Encoder", "secagg.Exact", "secagg.LayoutPolicy", "secagg.encoding.Layout"):
        assert in_a_fresh_process(f"import sys, secagg; {use}; print({loaded})") == "['encoding']", use


def test_names_that_are_imported_late_are_listed_and_unknown_ones_refused() -> None:
    assert in_a_fresh_process("import secagg; print({*secagg.__all__} - {*dir(secagg)})") == "set()"
    with pytest.raises(AttributeError, match="module 'secagg' has no attribute 'Decoder'"):
        _ = secagg.Decoder


def test_the_search_for_heavy_modules_finds_them() -> None:
    assert {"llvmlite", "numba"} <= set(loaded_by("import numba"))
    names = f"import sys, {', '.join(LATE)}; print(*sys.modules)"
    assert set(LATE) <= set(in_a_fresh_process(names).split())


def test_the_version_is_the_project_s() -> None:
    project = PACKAGE.parent / "pyproject.toml"
    assert secagg.__version__ == tomllib.loads(project.read_text(encoding="utf-8"))["project"]["version"]


def test_the_package_is_typed() -> None:
    assert (PACKAGE / "py.typed").exists()


def test_errors_form_two_families() -> None:
    for kind in (secagg.StateError, secagg.ParameterError, secagg.InputError):
        assert issubclass(kind, secagg.UsageError)
    assert issubclass(secagg.ParameterError, ValueError)
    assert issubclass(secagg.InputError, ValueError)
    for kind in (secagg.UsageError, secagg.PeerError):
        assert kind.__base__ is secagg.SecAggError
