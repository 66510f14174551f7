"""The entry point: with the extras, and without them."""

from __future__ import annotations

import importlib
import json
import tomllib
from pathlib import Path

import pytest

import secagg
from secagg._install import how_to_install
from secagg.cli.extras import advice


def test_version(invoke, run_process):
    assert invoke("--version").stdout == f"secagg {secagg.__version__}\n"
    done = run_process("--version")
    assert (done.returncode, done.stdout, done.stderr) == (0, f"secagg {secagg.__version__}\n", "")


def test_help_names_every_command(invoke):
    shown = invoke("--help")
    assert shown.exit_code == 0
    for command in ("simulate", "plan", "demo", "warmup", "identity"):
        assert command in shown.stdout


def test_console_script_is_main():
    pyproject = Path(__file__).parents[2] / "pyproject.toml"
    module, _, function = tomllib.loads(pyproject.read_text())["project"]["scripts"]["secagg"].partition(":")
    assert callable(getattr(importlib.import_module(module), function))


def test_json_alone_is_on_standard_output(run_process):
    done = run_process("simulate", "--clients", 5, "--dim", 10, "--json")
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["ok"] is True
    assert done.stderr == ""  # no progress without a terminal


@pytest.mark.parametrize("module", ["typer", "rich"])
def test_without_the_extra_it_says_what_to_install(run_process, module):
    done = run_process("simulate", without=module)
    assert done.returncode == 2
    assert done.stdout == ""
    assert done.stderr == f"secagg: {module} is not installed, and this needs it: {how_to_install('cli')}\n"


def test_without_the_extra_it_still_has_a_version(run_process):
    done = run_process("--version", without="typer,rich")
    assert (done.returncode, done.stdout, done.stderr) == (0, f"secagg {secagg.__version__}\n", "")


@pytest.mark.parametrize("module", ["sklearn", "matplotlib"])
def test_the_demo_says_what_to_install(run_process, tmp_path, module):
    done = run_process("demo", without=module)
    assert done.returncode == 2
    assert done.stdout == ""
    loading, why = done.stderr.splitlines()
    assert loading == "loading scikit-learn and its data"
    assert why == f"secagg demo: {module} is not installed, and this needs it: {how_to_install('demo')}"
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("command", ["plan", "simulate"])
def test_a_private_round_says_what_to_install(run_process, command):
    done = run_process(command, "--epsilon", 3, "--delta", 1e-6, without="dp_accounting")
    assert (done.returncode, done.stdout) == (2, "")
    wanted = f"dp_accounting is not installed, and this needs it: {how_to_install('privacy')}"
    assert done.stderr == f"secagg {command}: {wanted}\n"


def test_only_the_demo_needs_its_extra(run_process):
    assert run_process("simulate", "--clients", 5, "--dim", 10, without="sklearn,matplotlib").returncode == 0


def test_a_missing_module_of_the_library_itself_is_not_explained_away():
    broken = ModuleNotFoundError("No module named 'secagg.nowhere'", name="secagg.nowhere")
    with pytest.raises(ModuleNotFoundError) as raised:
        advice(broken, "cli")
    assert raised.value is broken


def test_other_missing_modules_are_not_explained_away(run_process):
    done = run_process("--version", without="numpy")
    assert done.returncode == 1
    assert "ModuleNotFoundError" in done.stderr


def test_warmup_compiles_and_says_how_long_it_took(invoke):
    done = invoke("warmup", "--bits", 11)
    assert done.exit_code == 0
    assert done.stdout.startswith("The kernels of the ring 2^11 are ready after ")


def test_warmup_refuses_a_ring_that_does_not_exist(invoke):
    done = invoke("warmup", "--bits", 65)
    assert done.exit_code == 2
    assert "65" in done.stderr
    assert "1 to 64" in done.stderr
