"""Figures of a study as pictures.  Needs Matplotlib, which the extra ``stats`` installs."""

from __future__ import annotations

import io
import itertools
import math
import textwrap
from collections.abc import Sequence
from typing import Final

import numpy as np
import numpy.typing as npt
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure as Canvas
from matplotlib.ticker import FuncFormatter, MaxNLocator, NullFormatter

from secagg.statistics.results import Bars, Curve, Curves, Figure, Forest, text_of

_DPI: Final = 200
_WIDTH: Final = 6.4  # inches
_COLOURS: Final = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000")
"""Okabe and Ito, "Color Universal Design" (2008): people who see few colours can tell these apart."""
_LINES: Final = ("-", "--", "-.", ":")
_GREY: Final = "0.45"
_ROW: Final = 0.22
"""Inches of a line of text."""
_WRAPPED: Final = 30
"""Characters in a line of a name beside an axis."""
_WITHHELD_HEIGHT: Final = 0.04
"""Of the highest bar: where the hatched box of a withheld one ends."""
_LABEL_SHARE: Final = 0.17
"""Of the axis: what the text at a quantile's line takes."""
_MOST_DIGITS: Final = 6
_MOST_AT_RISK: Final = 7
"""Columns of the numbers at risk."""


def draw(figure: Figure) -> bytes:
    """The picture as a PNG file, 200 dots an inch and 6.4 inches wide."""
    written = io.BytesIO()
    canvas_of(figure).savefig(written, format="png", dpi=_DPI, metadata={"Software": None})
    return written.getvalue()


def canvas_of(figure: Figure) -> Canvas:
    """The figure as Matplotlib has it, for another format than ``draw`` writes."""
    match figure:
        case Bars():
            canvas = _bars(figure)
        case Curves():
            canvas = _curves(figure)
        case Forest():
            canvas = _forest(figure)
    FigureCanvasAgg(canvas)
    return canvas


def _canvas(height: float) -> Canvas:
    return Canvas(figsize=(_WIDTH, height), layout="constrained")


def _finish(axes: Axes, title: str) -> None:
    axes.set_title(textwrap.fill(title, 70), fontsize=10, loc="left", fontweight="bold")
    axes.spines[["top", "right"]].set_visible(False)
    axes.grid(alpha=0.25, linewidth=0.6)
    axes.set_axisbelow(True)


def _thousands(axes: Axes) -> None:
    axes.yaxis.set_major_locator(MaxNLocator(integer=True))
    axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:,.0f}"))


def _bars(figure: Bars) -> Canvas:
    canvas = _canvas(4.0)
    axes = canvas.subplots()
    edges = np.array(figure.edges)
    heights = np.array([0 if height is None else height for height in figure.heights])
    withheld = np.array([height is None for height in figure.heights])
    axes.bar(edges[:-1], heights, np.diff(edges), align="edge", color=_COLOURS[5], edgecolor="white", linewidth=0.4)
    if withheld.any():
        box = max(1.0, float(heights.max(initial=0))) * _WITHHELD_HEIGHT
        axes.bar(
            edges[:-1][withheld],
            box,
            np.diff(edges)[withheld],
            align="edge",
            facecolor="white",
            edgecolor=_GREY,
            hatch="/////",
            linewidth=0.0,
            label="withheld: few records",
        )
        canvas.legend(loc="outside lower right", frameon=False, fontsize=8)
    _marks(axes, figure)
    axes.set_xlim(*_occupied(figure))
    if figure.dates:
        axes.xaxis.set_major_locator(MaxNLocator(5, integer=True))
        axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: _day(value)))
    _thousands(axes)
    axes.set_xlabel(figure.label)
    axes.set_ylabel("records")
    _finish(axes, figure.title)
    axes.grid(visible=False, axis="x")
    if figure.marks:  # room for their names
        axes.set_title(
            axes.get_title(loc="left"), fontsize=10, loc="left", fontweight="bold", pad=10 + 12 * _rows(figure)
        )
    return canvas


