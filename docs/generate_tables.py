"""Writes the parts of the documentation that something else already holds.

These are the command line's options and what is refused, of the code; the glossary's list of its own headings; and the
README's table of choices, which the first page of the site has as well.

    python docs/generate_tables.py

Each table stands between ``<!-- generated: NAME -->`` and ``<!-- end -->``.  A test compares the pages with the code.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from enum import Enum
from pathlib import Path
from typing import Any

from secagg.pairwise.rules.table import RULES, Role

HERE = Path(__file__).parent

_MARKED = re.compile(r"(<!-- generated: (.+?) -->\n).*?(<!-- end -->)", flags=re.DOTALL)


def replaced(page: str, parts: Mapping[str, str]) -> str:
    """The page with each marked part as it should be.  KeyError for a marker that no part belongs to."""
    found = [name for _, name, _ in _MARKED.findall(page)]
    if missing := set(parts) - set(found):
        raise KeyError(f"no marker <!-- generated: {min(missing)} --> in the page")
    return _MARKED.sub(
        lambda match: f"{match[1]}\n{parts[match[2]]}\n\n{match[3]}", page
    )


def rules_table(role: Role) -> str:
    """What a client, or a server, refuses; rules that both keep are in either table."""
    rows = [
        f"| {', '.join(rule.requirements)} | {_cell(rule.stops)} "
        f"| {', '.join(f'`{code.name}`' for code in rule.codes) or 'none'} |"
        for rule in RULES
        if role in rule.role
    ]
    return "\n".join(
        ["| requirement | what it stops | codes |", "|---|---|---|", *rows]
    )


def command_reference() -> str:
    """Every command of ``secagg``: its help, and its parameters as a table."""
    import typer

    from secagg.cli.app import app

    commands = _commands(typer.main.get_command(app), ("secagg",))
    return "\n\n".join(
        f"### {name}\n\n{_described(command)}" for name, command in commands
    )


def terms(page: str) -> str:
    """A link to every term of the glossary, in alphabetical order."""
    named = re.findall(r"^### (.+)$", page, flags=re.MULTILINE)
    return " · ".join(
        f"[{name}](#{_anchor(name)})" for name in sorted(named, key=str.lower)
    )


def choices() -> str:
    """The README's table of what to choose in which situation."""
    readme = (HERE.parent / "README.md").read_text(encoding="utf-8")
    return readme[readme.index("| your situation |") :].partition("\n\n")[0]


def index_page(page: str) -> str:
    """docs/index.md."""
    return replaced(page, {"choices": choices()})


def glossary_page(page: str) -> str:
    """docs/glossary.md."""
    return replaced(page, {"terms": terms(page)})


def security_page(page: str) -> str:
    """docs/security.md."""
    return replaced(
        page,
        {
            "client rules": rules_table(Role.CLIENT),
            "server rules": rules_table(Role.SERVER),
        },
    )


def command_line_page(page: str) -> str:
    """docs/command-line.md."""
    return replaced(page, {"commands": command_reference()})


PAGES: Mapping[Path, Callable[[str], str]] = {
    HERE / "security.md": security_page,
    HERE / "command-line.md": command_line_page,
    HERE / "glossary.md": glossary_page,
    HERE / "index.md": index_page,
}


def _anchor(heading: str) -> str:
    """A heading's anchor, on GitHub and on the site."""
    return re.sub(r"[^\w -]", "", heading).lower().replace(" ", "-")


def _commands(command: Any, path: tuple[str, ...]) -> Iterator[tuple[str, Any]]:
    if hasattr(command, "commands"):
        for name, inner in command.commands.items():
            yield from _commands(inner, (*path, name))
    else:
        yield " ".join(path), command


def _described(command: Any) -> str:
    paragraphs = [
        " ".join(paragraph.split()) for paragraph in (command.help or "").split("\n\n")
    ]
    rows = [_row(parameter) for parameter in command.params if parameter.name != "help"]
    return "\n".join(
        [
            "\n\n".join(paragraphs),
            "",
            "| option | default | meaning |",
            "|---|---|---|",
            *rows,
        ]
    )


def _row(parameter: Any) -> str:
    default = parameter.default
    shown = "required" if parameter.required else ""
    if (
        not shown
        and isinstance(default, str | int | float | Path)
        and not isinstance(default, bool)
    ):
        shown = f"`{getattr(default, 'value', default)}`"
    if parameter.param_type_name == "argument":
        name = f"`{parameter.metavar or parameter.name.upper()}`"
    else:
        choices = (
            "|".join(choice.value for choice in type(default))
            if isinstance(default, Enum)
            else ""
        )
        name = f"`{' '.join(filter(None, (parameter.opts[0], parameter.metavar or choices)))}`"
    return f"| {_cell(name)} | {shown} | {_cell(parameter.help or '')} |"


def _cell(text: str) -> str:
    return " ".join(text.replace("|", "\\|").split())


if __name__ == "__main__":
    for path, generated in PAGES.items():
        path.write_text(generated(path.read_text(encoding="utf-8")), encoding="utf-8")
