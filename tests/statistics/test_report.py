"""A report's files: every value is in them, nothing is loaded by them, and no text lies on another."""

from __future__ import annotations

import csv
import io
import json
import math
import sys
from html.parser import HTMLParser
from itertools import combinations
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from matplotlib.text import Text
from rich.console import Console

import secagg.statistics
from secagg.cli.stats.show import show_result
from secagg.statistics.drawing import canvas_of
from secagg.statistics.page import Picture
from secagg.statistics.page import page as write_page
from secagg.statistics.report import results_json, write_report
from secagg.statistics.results import (
    Bars,
    Curve,
    Curves,
    Figure,
    Forest,
    MethodResult,
    Reported,
    StudyResult,
    SummedRound,
    Table,
    text_of,
)

SITES = ("north", "south", "west")
BARS = Bars("Age", "age (years)", (0.0, 10.0, 20.0, 30.0), (12, None, 7), {"0.25": 4.0, "0.5": 8.5, "0.75": 9.0})
FOREST = Forest(
    "Odds", "odds ratio", ("age", "a name that is so long that it takes two lines"), (1.1, 0.5), (1, 0.2), (1.3, 1.2), 1
)
TIMES = (0.0, 10.0, 20.0, 30.0)
SURVIVAL = Curves(
    "Survival",
    "days",
    "probability",
    tuple(
        Curve(name, TIMES, (1, 0.8, 0.5, 0.3), (1, 0.7, 0.4, 0.2), (1, 0.9, 0.6, 0.4), (1200, 900, 40, None))
        for name in ("control", "treatment with a long name")
    ),
    steps=True,
)
ROC = Curves("ROC", "1 - specificity", "sensitivity", (Curve("score", (0, 0.2, 1), (0, 0.7, 1)),), diagonal=True)
FIGURES: dict[str, Figure] = {"bars": BARS, "forest": FOREST, "survival": SURVIVAL, "roc": ROC}
TABLE = Table("Moments <of> age", ("group", "count", "mean"), (("a & b", 1234, 0.1 + 0.2), ("<script>", None, None)))
RESULT = StudyResult(
    "Waiting <b>times</b>",
    "ab" * 32,
    {
        "ages": Reported(
            MethodResult(
                {"mean": np.float64(0.1 + 0.2), "odds": math.inf, "small": None},
                (TABLE, TABLE),
                tuple(FIGURES.values()),
            ),
            1234,
            7,
            2,
            SITES,
            "Ages",
            "The mean of age.",
        ),
        "rare": Reported(MethodResult(withheld="fewer than 5 complete records"), None, None, 1, SITES),
        "noted": Reported(MethodResult({"n": 2**60}, notes=("1 cell is withheld.",)), 9, 0, 1, SITES[1:]),
    },
    "Why patients wait.",
    (SummedRound({"ages": "sums", "rare": "counts", "noted": "x"}, SITES), SummedRound({"ages": "squares"}, SITES[1:])),
    failed_rounds=1,
    columns=Reported(
        MethodResult({"age": {"missing": 41}}, (Table("Missing", ("column", "missing"), (("age", 41),)),)),
        9,
        0,
        1,
        SITES,
    ),
)


class Page(HTMLParser):
    """The tags of a page with their attributes, and its text."""

    def __init__(self) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.text = ""

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_data(self, data: str) -> None:
        self.text += data


@pytest.fixture(scope="module")
def directory(tmp_path_factory: pytest.TempPathFactory) -> Path:
    where = tmp_path_factory.mktemp("reports") / "of" / "study"
    write_report(RESULT, where)
    return where


def test_a_directory_has_a_file_for_each_table_and_figure(directory: Path) -> None:
    pictures = {"ages.png", "ages-2.png", "ages-3.png", "ages-4.png"}
    assert {file.name for file in directory.iterdir()} == pictures | {
        *("results.json", "report.html", "ages.csv", "ages-2.csv", "columns.csv")
    }
    assert all((directory / name).read_bytes().startswith(b"\x89PNG") for name in pictures)


def test_without_matplotlib_a_report_says_what_to_install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delitem(sys.modules, "secagg.statistics.drawing")
    monkeypatch.delattr(secagg.statistics, "drawing")
    monkeypatch.setitem(sys.modules, "matplotlib.axes", None)
    with pytest.raises(ModuleNotFoundError, match=r"matplotlib.* is not installed, .*\[stats\]"):
        write_report(RESULT, tmp_path / "report")
    assert not (tmp_path / "report").exists(), "nothing is half written"


