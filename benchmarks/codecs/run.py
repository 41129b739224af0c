"""One run of the codec benchmark, from the trajectories to its report."""

from __future__ import annotations

import sys
import time
from collections.abc import Sequence
from pathlib import Path

from benchmarks.codecs.castore_codec import castore_peers
from benchmarks.codecs.coder import Peer
from benchmarks.codecs.measure import Row, measure
from benchmarks.codecs.peers import PEERS
from benchmarks.codecs.plot import plot
from benchmarks.codecs.report import Report
from benchmarks.codecs.streams import PAIRS, read
from benchmarks.codecs.yardstick import yardstick_peer
from benchmarks.results import machine_facts
from benchmarks.trajectories import trajectory


def run(
    cache: Path,
    out: Path,
    only: Sequence[str],
    codecs: Sequence[str],
    rounds: int,
    chunks: int,
    quick: bool,
    yardstick: Path | None,
) -> Report:
    """Measure and write codecs.md, codecs.json and codecs.png into `out`.

    only: names of pairs, or their beginnings (`fp32`, `bf16-1`); codecs: names of peers; all of them if empty.
    chunks: of 256 Ki elements, of each stream. yardstick: where the sketch lies; without it there is none.
    """
    machine = machine_facts()
    peers, missing = _peers(codecs, yardstick)
    rows: list[Row] = []
    for pair in PAIRS:
        if only and not any(pair.name == name or pair.name.startswith(f"{name}-") for name in only):
            continue
        for stream in read(pair, trajectory(pair.kind, cache, quick), chunks, quick):
            started = time.perf_counter()
            rows += measure(stream, peers, rounds)
            seconds = time.perf_counter() - started
            print(f"{pair.name}, {stream.label}: {seconds:.0f} s", file=sys.stderr, flush=True)
    machine["rounds"] = f"{rounds}, {chunks} chunks of 256 Ki elements of each stream"
    if quick:
        machine["mode"] = "quick: toy sizes, to see that the benchmarks run; the figures mean nothing"
    report = Report(machine, {peer.name: peer.what for peer in peers}, missing, tuple(rows))
    report.write(out)
    plot(rows, out / "codecs.png")
    return report


def _peers(codecs: Sequence[str], yardstick: Path | None) -> tuple[list[Peer], dict[str, str]]:
    """castore, the yardstick and the peers, and why each of those that could not be made is missing."""
    peers, missing = castore_peers(), {}
    if yardstick is not None:
        peers.append(yardstick_peer(yardstick))
    for name, make in PEERS.items():
        try:
            peers.append(make())
        except ImportError as error:
            missing[name] = str(error)
    return [peer for peer in peers if not codecs or peer.name in codecs], missing
