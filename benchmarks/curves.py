"""Plots of one quantity against another, a panel for each curve, as a PNG file."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from statistics import fmean
from typing import Any

from benchmarks.results import Curve

PLAIN, MARKED = "#30638e", "#d1495b"
GAP = 0.085  # between labels, of the height of a panel


def plot_curves(curves: Sequence[Curve], path: Path) -> Path:
    """Draw the curves side by side, each with scales of its own."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    columns = min(2, len(curves))
    rows = -(-len(curves) // columns)
    figure, grid = pyplot.subplots(rows, columns, figsize=(6.6 * columns, 4.2 * rows), squeeze=False)
    for axes, curve in zip(grid.flat, curves, strict=False):
        _panel(axes, curve)
    for axes in grid.flat[len(curves) :]:
        axes.remove()
    figure.tight_layout()
    figure.savefig(path, dpi=130)
    pyplot.close(figure)
    return path


def _panel(axes: Any, curve: Curve) -> None:
    points = sorted(curve.points, key=lambda point: point.x)
    axes.plot([point.x for point in points], [point.y for point in points], color=PLAIN, alpha=0.35, zorder=1)
    for point in points:
        colour, size = (MARKED, 90) if point.is_default else (PLAIN, 30)
        marker, order = ("*", 4) if point.is_default else ("o", 3)
        axes.scatter(point.x, point.y, color=colour, s=size, marker=marker, zorder=order)
    if curve.most is not None:
        axes.axhline(curve.most, color=MARKED, linewidth=1, linestyle="--", alpha=0.6, zorder=0)
        place = axes.get_yaxis_transform()
        axes.text(
            0.99,
            curve.most,
            f"at most {curve.most:g}",
            transform=place,
            fontsize=7,
            ha="right",
            va="bottom",
            color=MARKED,
        )
    axes.margins(x=0.06, y=0.1)
    axes.locator_params(axis="x", nbins=6)
    axes.set_title(curve.label, fontsize=10)
    axes.set_xlabel(curve.x_title)
    axes.set_ylabel(curve.y_title)
    axes.spines[["top", "right"]].set_visible(False)
    axes.grid(alpha=0.25)
    _label(axes, curve)


def _label(axes: Any, curve: Curve) -> None:
    """Write the labels in a column beside the panel, a line from each to its point: points may lie on each other."""
    low, high = axes.get_ylim()
    points = sorted(curve.points, key=lambda point: (point.y, point.x))
    heights = [(point.y - low) / (high - low) for point in points]
    for point, height in zip(points, _spread(heights), strict=True):
        axes.annotate(
            f"{point.label} (default)" if point.is_default else point.label,
            (point.x, point.y),
            xytext=(1.02, height),
            textcoords="axes fraction",
            fontsize=8,
            va="center",
            color=MARKED if point.is_default else "black",
            arrowprops={"arrowstyle": "-", "color": "#8d96a3", "linewidth": 0.6, "shrinkB": 4},
            annotation_clip=False,
        )


def _spread(heights: Sequence[float]) -> list[float]:
    """The same heights, in order, moved apart to at least GAP, and no further than that takes."""
    # Without the gaps before it, each may be as high as the one below; those that aren't share their mean.
    groups: list[list[float]] = []
    for i, height in enumerate(heights):
        groups.append([height - i * GAP])
        while len(groups) > 1 and fmean(groups[-2]) > fmean(groups[-1]):
            groups[-2:] = [groups[-2] + groups[-1]]
    flat = [fmean(group) for group in groups for _ in group]
    return [height + i * GAP for i, height in enumerate(flat)]