def test_methods_whose_names_differ_in_case_have_files_of_their_own(tmp_path: Path) -> None:
    write_report(StudyResult("s", "00", dict.fromkeys(("age", "AGE", "Age"), RESULT.methods["ages"])), tmp_path)
    files = [file.name.casefold() for file in tmp_path.iterdir()]
    assert len(set(files)) == len(files) == 2 + 3 * 6


def test_json_has_all_digits_and_null_for_what_json_has_no_word_for(directory: Path) -> None:
    def no_constant(name: str) -> None:
        raise AssertionError(name)

    found = json.loads((directory / "results.json").read_text(encoding="utf-8"), parse_constant=no_constant)
    assert found["methods"]["ages"]["values"] == {"mean": 0.1 + 0.2, "odds": None, "small": None}
    assert found["methods"]["noted"]["values"]["n"] == 2**60
    assert found["methods"]["rare"]["withheld"] == "fewer than 5 complete records"
    assert [one["sites"] for one in found["rounds"]] == [list(SITES), list(SITES[1:])]
    assert found["columns"]["values"] == {"age": {"missing": 41}}
    assert found["study"]["digest"] == RESULT.digest


def test_json_is_the_same_whatever_the_order_of_its_entries() -> None:
    values = {"b": 1, "a": {"d": [1.5, None], "c": "x"}}
    turned = {"a": {"c": "x", "d": [1.5, None]}, "b": 1}
    one, other = (
        StudyResult("s", "00", {"m": Reported(MethodResult(given), 9, 0, 1, SITES)}) for given in (values, turned)
    )
    assert results_json(one) == results_json(other)


def test_a_csv_file_has_the_tables_values(directory: Path) -> None:
    with (directory / "ages.csv").open(encoding="utf-8", newline="") as file:
        rows = list(csv.reader(file))
    assert rows == [["group", "count", "mean"], ["a & b", "1234", repr(0.1 + 0.2)], ["<script>", "", ""]]


def test_the_page_is_whole_and_loads_nothing(directory: Path) -> None:
    text = (directory / "report.html").read_text(encoding="utf-8")
    page = Page()
    page.feed(text)
    assert {tag for tag, _ in page.tags} & {"script", "link", "iframe", "b", "object"} == set()
    sources = [value for _, attributes in page.tags for name, value in attributes.items() if name in ("src", "href")]
    assert len(sources) == len(FIGURES)
    assert all(str(source).startswith("data:image/png;base64,") for source in sources)
    assert "http" not in text.replace("http-equiv", "")
    for said in (
        *("Waiting <b>times</b>", RESULT.digest, "Why patients wait.", "Moments <of> age", "a & b", "<script>", "0.3"),
        *("1,234 complete records, 7 incomplete, 3 organisations, 2 rounds", "The mean of age."),
        *("Nothing is reported: fewer than 5 complete records.", "1 cell is withheld.", "ages: squares", "south, west"),
        *("1 further round did not complete", "Missing", "41"),
    ):
        assert said in page.text, said


def tags_of(text: str) -> list[str]:
    """Of a page whose every text is this one."""
    table = Table(text, (text,), ((text,),))
    reported = Reported(MethodResult({}, (table,), (), (text,), text), 9, 0, 1, (text,), text, text)
    page = Page()
    page.feed(write_page(StudyResult(text, text, {"m": reported}, text, (SummedRound({"m": text}, (text,)),)), {}))
    return [tag for tag, _ in page.tags]


@given(
    st.one_of(st.text(min_size=1), st.sampled_from(["</title><script>", "-->", "<!--", '"><img src=x>', "]]>", "&lt;"]))
)
def test_no_text_of_a_study_becomes_markup(text: str) -> None:
    assert tags_of(text) == tags_of("text")


def test_the_terminal_shows_tables_and_reasons() -> None:
    console = Console(file=io.StringIO(), width=100)
    show_result(RESULT, console)
    shown = console.file.getvalue()  # type: ignore[attr-defined]
    for said in ("Ages", "a & b", "1,234", "fewer than 5 complete records", "1 cell is withheld.", "41"):
        assert said in shown


LONG = Table("Long", ("step", "events"), tuple((f"step {at}", at) for at in range(100)))


def test_a_long_table_is_cut_on_the_terminal_which_says_so() -> None:
    console = Console(file=io.StringIO(), width=100)
    show_result(StudyResult("s", "00", {"m": Reported(MethodResult({}, (LONG,)), 9, 0, 1, SITES)}), console)
    shown = console.file.getvalue()  # type: ignore[attr-defined]
    assert "step 39" in shown
    assert "step 40" not in shown
    assert "60 further rows: the report in --output DIR has all of them." in shown


