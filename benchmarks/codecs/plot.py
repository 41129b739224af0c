"""Size against speed, as one PNG file."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from benchmarks.codecs.measure import Row
from benchmarks.codecs.streams import ROLES
from benchmarks.codecs.sums import FAR, STATE, Table, Total

PANELS = (
    ("fp32 state, 10 to 100 steps", FAR, STATE),
    ("fp32 weights, 10 to 100 steps", FAR, ("weights",)),
    ("bf16 weights, 10 to 100 steps", ("bf16-10", "bf16-100"), ("weights",)),
    ("fp32 state, every step", ("fp32-1",), STATE),
    ("bf16 state, every step", ("bf16-1",), ROLES["bf16"]),
    ("SGD state, every step", ("sgd-1",), ROLES["sgd"]),
)
TICKS = (0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1, 2, 5)
COLOURS = {"castore": "#d1495b", "yardstick": "#30638e"}


def plot(rows: Sequence[Row], path: Path) -> Path | None:
    """A panel for each state that was measured: coded / raw over the speed of encoding on one thread."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    table = Table(rows)
    panels = [(title, table.of(pairs, roles)) for title, pairs, roles in PANELS if table.has(pairs, roles)]
    if not panels:
        return None
    columns = min(3, len(panels))
    lines = -(-len(panels) // columns)
    figure, grid = pyplot.subplots(lines, columns, figsize=(5.4 * columns, 4.2 * lines), squeeze=False)
    for axes, (title, part) in zip(grid.flat, panels, strict=False):
        axes.set_title(title, fontsize=10)
        _panel(axes, {name: total for name in ("castore", "yardstick") if (total := part.total(name))} | part.peers())
    for axes in grid.flat[len(panels) :]:
        axes.remove()
    figure.tight_layout()
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=130)
    pyplot.close(figure)
    return path


def _panel(axes: Any, totals: dict[str, Total]) -> None:
    raw = max(total.raw for total in totals.values())
    whole = {name: total for name, total in totals.items() if total.raw == raw}  # not those that take some streams only
    for i, (name, total) in enumerate(sorted(whole.items(), key=lambda item: item[1].coded)):
        x, y = total.encode_rate / 1e9, total.coded / total.raw
        axes.scatter(x, y, color=COLOURS.get(name, "#8d96a3"), s=36, zorder=2)
        # Neighbours in size take turns above and below, or their names would lie on each other.
        axes.annotate(name, (x, y), textcoords="offset points", xytext=(5, 4 if i % 2 else -10), fontsize=8)
    axes.set_xscale("log")
    axes.set_xticks(TICKS, [f"{tick:g}" for tick in TICKS])
    axes.minorticks_off()
    rates = [total.encode_rate / 1e9 for total in whole.values()]
    axes.set_xlim(min(rates) / 1.5, max(rates) * 2.2)
    axes.set_xlabel("encode, GB/s on one thread")
    axes.set_ylabel("coded / raw")
    axes.spines[["top", "right"]].set_visible(False)
    axes.margins(y=0.12)
    axes.grid(alpha=0.25)
