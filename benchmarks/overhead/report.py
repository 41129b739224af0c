"""What a run of the training or the durability benchmark yields, as Markdown and as JSON."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from benchmarks.overhead.loop import Measured
from benchmarks.results import Figure, Series, markdown_row, markdown_table, missed_lines


@dataclass(frozen=True, slots=True)
class Table:
    """A row for each method. columns: their titles with units. cells: None where there is nothing to say."""

    group: str
    note: str
    columns: tuple[str, ...]
    rows: tuple[tuple[str, tuple[float | None, ...]], ...]


@dataclass(frozen=True, slots=True)
class Sample:
    """One run of a method, raw."""

    group: str
    round: int
    measured: Measured


@dataclass(frozen=True, slots=True)
class Report:
    """Where it ran, what the methods are, and all that was measured. name: of the benchmark, and of its files."""

    machine: Mapping[str, str]
    methods: Mapping[str, str]
    figures: tuple[Figure, ...]
    tables: tuple[Table, ...]
    series: tuple[Series, ...]
    samples: tuple[Sample, ...]
    name: str = "training"

    def write(self, folder: Path) -> None:
        """Write NAME.json and NAME.md into `folder`."""
        folder.mkdir(parents=True, exist_ok=True)
        content = {
            "machine": self.machine,
            "methods": self.methods,
            "figures": [asdict(figure) | {"met": figure.met} for figure in self.figures],
            "tables": [asdict(table) for table in self.tables],
            "samples": [asdict(sample) for sample in self.samples],
        }
        (folder / f"{self.name}.json").write_text(json.dumps(content, indent=1) + "\n")
        (folder / f"{self.name}.md").write_text(self.markdown())

    def markdown(self) -> str:
        """The page: the machine, the methods, then for each group its figures and a row for each method."""
        lines = [f"- {name}: {value}" for name, value in self.machine.items()]
        lines += ["", *(f"- `{name}`: {what}" for name, what in self.methods.items())]
        for group in dict.fromkeys(one.group for one in (*self.figures, *self.tables)):
            lines += ["", f"## {group}"]
            if figures := [figure for figure in self.figures if figure.group == group]:
                lines += ["", *markdown_table(figures)]
            for table in self.tables:
                if table.group == group:
                    lines += ["", table.note, "", *_lines(table)]
        if self.figures:
            lines += ["", *missed_lines(self.figures)]
        return "\n".join(lines) + "\n"


def read_markdown(folder: Path, name: str = "training") -> str:
    """The tables that `Report.write` wrote into `folder`. FileNotFoundError if it didn't."""
    return (folder / f"{name}.md").read_text()


def _lines(table: Table) -> Sequence[str]:
    lines = [markdown_row(["method", *table.columns]), markdown_row(["---", *["---:"] * len(table.columns)])]
    return lines + [markdown_row([name, *map(_cell, cells)]) for name, cells in table.rows]


def _cell(value: float | None) -> str:
    if value is None:
        return ""
    return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.3g}"