def test_a_long_table_stands_below_the_pictures_of_the_page() -> None:
    reported = Reported(MethodResult({}, (LONG, TABLE)), 9, 0, 1, SITES)
    text = write_page(StudyResult("s", "00", {"m": reported}), {"m": [Picture("curve", b"")]})
    assert text.index("Moments") < text.index("<figure>") < text.index("step 99")


def test_rows_keep_their_names_on_a_narrow_terminal() -> None:
    numbers = tuple(f"number {at}" for at in range(9))
    table = Table("Wide", ("what", *numbers), (("smoking", *(-0.123456789,) * 9),))
    console = Console(file=io.StringIO(), width=80)
    show_result(StudyResult("s", "00", {"m": Reported(MethodResult({}, (table,)), 9, 0, 1, SITES)}), console)
    shown = console.file.getvalue()  # type: ignore[attr-defined]
    assert shown.count("smoking") == 2
    assert [name for name in numbers if name not in shown] == []


def test_markup_in_a_label_is_text_on_the_terminal() -> None:
    table = Table("[red]title[/red]", ("[bold]x",), (("[link=https://example.org]y",),))
    console = Console(file=io.StringIO(), width=100)
    show_result(StudyResult("s", "00", {"m": Reported(MethodResult({}, (table,)), 9, 0, 1, SITES)}), console)
    shown = console.file.getvalue()  # type: ignore[attr-defined]
    assert all(text in shown for text in ("[red]title[/red]", "[bold]x", "[link=https://example.org]y"))


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (None, "\N{EN DASH}"),
        (math.nan, "\N{EN DASH}"),
        (True, "yes"),
        (1234567, "1,234,567"),
        (0.000012345, "1.23e-05"),
        (43.123456, "43.123"),
        (55140.0, "55,140"),
        (1234567.89, "1,234,567.9"),
        (-0.0, "0"),
        ("text", "text"),
    ],
)
def test_a_cell_as_people_read_it(value: str | float | None, text: str) -> None:
    assert text_of(value) == text


CLOSE = Bars("Age", "age", (0.0, 50.0, 100.0), (9, 9), {str(at / 10): 40.0 + at for at in range(1, 10)})
DAYS = Bars("Days", "day", tuple(18000.0 + 30 * at for at in range(20)), (8,) * 19, {"0.5": 18200.0}, dates=True)


@pytest.mark.parametrize("figure", [*FIGURES.values(), CLOSE, DAYS], ids=[*FIGURES, "close", "days"])
def test_no_text_of_a_picture_lies_on_another_or_beyond_the_edge(figure: Figure) -> None:
    canvas = canvas_of(figure)
    canvas.draw_without_rendering()
    renderer = canvas.canvas.get_renderer()  # type: ignore[attr-defined]
    ends = [(axis, sorted(axis.get_view_interval())) for axes in canvas.axes for axis in (axes.xaxis, axes.yaxis)]
    unseen = {
        tick.label1 for axis, (low, high) in ends for tick in axis.majorTicks if not low <= tick.get_loc() <= high
    }
    texts = [text for text in canvas.findobj(Text) if text.get_visible() and text.get_text().strip()]
    texts = [text for text in texts if text not in unseen]
    boxes = {
        (number, text.get_text()): text.get_window_extent(renderer).padded(-1) for number, text in enumerate(texts)
    }
    shown = {name: box for name, box in boxes.items() if box.width > 0}
    touching = [(one, other) for one, other in combinations(shown, 2) if shown[one].overlaps(shown[other])]
    assert touching == []
    beyond = [name for name, box in shown.items() if not canvas.bbox.padded(1).contains(box.x0, box.y0)]
    beyond += [name for name, box in shown.items() if not canvas.bbox.padded(1).contains(box.x1, box.y1)]
    assert beyond == []


def test_a_picture_says_what_is_withheld_and_how_many_are_at_risk() -> None:
    said = {text.get_text() for text in canvas_of(BARS).findobj(Text)}
    assert {"withheld: few records", "0.5: 8.5", "age (years)", "records"} <= said
    said = {text.get_text() for text in canvas_of(SURVIVAL).findobj(Text)}
    assert {"Number at risk", "1,200", "900", "40", "\N{EN DASH}", "control"} <= said
    said = {text.get_text() for text in canvas_of(FOREST).findobj(Text)}
    assert {"1.10 (1.00 to 1.30)", "odds ratio (95% interval)"} <= said


def test_a_histogram_shows_the_bins_that_hold_records() -> None:
    heights = (0, 0, 0, 7, None, 0, 0, 0)
    (axes,) = canvas_of(Bars("Age", "age", tuple(10.0 * at for at in range(9)), heights)).axes
    assert axes.get_xlim() == (20.0, 60.0)
