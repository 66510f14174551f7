"""The commands' help is written in whole sentences, and says what happens without an option."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

import pytest
import typer

from secagg.cli.app import app

# Where a help of one of these forms stood, a reader had to guess what was meant.
CLIPPED = {
    "a default behind a semicolon or a comma": re.compile(r"[;,] (?:those|that) (?:of|in)\b|; [^.;]*\bwithout\.$"),
    "a sentence without a subject": re.compile(r"^(?:How (?:many|long|much)|Of |At |On |For |In |From )"),
    "a phrase of the house": re.compile(r"\bwhoever\b|\bor those\b|\bso many\b|\ba file each\b", re.IGNORECASE),
    "a double negation": re.compile(r"\bnot un\w+|\bnever not\b|\bno[tr]? .{0,20}\bwithout\b"),
}
DEFAULT = re.compile(r"\(default(?: of the share)?: [^()]+\)\.?$")


def commands(command: Any = None, path: tuple[str, ...] = ("secagg",)) -> Iterator[tuple[str, Any]]:
    command = command or typer.main.get_command(app)
    yield " ".join(path), command
    for name, inner in getattr(command, "commands", {}).items():
        yield from commands(inner, (*path, name))


COMMANDS = dict(commands())
PARAMETERS = [
    pytest.param(command, parameter, id=f"{name} {parameter.name}")
    for name, command in COMMANDS.items()
    for parameter in command.params
    if parameter.name != "help"
]


def test_there_is_something_to_look_at() -> None:
    assert {"secagg simulate", "secagg plan", "secagg identity new", "secagg vectors check"} <= set(COMMANDS)
    assert {"secagg serve", "secagg join"} <= set(COMMANDS)
    assert len(PARAMETERS) > 90


@pytest.mark.parametrize("name", COMMANDS)
def test_a_command_says_what_it_does(name: str) -> None:
    text = COMMANDS[name].help or ""
    assert text[0].isupper()
    for paragraph in text.split("\n\n"):
        assert " ".join(paragraph.split()).endswith("."), paragraph


@pytest.mark.parametrize(("command", "parameter"), PARAMETERS)
def test_a_parameter_says_what_it_is_for(command: Any, parameter: Any) -> None:
    text = " ".join((parameter.help or "").split())
    assert len(text.split()) >= 3, f"too short: {text!r}"
    assert text[0].isupper() or text.startswith("wss://"), text
    assert text.endswith("."), text
    for fault, pattern in CLIPPED.items():
        assert not pattern.search(text), f"{fault}: {text}"


@pytest.mark.parametrize(("command", "parameter"), PARAMETERS)
def test_an_option_that_need_not_be_given_says_what_happens_without_it(command: Any, parameter: Any) -> None:
    """Typer shows a default that is a value; a default that is computed is spelt out as "(default: ...)"."""
    text = " ".join((parameter.help or "").split())
    if "default" in text.lower():
        assert DEFAULT.search(text), f"spell it as (default: ...) at the end: {text}"
