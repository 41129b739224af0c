"""What a benchmark yields: figures with their targets, and series and curves for the plots."""

from __future__ import annotations

import json
import os
import platform
import statistics
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import datetime, timezone
from pathlib import Path
from typing import Literal


@dataclass(frozen=True, slots=True)
class Figure:
    """One measured number. target: what it should be at most or at least; None for a peer or a mere fact.

    rivals: the same quantity for each peer, measured in the same run. beside: other quantities of the same thing.
    """

    group: str
    name: str
    value: float
    unit: str
    target: float | None = None
    sense: Literal["at most", "at least"] = "at most"
    note: str = ""
    rivals: tuple[tuple[str, float], ...] = ()
    beside: tuple[tuple[str, float], ...] = ()

    @property
    def met(self) -> bool | None:
        if self.target is None:
            return None
        return self.value <= self.target if self.sense == "at most" else self.value >= self.target


@dataclass(frozen=True, slots=True)
class Series:
    """Numbers to plot. kind: a `line` over the commits or a `bar` per label. panel: the plot that it belongs to."""

    kind: Literal["line", "bar"]
    panel: str
    label: str
    values: tuple[float, ...]
    unit: str


@dataclass(frozen=True, slots=True)
class Point:
    """Of a curve. is_default: what a user gets who sets nothing."""

    x: float
    y: float
    label: str
    is_default: bool


@dataclass(frozen=True, slots=True)
class Curve:
    """One quantity against another. plot: the name of the PNG that it belongs to. most: what y should be at most."""

    plot: str
    label: str
    x_title: str
    y_title: str
    points: tuple[Point, ...]
    most: float | None = None


@dataclass(frozen=True, slots=True)
class Results:
    """All that one run measured, and where."""

    machine: Mapping[str, str]
    figures: tuple[Figure, ...]
    series: tuple[Series, ...]
    curves: tuple[Curve, ...] = ()

    def write(self, folder: Path) -> None:
        """Write results.json and results.md into `folder`."""
        folder.mkdir(parents=True, exist_ok=True)
        figures = [asdict(figure) | {"met": figure.met} for figure in self.figures]
        content = {
            "machine": self.machine,
            "figures": figures,
            "series": [asdict(one) for one in self.series],
            "curves": [asdict(one) for one in self.curves],
        }
        (folder / "results.json").write_text(json.dumps(content, indent=1) + "\n")
        (folder / "results.md").write_text(self.markdown())

    def markdown(self) -> str:
        """The page that docs/performance.md takes over: the machine, then a table for each group."""
        lines = [f"- {name}: {value}" for name, value in self.machine.items()]
        for group in dict.fromkeys(figure.group for figure in self.figures):
            lines += ["", f"## {group}", "", *markdown_table([f for f in self.figures if f.group == group])]
        return "\n".join([*lines, "", *missed_lines(self.figures)]) + "\n"


def read_results(folder: Path) -> Results:
    """What `Results.write` wrote into `folder`. FileNotFoundError if it didn't."""
    content = json.loads((folder / "results.json").read_text())
    figures = []
    for entry in content["figures"]:
        del entry["met"]
        columns = {key: tuple((name, value) for name, value in entry.get(key, ())) for key in ("rivals", "beside")}
        figures.append(Figure(**entry | columns))
    series = [Series(**entry | {"values": tuple(entry["values"])}) for entry in content["series"]]
    curves = [
        Curve(**entry | {"points": tuple(Point(**point) for point in entry["points"])})
        for entry in content.get("curves", ())
    ]
    return Results(content["machine"], tuple(figures), tuple(series), tuple(curves))


def median(samples: Iterable[float]) -> float:
    return statistics.median(samples)


def machine_facts() -> dict[str, str]:
    """What a reader needs to judge the figures by."""
    import numpy
    import torch

    cpu = next((line.split(":")[1].strip() for line in _lines("/proc/cpuinfo") if line.startswith("model name")), "?")
    memory = next((int(line.split()[1]) for line in _lines("/proc/meminfo") if line.startswith("MemTotal")), 0)
    return {
        "date": datetime.now(timezone.utc).strftime("%Y-%m-%d %H:%M UTC"),
        "processor": f"{cpu}, {os.cpu_count()} cores, {memory / 2**20:.0f} GiB",
        "system": f"{platform.system()} {platform.release()}, load average {os.getloadavg()[0]:.2f} at the start",
        "software": f"Python {platform.python_version()}, torch {torch.__version__}, numpy {numpy.__version__}",
    }


def _lines(path: str) -> list[str]:
    return Path(path).read_text().splitlines() if Path(path).exists() else []


def missed_lines(figures: Sequence[Figure]) -> list[str]:
    """How many targets there are, and each that is missed."""
    missed = [figure for figure in figures if figure.met is False]
    lines = [f"{sum(f.met is not None for f in figures)} targets, {len(missed)} missed."]
    return lines + [f"- missed: {f.group}, {f.name}: {_number(f.value)} {f.unit}, {_target(f)}" for f in missed]


def markdown_table(figures: Sequence[Figure]) -> list[str]:
    """Figures of one group as the lines of a table, with a column for each rival and each quantity beside."""
    columns = list(dict.fromkeys(name for figure in figures for name, _ in (*figure.rivals, *figure.beside)))
    lines = [markdown_row(["figure", "castore", "target", "met", *columns, "note"])]
    lines.append(markdown_row(["---", "---:", "---", "---", *["---:"] * len(columns), "---"]))
    for figure in figures:
        met = {None: "", True: "yes", False: "**no**"}[figure.met]
        others = dict((*figure.rivals, *figure.beside))
        cells = [_number(others[name]) if name in others else "" for name in columns]
        value = f"{_number(figure.value)} {figure.unit}"
        lines.append(markdown_row([figure.name, value, _target(figure), met, *cells, figure.note]))
    return lines


def markdown_row(cells: Sequence[str]) -> str:
    """A line of a table."""
    return f"| {' | '.join(cells)} |"


def _target(figure: Figure) -> str:
    return "" if figure.target is None else f"{figure.sense} {_number(figure.target)}"


def _number(value: float) -> str:
    if value == int(value) and abs(value) < 1e15:
        return f"{int(value):,}"
    return f"{value:,.1f}" if abs(value) >= 100 else f"{value:.3g}"
