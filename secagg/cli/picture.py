"""The demo's picture: accuracy by round or by epsilon, a panel a data set."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Final, TypeAlias

from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from secagg.errors import ParameterError

_CHANCE: Final = 0.5
"""Accuracies are drawn from here on, or from the lowest one, so that differences by chance do not look large."""
_LINE_STYLES: Final = ("-", "--", ":")

Curves: TypeAlias = Mapping[str, Sequence[float]]


def check_format(file: Path) -> None:
    """Raises ParameterError unless the file's suffix is that of a picture."""
    known = FigureCanvasAgg.get_supported_filetypes()
    if file.suffix[1:].lower() not in known:
        raise ParameterError(f"{file}: its suffix must say what picture to write: {', '.join(sorted(known))}")


def draw(panels: Sequence[tuple[str, Curves]], file: Path, *, epsilons: Sequence[float] | None = None) -> None:
    """Write the picture; its format follows from the file's suffix, see ``check_format``.  Raises OSError.

    Args:
        panels: a title, and curves by name: one value a round, from before the first one on; or one for each epsilon.
        file: where to.
        epsilons: what the values belong to, where they are not those of rounds; a curve may end early.
    """
    figure = Figure(figsize=(6.4 * len(panels), 4.4), layout="constrained")
    FigureCanvasAgg(figure)
    for axes, (title, curves) in zip(figure.subplots(1, len(panels), squeeze=False)[0], panels, strict=True):
        for (name, values), style in zip(curves.items(), _LINE_STYLES, strict=True):
            axes.plot(range(len(values)) if epsilons is None else epsilons[: len(values)], values, style, label=name)
        axes.set_title(title, fontsize=9, wrap=True)
        axes.set_xlabel("round" if epsilons is None else "epsilon, over all rounds")
        if epsilons is None:
            axes.xaxis.set_major_locator(MaxNLocator(integer=True))
        else:
            axes.set_xscale("log")
            axes.set_xticks(epsilons, [f"{epsilon:g}" for epsilon in epsilons])
            axes.minorticks_off()
            axes.set_ylim(min([_CHANCE, *(value for values in curves.values() for value in values)]), 1)
        axes.set_ylabel("accuracy on test data")
        axes.grid(alpha=0.3)
        axes.legend(loc="best")
    figure.savefig(file, dpi=120)