def _occupied(figure: Bars) -> tuple[float, float]:
    """The part of the axis that has records, and one empty bin on each side; all of it where there are none."""
    there = [at for at, height in enumerate(figure.heights) if height != 0]
    if not there:
        return figure.edges[0], figure.edges[-1]
    return figure.edges[max(0, there[0] - 1)], figure.edges[min(len(figure.heights), there[-1] + 2)]


def _day(days: float) -> str:
    return str(np.datetime64(round(days), "D"))


def _levels(figure: Bars) -> list[tuple[str, float, int]]:
    """Each quantile, its place, and the line of text above the axis that has room for it."""
    first, last = _occupied(figure)
    width = last - first
    ends: list[float] = []
    found = []
    for name, at in sorted(figure.marks.items(), key=lambda mark: mark[1]):
        level = next((level for level, end in enumerate(ends) if at - end >= _LABEL_SHARE * width), len(ends))
        ends[level : level + 1] = [at]
        found.append((name, at, level))
    return found


def _rows(figure: Bars) -> int:
    return 1 + max(level for *_, level in _levels(figure))


def _marks(axes: Axes, figure: Bars) -> None:
    for name, at, level in _levels(figure):
        axes.axvline(at, color=_COLOURS[1], linewidth=1.0, linestyle="--")
        value = _day(at) if figure.dates else text_of(at)
        axes.annotate(
            f"{name}: {value}",
            (at, 1.0),
            (0, 3 + 11 * level),
            xycoords=("data", "axes fraction"),
            textcoords="offset points",
            ha="center",
            fontsize=8,
            color=_COLOURS[1],
            annotation_clip=False,
        )


def _curves(figure: Curves) -> Canvas:
    counted = [curve for curve in figure.curves if curve.at_risk]
    below = _ROW * (len(counted) + 1.4) if counted else 0.0
    height = 5.2 if figure.diagonal else 4.0
    canvas = _canvas(height + below)
    if counted:
        axes, table = canvas.subplots(2, 1, height_ratios=[height, below])
    else:
        axes = canvas.subplots()
    for number, curve in enumerate(figure.curves):
        _curve(axes, curve, number, steps=figure.steps)
    if figure.diagonal:
        axes.axline((0, 0), slope=1, color=_GREY, linewidth=0.8, linestyle=":")
        axes.set_aspect("equal", adjustable="box")
    _limits(axes, figure)
    axes.set_xlabel(figure.x_label)
    axes.set_ylabel(figure.y_label)
    _finish(axes, figure.title)
    if counted:
        _numbers_at_risk(axes, table, figure)
    if any(curve.name for curve in figure.curves):
        canvas.legend(loc="outside lower center", ncols=min(3, len(figure.curves)), frameon=False, fontsize=8)
    return canvas


def _curve(axes: Axes, curve: Curve, number: int, *, steps: bool) -> None:
    colour, line = _COLOURS[number % len(_COLOURS)], _LINES[number % len(_LINES)]
    drawn = "steps-post" if steps else "default"
    few = not steps and len(curve.x) <= 25
    axes.plot(
        curve.x,
        curve.y,
        color=colour,
        linestyle=line,
        drawstyle=drawn,
        linewidth=1.6,
        label=curve.name,
        marker="o" if few else "",
        markersize=3.5,
    )
    if curve.low and curve.high:
        axes.fill_between(
            curve.x, curve.low, curve.high, step="post" if steps else None, color=colour, alpha=0.15, linewidth=0
        )


def _limits(axes: Axes, figure: Curves) -> None:
    """Shares have the whole axis from 0 to 1."""
    ends = [end for curve in figure.curves for end in (*curve.y, *curve.low, *curve.high) if math.isfinite(end)]
    if ends and min(ends) >= 0 and max(ends) <= 1:
        axes.set_ylim(-0.02 if figure.diagonal else 0.0, 1.02)
    if figure.diagonal:
        axes.set_xlim(-0.02, 1.02)
        return
    places = [x for curve in figure.curves for x in curve.x]
    if places and min(places) < max(places):
        axes.set_xlim(min(places), max(places))


