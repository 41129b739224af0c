"""Wall time of a commit: the full state of a training run, and a state in which nothing changed."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator
from functools import partial
from typing import Any

import castore
from benchmarks.bench import Bench, seconds_of
from benchmarks.peers import OWN, Castore, Checkpoint, with_haste
from benchmarks.results import Figure, Series, median
from benchmarks.states import FULL_STATES, large_state, tensor_bytes

GROUP = "Commit"


def run(bench: Bench) -> Iterator[Figure | Series]:
    for kind, label in FULL_STATES.items():
        trajectory = bench.trajectory(kind)
        checkpoints = [Checkpoint(trajectory.load(i), trajectory.files[i]) for i in range(len(trajectory.files))]
        _warm_up(bench, checkpoints[:2])
        yield from _full_state(bench, label, checkpoints)
    synthetic = large_state(64 << 20 if bench.quick else 1 << 30)
    yield from _nothing_changed(bench, "full fp32 state", bench.trajectory("gpt-fp32").load(0))
    yield from _nothing_changed(bench, f"{tensor_bytes(synthetic) >> 20} MiB synthetic state", synthetic)


def _warm_up(bench: Bench, checkpoints: list[Checkpoint]) -> None:
    """Commit once without measuring: castore compiles its kernels on their first use on a machine."""
    with bench.folder("warm-up") as folder:
        peer = Castore(folder)
        for i, checkpoint in enumerate(checkpoints):
            bench.say(f"castore, unmeasured commit {i}: {seconds_of(partial(peer.commit, checkpoint, i)):.2f} s")
        peer.close()


def _full_state(bench: Bench, state: str, checkpoints: list[Checkpoint]) -> Iterator[Figure | Series]:
    first: dict[str, list[float]] = defaultdict(list)
    later: dict[str, list[float]] = defaultdict(list)
    kinds = with_haste(bench.quick)
    for turn in range(bench.rounds):
        # Each round starts with another peer, so that none always follows the same one.
        order = kinds[turn % len(kinds) :] + kinds[: turn % len(kinds)]
        with bench.folder("commit") as folder:
            for peer in order:
                (folder / peer.name).mkdir()
            peers = [peer(folder / peer.name) for peer in order]
            for i, checkpoint in enumerate(checkpoints):
                for peer in peers:
                    seconds = seconds_of(partial(peer.commit, checkpoint, i), settle=True)
                    (later if i else first)[peer.name].append(seconds)
            for peer in peers:
                peer.close()
        bench.say_values(
            f"{state}, round {turn + 1}, medians so far in s", {name: median(times) for name, times in later.items()}
        )
    raw = tensor_bytes(checkpoints[0].state)
    for label, times, target in (("first commit", first, False), ("commit with a parent", later, True)):
        medians = {name: median(samples) for name, samples in times.items()}
        rivals = tuple((name, seconds) for name, seconds in medians.items() if name not in OWN)
        note = f"{raw / 1e6:.0f} MB raw, median of {len(times['castore'])}"
        note += "; target: half of torch.save + fsync" if target else ""
        limit = medians["torch.save"] / 2 if target else None
        for name, how in ((name, how) for name, how in OWN.items() if name in medians):
            yield Figure(GROUP, f"{state}: {label}{how}", medians[name], "s", limit, note=note, rivals=rivals)
        for name, seconds in medians.items():
            yield Series("bar", f"{state}: {label}", name, (seconds,), "s")


def _nothing_changed(bench: Bench, label: str, state: dict[str, Any]) -> Iterator[Figure]:
    raw = tensor_bytes(state)
    with bench.folder("unchanged") as folder:
        store = castore.open(folder, create=True)
        store.commit(state, branch="main", message="first")
        again = partial(store.commit, state, branch="main", message="the same")
        times = [seconds_of(again, settle=True) for _ in range(3 * bench.rounds)]
        store.close()
    note = f"{raw / 1e6:.0f} MB in {median(times) * 1e3:.1f} ms, median of {len(times)}"
    yield Figure(GROUP, f"{label}: nothing changed", raw / median(times) / 1e9, "GB/s", 8.0, "at least", note)
