"""Stall and cost of a commit by method, as one PNG file."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from benchmarks.overhead.methods import CASTORE
from benchmarks.results import Series

OWN, OTHER = "#d1495b", "#8d96a3"


def plot(series: Sequence[Series], path: Path) -> Path | None:
    """A panel of bars for each quantity; None where nothing was measured."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    panels = list(dict.fromkeys(one.panel for one in series))
    if not panels:
        return None
    figure, grid = pyplot.subplots(1, len(panels), figsize=(5.4 * len(panels), 3.8), squeeze=False)
    for axes, panel in zip(grid.flat, panels, strict=True):
        ones = [one for one in series if one.panel == panel]
        colours = [OWN if one.label in CASTORE else OTHER for one in ones]
        bars = axes.barh([one.label for one in ones], [one.values[0] for one in ones], color=colours)
        axes.bar_label(bars, fmt="%.3g", padding=3, fontsize=8)
        axes.set_title(panel, fontsize=10)
        axes.set_xlabel(ones[0].unit)
        axes.invert_yaxis()
        axes.margins(x=0.15)
        axes.spines[["top", "right"]].set_visible(False)
    figure.tight_layout()
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=130)
    pyplot.close(figure)
    return path
