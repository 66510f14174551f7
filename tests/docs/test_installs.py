"""Nothing tells anybody to install a name that is not published: a stranger could claim it."""

import re
import tomllib
from collections.abc import Iterator
from pathlib import Path

from secagg._install import how_to_install

ROOT = Path(__file__).parents[2]
TEXTS = {".py", ".md", ".toml", ".yml", ".yaml", ".cfg", ".sh", ".txt", ".json", ".html"}
BY_NAME = re.compile(r"secagg\[[a-z]|install\s+(?:-\S+\s+)*['\"]?secagg\b")


def texts() -> Iterator[Path]:
    yield from (path for path in ROOT.iterdir() if path.is_file() and path.suffix in TEXTS)
    for folder in ("secagg", "docs", "examples", "benchmarks", "specs", "tests"):
        yield from (path for path in (ROOT / folder).rglob("*") if path.suffix in TEXTS)


def test_no_file_names_secagg_to_an_installer() -> None:
    # The project's own extras refer to one another by its name, which is how packaging has it: an installer that reads
    # them has the checkout at hand, and asks no index.
    own = {ROOT / "pyproject.toml"}
    found = [
        f"{path.relative_to(ROOT)}: {match[0]}"
        for path in texts()
        if path not in own
        for match in BY_NAME.finditer(path.read_text(encoding="utf-8"))
    ]
    assert found == []


def test_every_extra_that_a_document_names_exists() -> None:
    extras = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]["optional-dependencies"]
    named = {
        extra.strip()
        for path in texts()
        for extras_named in re.findall(r"install [^\n]*'[./]+\[([a-z,-]+)\]'", path.read_text(encoding="utf-8"))
        for extra in extras_named.split(",")
    }
    assert {"cli", "demo", "net", "flower", "dask"} <= named <= set(extras)


def test_the_hint_is_what_the_documents_say() -> None:
    assert how_to_install("net") == "run pip install '.[net]' in a checkout of secagg"
