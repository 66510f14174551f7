"""What CONTRIBUTING.md names is there: files, commands, functions that a phase of the server has."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path

from secagg.pairwise.server import advertise, confirm, mask, share, unmask

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")


def test_every_path_that_it_names_is_there() -> None:
    named = set(re.findall(r"(?<![\w/.])((?:\.ci|benchmarks|docs|secagg|specs|tests)/[\w/.-]*)", PAGE))
    assert len(named) > 30
    assert [path for path in named if not (ROOT / path.rstrip(".")).exists()] == []


def test_every_link_leads_to_a_file() -> None:
    links = re.findall(r"\]\(([^)#]+)\)", PAGE)
    assert links
    assert [link for link in links if not (ROOT / link).exists()] == []


def test_the_tiers_are_those_of_pytest() -> None:
    settings = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["tool"]["pytest"]["ini_options"]
    markers = {marker.partition(":")[0] for marker in settings["markers"]}
    assert set(re.findall(r'-m "not (\w+)"', PAGE)) <= markers
    assert 'register_profile("deep"' in (ROOT / "tests" / "conftest.py").read_text(encoding="utf-8")


def test_a_phase_of_the_server_has_the_functions_that_it_names() -> None:
    assert "with `begin`, `take`, `close` and `messages_of`" in PAGE
    for phase in (share, mask, confirm):
        assert {"begin", "take", "close", "messages_of"} <= vars(phase).keys()
    for edge in (advertise, unmask):  # nothing comes before the first, and no message after the last
        assert {"take", "close"} <= vars(edge).keys()
