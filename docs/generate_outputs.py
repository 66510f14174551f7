"""Runs the pages of docs/, and writes what their programs print below them.

    python docs/generate_outputs.py [PAGE.md ...]

The Python blocks of a page are one program, run from top to bottom in an empty directory.  A block of text with the
title "Output" says what the block above it prints.  ``<!-- run -->`` above a block of shell lines has the lines that
start with ``secagg`` run as well, and ``<!-- needs: MODULE, MODULE -->`` above a block of Python leaves it out where
one of the modules is not installed.
"""

from __future__ import annotations

import contextlib
import importlib.util
import io
import os
import re
import shlex
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

HERE = Path(__file__).parent

_BLOCK = re.compile(
    r"(?:^<!-- (?P<note>run|needs: [\w, ]+) -->\n)?^```(?P<language>\w+)(?P<info>[^\n]*)\n(?P<text>.*?)^```$",
    flags=re.DOTALL | re.MULTILINE,
)


@dataclass(frozen=True)
class Block:
    """A fenced block of a page: its note, language, the rest of its first line, its text, and where it stands."""

    note: str
    language: str
    info: str
    text: str
    start: int
    line: int

    @property
    def is_output(self) -> bool:
        """Whether it says what the block above prints."""
        return self.language == "text" and 'title="Output"' in self.info

    @property
    def runs(self) -> bool:
        """Whether there is something to run in it, here."""
        if self.language == "python":
            _, _, modules = self.note.partition("needs: ")
            return all(
                importlib.util.find_spec(module) is not None
                for module in modules.split(", ")
                if module
            )
        return self.language == "sh" and self.note == "run"


def pages() -> list[Path]:
    """Every page of docs/."""
    return sorted(HERE.rglob("*.md"))


def blocks(page: str) -> list[Block]:
    """The fenced blocks of a page, in order."""
    return [
        Block(
            match["note"] or "",
            match["language"],
            match["info"],
            match["text"],
            match.start("text"),
            page.count("\n", 0, match.start("text")),
        )
        for match in _BLOCK.finditer(page)
    ]


def run(path: Path) -> Iterator[tuple[Block, str]]:
    """Run a page in the current directory: each output block, and what was printed for it."""
    namespace: dict[str, object] = {"__name__": "__main__"}
    printed, ran = "", False
    for block in blocks(path.read_text(encoding="utf-8")):
        if block.is_output:
            if ran:
                yield block, printed
        elif block.language in ("python", "sh"):
            ran = block.runs
            printed = _run_block(block, path, namespace) if ran else ""


def regenerated(path: Path) -> str:
    """The page with its output blocks as they are printed now."""
    page = path.read_text(encoding="utf-8")
    for block, printed in reversed(list(run(path))):
        page = page[: block.start] + printed + page[block.start + len(block.text) :]
    return page


def _run_block(block: Block, path: Path, namespace: dict[str, object]) -> str:
    with contextlib.redirect_stdout(io.StringIO()) as out:
        if block.language == "python":
            # Lines of a traceback are those of the page.
            code = compile("\n" * block.line + block.text, str(path), "exec")
            exec(code, namespace)  # noqa: S102
        else:
            for line in block.text.replace("\\\n", " ").splitlines():
                if line.startswith("secagg "):
                    _run_command(line)
    return out.getvalue()


def _run_command(line: str) -> None:
    from secagg.cli.app import app

    try:
        app(
            shlex.split(line, comments=True)[1:],
            prog_name="secagg",
            standalone_mode=True,
        )
    except SystemExit as ended:
        if ended.code:
            raise RuntimeError(f"{line}: exit code {ended.code}") from None


@contextlib.contextmanager
def _empty_directory() -> Iterator[None]:
    before = Path.cwd()
    with tempfile.TemporaryDirectory() as directory:
        os.chdir(directory)
        try:
            yield
        finally:
            os.chdir(before)


if __name__ == "__main__":
    for chosen in [Path(name).resolve() for name in sys.argv[1:]] or pages():
        with _empty_directory():
            text = regenerated(chosen)
        chosen.write_text(text, encoding="utf-8")
