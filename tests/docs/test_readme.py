"""The README is short, its Python blocks are one program that runs, and what it links to is there."""

import re
from pathlib import Path

ROOT = Path(__file__).parents[2]
README = ROOT / "README.md"
TEXT = README.read_text(encoding="utf-8")
LINES = TEXT.splitlines()
BLOCKS = re.findall(r"^```python\n(.*?)^```", TEXT, flags=re.DOTALL | re.MULTILINE)
MOST_LINES = 200
WIDTH = 88
"""Columns that a block of code has without a bar to scroll."""


def test_the_readme_runs() -> None:
    assert len(BLOCKS) == 1
    namespace: dict[str, object] = {}
    for block in BLOCKS:
        exec(compile(block, str(README), "exec"), namespace)


def test_the_readme_is_read_in_a_few_minutes() -> None:
    assert len(LINES) < MOST_LINES


def test_the_code_of_the_readme_is_read_without_scrolling() -> None:
    """The two commands are not code to read: somebody copies each of them as one line."""
    assert [line for block in BLOCKS for line in block.splitlines() if len(line) > WIDTH] == []


def test_the_readme_names_its_commands_at_the_start_of_a_line() -> None:
    assert any(line.startswith("python3 ") and line.endswith("secagg demo") for line in LINES)
    assert any(line.startswith("python3 ") and "-m pytest" in line for line in LINES)


def test_what_the_readme_links_to_is_there() -> None:
    linked = re.findall(r"\]\(([^)#:]+)(?:#[^)]*)?\)", TEXT) + re.findall(r'(?:src|srcset)="([^"]+)"', TEXT)
    assert {"docs/glossary.md", "docs/benchmarks.md", "docs/round-light.svg", "docs/round-dark.svg"} <= set(linked)
    assert [target for target in linked if not (ROOT / target).exists()] == []
