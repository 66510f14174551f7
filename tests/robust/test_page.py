"""The page of what stands out."""

from __future__ import annotations

import sys
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest

from secagg.robust import RoundReport, Scores, report_round
from secagg.robust.page import write_anomalies


class Seen(HTMLParser):
    """Cells by row, and what a browser would load."""

    def __init__(self) -> None:
        super().__init__()
        self.rows: list[list[str]] = []
        self.loads: list[str] = []
        self.in_cell = False

    def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        self.in_cell = tag in ("td", "th")
        if tag == "tr":
            self.rows.append([])
        if self.in_cell:
            self.rows[-1].append("")
        self.loads += [value or "" for name, value in attributes if name in ("src", "href")]

    def handle_endtag(self, tag: str) -> None:
        self.in_cell = False

    def handle_data(self, data: str) -> None:
        if self.in_cell:
            self.rows[-1][-1] += data


def seen(file: Path) -> Seen:
    found = Seen()
    found.feed(file.read_text(encoding="utf-8"))
    return found


def rounds(count: int, names: list[str]) -> tuple[Scores, RoundReport]:
    scores = Scores()
    for number in range(count):
        groups = np.array_split(np.random.default_rng([number, 1]).permutation(12), 4)
        updates = np.random.default_rng([number, 2]).normal(1.0, 0.3, (12, 20))
        updates[7] = -20.0
        report = report_round([updates[group].mean(axis=0) for group in groups], groups, numbers=[0, 2, 3, 5])
        scores.add(report, names)
    return scores, report


def test_everything_is_on_the_page_and_nothing_is_loaded(tmp_path: Path) -> None:
    names = [f"<b>client & {client}" for client in range(12)]
    scores, report = rounds(10, names)
    write_anomalies(scores, report, tmp_path / "page.html")
    page = seen(tmp_path / "page.html")
    assert page.rows[1][0] == "<b>client & 7", "the attacker is first"
    assert [row[0] for row in page.rows[1:13]] == [one.client for one in scores.ranking()]
    assert sorted(row[0] for row in page.rows[14:]) == ["0", "2", "3", "5"]
    assert (page.rows[14][-1], page.rows[15][-1]) == ("yes", "no")
    assert [load[:22] for load in page.loads] == ["data:image/png;base64,"]
    text = (tmp_path / "page.html").read_text(encoding="utf-8")
    assert "a hint for a person, and no proof" in text
    assert "12 clients, 10 rounds" in text


@pytest.mark.parametrize("count", [0, 1])
def test_a_page_before_there_are_scores(tmp_path: Path, count: int) -> None:
    """After one round no interval is known, so that nothing is drawn."""
    scores = rounds(count, [str(client) for client in range(12)])[0] if count else Scores()
    write_anomalies(scores, None, tmp_path / "page.html")
    assert seen(tmp_path / "page.html").loads == []


def test_without_matplotlib_it_says_what_to_install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    for name in [name for name in sys.modules if name.startswith(("matplotlib.", "secagg.statistics.drawing"))]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.delattr("secagg.statistics.drawing", raising=False)
    with pytest.raises(ModuleNotFoundError, match=r"the page needs it: run pip install"):
        write_anomalies(Scores(), None, tmp_path / "page.html")
    assert not (tmp_path / "page.html").exists()
