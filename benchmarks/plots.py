"""The plots of a run, as PNG files."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from benchmarks.curves import plot_curves
from benchmarks.results import Curve, Results, Series

COLOURS = {
    "castore": "#d1495b",
    "torch.save": "#30638e",
    "safetensors": "#6c9bc2",
    "zstd -3 -T2": "#8d96a3",
    "restic": "#4f7942",
    "borg": "#a3b18a",
}


def plot(results: Results, folder: Path) -> list[Path]:
    """Write lines.png, bars.png and the plots of curves into `folder`, as far as there is something to plot."""
    import matplotlib

    matplotlib.use("Agg")
    written = []
    for kind, draw in (("line", _draw_lines), ("bar", _draw_bars)):
        panels: dict[str, list[Series]] = {}
        for series in results.series:
            if series.kind == kind:
                panels.setdefault(series.panel, []).append(series)
        if panels:
            written.append(_figure(panels, draw, folder / f"{kind}s.png"))
    curves: dict[str, list[Curve]] = {}
    for curve in results.curves:
        curves.setdefault(curve.plot, []).append(curve)
    written += [plot_curves(ones, folder / f"{name}.png") for name, ones in curves.items()]
    return written


def _figure(panels: dict[str, list[Series]], draw, path: Path) -> Path:  # type: ignore[no-untyped-def]
    from matplotlib import pyplot

    columns = min(3, len(panels))
    rows = -(-len(panels) // columns)
    figure, grid = pyplot.subplots(rows, columns, figsize=(5 * columns, 3.6 * rows), squeeze=False)
    for axes, (title, series) in zip(grid.flat, panels.items(), strict=False):
        axes.set_title(title, fontsize=10)
        axes.spines[["top", "right"]].set_visible(False)
        draw(axes, series)
    for axes in grid.flat[len(panels) :]:
        axes.remove()
    figure.tight_layout()
    figure.savefig(path, dpi=130)
    pyplot.close(figure)
    return path


def _draw_lines(axes, series: Sequence[Series]) -> None:  # type: ignore[no-untyped-def]
    for one in series:
        commits = range(1, len(one.values) + 1)
        axes.plot(commits, one.values, marker="o", markersize=3, label=one.label, color=COLOURS.get(one.label))
    axes.xaxis.get_major_locator().set_params(integer=True)
    axes.set_xlabel("commits")
    axes.set_ylabel(f"stored, {series[0].unit}")
    axes.set_ylim(bottom=0)
    axes.legend(fontsize=8, frameon=False)


def _draw_bars(axes, series: Sequence[Series]) -> None:  # type: ignore[no-untyped-def]
    labels = [one.label for one in series]
    values = [one.values[0] for one in series]
    bars = axes.barh(labels, values, color=[COLOURS.get(label, "#8d96a3") for label in labels])
    axes.bar_label(bars, fmt="%.3g", padding=3, fontsize=8)
    axes.set_xlabel(series[0].unit)
    axes.invert_yaxis()
    axes.margins(x=0.15)
