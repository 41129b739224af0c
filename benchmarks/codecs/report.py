"""What a run of the codecs yields, as Markdown and as JSON."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from benchmarks.codecs.measure import Row
from benchmarks.codecs.streams import PAIRS, RUNS
from benchmarks.codecs.sums import figures
from benchmarks.results import markdown_row, markdown_table, missed_lines

CAPTION = (
    "Ratio is raw / coded; speeds are GB/s of raw bytes, with one thread and with two.",
    "`against` says how a codec's smallest way uses the older checkpoint: alone, it doesn't; else by XOR, or by the",
    "difference of the ordered integers.",
)


@dataclass(frozen=True, slots=True)
class Report:
    """Where it ran, how each codec was run, which are not installed, and the rows."""

    machine: Mapping[str, str]
    codecs: Mapping[str, str]
    missing: Mapping[str, str]
    rows: tuple[Row, ...]

    def write(self, folder: Path) -> None:
        """Write codecs.json and codecs.md into `folder`."""
        folder.mkdir(parents=True, exist_ok=True)
        content = {
            "machine": self.machine,
            "codecs": self.codecs,
            "not_installed": self.missing,
            "figures": [asdict(figure) | {"met": figure.met} for figure in figures(self.rows)],
            "rows": [asdict(row) for row in self.rows],
        }
        (folder / "codecs.json").write_text(json.dumps(content, indent=1) + "\n")
        (folder / "codecs.md").write_text(self.markdown())

    def markdown(self) -> str:
        """The page: the machine, the sums with their targets, then a table for each stream."""
        lines = [f"- {name}: {value}" for name, value in self.machine.items()]
        lines += [f"- {name}: {what}" for name, what in self.codecs.items()]
        lines += [f"- {name}: not installed ({why})" for name, why in self.missing.items()]
        summed = list(figures(self.rows))
        for group in dict.fromkeys(figure.group for figure in summed):
            lines += ["", f"## {group}", "", *markdown_table([f for f in summed if f.group == group])]
        lines += ["", *missed_lines(summed)]
        lines += ["", "## Each stream", "", *CAPTION]
        for pair in PAIRS:
            streams = dict.fromkeys(row.stream for row in self.rows if row.pair == pair.name)
            for stream in streams:
                rows = [row for row in self.rows if (row.pair, row.stream) == (pair.name, stream)]
                apart = "1 step apart" if pair.distance == 1 else f"{pair.distance} steps apart"
                megabytes = f"{rows[0].raw_bytes / 1e6:.1f} MB"
                lines += ["", f"### {RUNS[pair.run]}: {stream}, {apart}, {megabytes}", "", *_stream(rows)]
        return "\n".join(lines) + "\n"


def read_report(folder: Path) -> Report:
    """What `Report.write` wrote into `folder`. FileNotFoundError if it didn't."""
    content = json.loads((folder / "codecs.json").read_text())
    rows = []
    for entry in content["rows"]:
        seconds = {name: (entry[name][0], entry[name][1]) for name in ("encode_s", "decode_s")}
        rows.append(Row(**entry | seconds))
    return Report(content["machine"], content["codecs"], content["not_installed"], tuple(rows))


def _stream(rows: Sequence[Row]) -> list[str]:
    lines = [markdown_row(["codec", "against", "ratio", "encode", "decode", "encode, 2", "decode, 2"])]
    lines.append(markdown_row(["---", "---", *["---:"] * 5]))
    for row in rows:
        rates = [
            row.raw_bytes / seconds / 1e9
            for seconds in (row.encode_s[0], row.decode_s[0], row.encode_s[1], row.decode_s[1])
        ]
        lines.append(markdown_row([row.codec, row.label, f"{row.ratio:.4f}", *(f"{rate:.2f}" for rate in rates)]))
        if row.codec == "castore":
            ideal = f"{row.raw_bytes / row.ideal_bytes:.4f}" if row.ideal_bytes else "-"
            lines.append(markdown_row(["castore's model's entropy", "", ideal, "", "", "", ""]))
    return lines
