"""Plots of the tables that ``rounds.py`` prints; needs matplotlib."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from cells import Cell, Figures

_STYLES = ("-", "--", ":", "-.")


def available() -> bool:
    """Whether matplotlib is installed."""
    try:
        import matplotlib  # noqa: F401
    except ImportError:
        return False
    return True


def draw(directory: Path, found: Mapping[Cell, Figures]) -> list[Path]:
    """One picture a table, that is for each graph and threat model: client and server against m, and their floors."""
    groups = sorted({(cell.graph, cell.threat) for cell in found})
    directory.mkdir(parents=True, exist_ok=True)
    return [_draw_group(directory, found, graph, threat) for graph, threat in groups]


def _draw_group(directory: Path, found: Mapping[Cell, Figures], graph: str, threat: str) -> Path:
    import matplotlib as mpl

    mpl.use("Agg")
    from matplotlib import pyplot as plt

    cells = sorted((cell for cell in found if (cell.graph, cell.threat) == (graph, threat)), key=lambda cell: cell.dim)
    picture, axes = plt.subplots(1, 3, figsize=(15, 4.5), layout="constrained")
    _panel(axes[0], found, cells, "client CPU, s", "client_total_s", "client_floor_s")
    _panel(axes[1], found, cells, "server CPU, s", "server_total_s", "server_floor_s")
    _panel(axes[2], found, cells, "server memory at the peak, bytes", "peak_bytes", "peak_limit_bytes")
    picture.suptitle(f"{graph} graph, {threat}; thin lines: the floor, and the limit of memory")
    axes[0].legend(fontsize="small")
    path = directory / f"rounds-{graph}-{threat}.png"
    picture.savefig(path, dpi=120)
    plt.close(picture)
    return path


def _panel(
    axes: Any, found: Mapping[Cell, Figures], cells: Sequence[Cell], label: str, figure: str, bound: str
) -> None:
    sizes = sorted({cell.clients for cell in cells})
    dropouts = sorted({cell.dropout for cell in cells})
    for colour, clients in enumerate(sizes):
        for style, dropout in zip(_STYLES, dropouts, strict=False):
            line = [cell for cell in cells if (cell.clients, cell.dropout) == (clients, dropout)]
            dims = [cell.dim for cell in line]
            name = f"n = {clients:,}, {dropout:.0%} lost"
            for what, width in ((figure, 1.8), (bound, 0.6)):
                axes.plot(
                    dims,
                    [getattr(found[cell], what) for cell in line],
                    style,
                    color=f"C{colour}",
                    linewidth=width,
                    marker="o" if what == figure else None,
                    label=name if what == figure else None,
                )
    axes.set(xscale="log", yscale="log", xlabel="elements, m", ylabel=label)
    axes.grid(visible=True, which="major", alpha=0.3)
