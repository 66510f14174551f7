"""Hooks of ``mkdocs build``: the pages of specs/ become part of the site, where pages of docs/ link to them.

In the repository a page links to ``../specs/threat-model.md``, which works there; on the site it is ``specs/...``.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files
from mkdocs.structure.pages import Page

ROOT = Path(__file__).resolve().parents[1]


def _specs() -> list[Path]:
    return sorted([*ROOT.glob("specs/*.md"), *ROOT.glob("specs/decisions/*.md")])


def _boost(source: str) -> float:
    """How far up a page stands in searches: whoever looks for a word first wants to know what it means."""
    if source == "glossary.md":
        return 4
    if source.startswith("specs/decisions/"):
        return 0.2
    return 0.5 if source.startswith(("specs/", "api/")) else 1


def on_config(config: MkDocsConfig) -> MkDocsConfig:
    """Put the specifications into the navigation, whichever there are."""
    pages = [path.relative_to(ROOT).as_posix() for path in _specs()]
    decisions = [page for page in pages if page.startswith("specs/decisions/")]
    listed: list[Any] = [page for page in pages if page not in decisions]
    decisions.sort(key=lambda page: (not page.endswith("README.md"), page))
    config.nav = [
        *(config.nav or []),
        {"Specification": [*listed, {"Decisions": decisions}]},
    ]
    return config


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add the specifications to the site's pages."""
    for path in _specs():
        files.append(
            File.generated(
                config, path.relative_to(ROOT).as_posix(), abs_src_path=str(path)
            )
        )
    return files


def on_page_markdown(
    markdown: str, page: Page, config: MkDocsConfig, files: Files
) -> str:
    """Turn links that leave docs/ for specs/ into links within the site, and rank the page in searches."""
    page.meta.setdefault("search", {"boost": _boost(page.file.src_uri)})
    if page.file.src_uri.startswith("specs/"):
        return markdown
    up = "../" * page.file.src_uri.count("/")
    return markdown.replace(f"]({up}../specs/", f"]({up}specs/")
