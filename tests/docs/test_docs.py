"""Every page of docs/ runs, prints what it says it prints, and leaves no public name or command out."""

import re
from pathlib import Path
from typing import get_args

import generate_outputs
import generate_tables
import pytest

import secagg
import secagg.robust
import secagg.simulation
import secagg.statistics
from secagg.statistics.methods import AnyMethod

DOCS = Path(__file__).parents[2] / "docs"

PAGES = generate_outputs.pages()
PROGRAMS = [
    path
    for path in PAGES
    if any(block.language == "python" or block.note == "run" for block in generate_outputs.blocks(path.read_text()))
]


def test_the_pages_that_teach_are_there() -> None:
    names = {path.name for path in PROGRAMS}
    assert {"index.md", "tutorial.md", "embedding.md", "active.md", "parameters.md", "large-rounds.md"} <= names


@pytest.mark.parametrize("path", PROGRAMS, ids=[path.relative_to(DOCS).as_posix() for path in PROGRAMS])
def test_a_page_is_a_program(path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for block, printed in generate_outputs.run(path):
        assert printed == block.text, (
            f"{path.name}: run python docs/generate_outputs.py {path.relative_to(DOCS.parent)}"
        )


WIDTH = 88
"""Columns that a block of code has without a bar to scroll."""


@pytest.mark.parametrize("path", PAGES, ids=lambda path: path.relative_to(DOCS).as_posix())
def test_code_is_read_without_scrolling(path: Path) -> None:
    """What a page's own programs print is as long as they print it."""
    blocks = generate_outputs.blocks(path.read_text(encoding="utf-8"))
    lines = [line for block in blocks if not block.is_output for line in block.text.splitlines()]
    assert [line for line in lines if len(line) > WIDTH] == []


@pytest.mark.parametrize("path", generate_tables.PAGES, ids=lambda path: path.name)
def test_tables_are_those_of_the_code(path: Path) -> None:
    page = path.read_text(encoding="utf-8")
    assert generate_tables.PAGES[path](page) == page, "run python docs/generate_tables.py"


@pytest.mark.parametrize("path", [path for path in PAGES if path.parent == DOCS], ids=lambda path: path.name)
def test_a_page_leads_a_newcomer_to_the_glossary(path: Path) -> None:
    for_others = {"architecture.md", "glossary.md"}  # for those who change the code; the glossary itself
    text = path.read_text(encoding="utf-8")
    assert path.name in for_others or "](glossary.md" in text, "say near the top: The [glossary](glossary.md) ..."


def test_every_table_of_figures_names_the_script_that_prints_it() -> None:
    sections = re.split(r"^## ", (DOCS / "benchmarks.md").read_text(encoding="utf-8"), flags=re.MULTILINE)
    with_table = [section for section in sections[1:] if "\n|---" in section or "\n| ---" in section]
    assert len(with_table) > 4
    above: list[str] = []
    for section in with_table:
        above = re.findall(r"benchmarks/(\w+\.py)", section) or above * ("same script" in section)
        assert above, section.splitlines()[0]
    for path in PAGES:
        for script in re.findall(r"\bbenchmarks/(\w+\.py)", path.read_text(encoding="utf-8")):
            assert (DOCS.parent / "benchmarks" / script).exists(), f"{path.name} names {script}"


def test_the_glossary_explains_the_words_of_a_config() -> None:
    page = (DOCS / "glossary.md").read_text(encoding="utf-8")
    explained = {name.lower() for name in re.findall(r"^### (.+)$", page, flags=re.MULTILINE)}
    settings = (
        "threat model, neighbour, threshold, quorum, gamma, delta, sigma, eta, grinding, suite, context, group, carrier"
    )
    people = "client, server, host, cohort, survivor, dropped, colluder, identity, directory, policy"
    rounds = "mask, share, envelope, phase, certificate, chain, epsilon, noise, budget"
    assert {word for row in (settings, people, rounds) for word in row.split(", ")} <= explained


def test_every_public_name_is_in_the_api_reference() -> None:
    reference = "\n".join(path.read_text(encoding="utf-8") for path in DOCS.glob("api/*.md"))
    named = set(re.findall(r"^::: (secagg[\w.]*)$", reference, flags=re.MULTILINE))
    wanted = {f"secagg.{name}" for name in secagg.__all__}
    wanted |= {f"secagg.simulation.{name}" for name in secagg.simulation.__all__}
    wanted |= {f"secagg.robust.{name}" for name in secagg.robust.__all__}
    assert wanted - named == set()


def test_every_method_of_a_study_is_explained() -> None:
    reference = (DOCS / "api" / "statistics.md").read_text(encoding="utf-8")
    for name in set(secagg.statistics.__all__):
        assert f"::: secagg.statistics.{name}\n" in reference, name
    table = (DOCS / "statistics.md").read_text(encoding="utf-8")
    for method in get_args(AnyMethod):
        assert f"::: secagg.statistics.methods.{method.__name__}\n" in reference, method.__name__
        assert re.search(rf"^\|[^|]*`{method.__struct_config__.tag}`", table, flags=re.MULTILINE), method.__name__


def test_links_to_files_of_the_repository_lead_somewhere() -> None:
    for path in PAGES:
        for target in re.findall(r"\]\(([^)#:]+)(?:#[^)]*)?\)", path.read_text(encoding="utf-8")):
            assert (path.parent / target).exists(), f"{path.name} links to {target}"