def _numbers_at_risk(axes: Axes, table: Axes, figure: Curves) -> None:
    """Below the axis at its ticks: how many were at risk at the first time of the grid that is not before."""
    low, high = axes.get_xlim()
    ticks = [tick for tick in MaxNLocator(_MOST_AT_RISK - 1).tick_values(low, high) if low <= tick <= high]
    axes.set_xticks(ticks)
    table.set_xlim(low, high)
    rows = [(number, curve) for number, curve in enumerate(figure.curves) if curve.at_risk]
    table.set_ylim(len(rows) + 0.2, -0.9)
    table.axis("off")
    table.text(low, -0.5, "Number at risk", fontsize=8, fontweight="bold", va="center")
    for row, (number, curve) in enumerate(rows):
        colour = _COLOURS[number % len(_COLOURS)]
        name = textwrap.shorten(curve.name or "all", 26, placeholder="...")
        beside = table.get_yaxis_transform()
        table.text(-0.05, row + 0.4, name, fontsize=8, color=colour, ha="right", va="center", transform=beside)
        for tick in ticks:
            table.text(tick, row + 0.4, _at_risk(curve, tick), fontsize=8, ha="center", va="center")


def _at_risk(curve: Curve, time: float) -> str:
    at = int(np.searchsorted(np.array(curve.x), time - 1e-9))
    return text_of(curve.at_risk[at]) if at < len(curve.at_risk) else ""


def _forest(figure: Forest) -> Canvas:
    names = [textwrap.fill(name, _WRAPPED) for name in figure.names]
    lines = [1 + name.count("\n") for name in names]
    canvas = _canvas(1.3 + max(1.0, _ROW * 1.5 * sum(lines)))
    axes = canvas.subplots()
    places = -np.cumsum([0.0, *((one + other) / 2 for one, other in itertools.pairwise(lines))])[: len(names)]
    estimates, low, high = (np.array(part, float) for part in (figure.estimates, figure.low, figure.high))
    axes.axvline(figure.reference, color=_GREY, linewidth=0.9, linestyle="--")
    for place, middle, left, right in zip(places, estimates, low, high, strict=True):
        _interval(axes, place, (middle, left, right))
    if figure.reference == 1 and _positive(np.concatenate([estimates, low, high])):
        _ratios(axes)
    axes.set_yticks(places, names, fontsize=8)
    axes.set_ylim((places[-1] if len(places) else 0.0) - 0.8, 0.8)
    axes.tick_params(axis="y", length=0)
    axes.set_xlabel(f"{figure.label} ({figure.confidence * 100:.4g}% interval)")
    _finish(axes, figure.title)
    axes.grid(visible=False, axis="y")
    return canvas


def _interval(axes: Axes, place: float, interval: Sequence[float]) -> None:
    if not all(map(math.isfinite, interval)):
        text = "not estimated"
    else:
        middle, left, right = interval
        axes.plot([left, right], [place, place], color=_COLOURS[0], linewidth=1.4, solid_capstyle="butt")
        axes.plot([middle], [place], color=_COLOURS[0], marker="s", markersize=5)
        digits = _digits(right - left)
        text = f"{middle:.{digits}f} ({left:.{digits}f} to {right:.{digits}f})".replace("-", "\N{MINUS SIGN}")
    axes.text(1.02, place, text, transform=axes.get_yaxis_transform(), fontsize=8, va="center")


def _digits(width: float) -> int:
    """Behind the point, so that an interval of this width has two digits or three."""
    return 0 if width <= 0 else min(_MOST_DIGITS, max(0, 2 - math.ceil(math.log10(width))))


def _positive(values: npt.NDArray[np.float64]) -> bool:
    finite = values[np.isfinite(values)]
    return finite.size > 0 and bool((finite > 0).all())


def _ratios(axes: Axes) -> None:
    """A ratio and its inverse are equally far from 1."""
    axes.set_xscale("log")
    low, high = axes.get_xlim()
    steps = [step * 10.0**power for power in range(-6, 7) for step in (1, 2, 5)]
    shown = [step for step in steps if low <= step <= high]
    if len(shown) > _MOST_AT_RISK:
        shown = [10.0**power for power in range(-6, 7) if low <= 10.0**power <= high]
    axes.set_xticks(shown, [f"{step:g}" for step in shown])
    axes.xaxis.set_minor_formatter(NullFormatter())
