"""A state of very many small tensors: commit, load, and what is added when one of them changed."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator
from functools import partial

import torch

from benchmarks.bench import Bench, seconds_of, warm
from benchmarks.peers import Castore, Checkpoint, Safetensors, TorchSave
from benchmarks.results import Figure, median
from benchmarks.states import same_state, small_tensors

GROUP = "Many small tensors"


def run(bench: Bench) -> Iterator[Figure]:
    count = 2_000 if bench.quick else 20_000
    state = small_tensors(count)
    changed = {"model": dict(state["model"])}
    changed["model"][f"layers.{count // 2}.bias"] = torch.ones(256)
    times: dict[str, dict[str, list[float]]] = {name: defaultdict(list) for name in ("first", "second", "load")}
    added = []
    for turn in range(bench.rounds):
        kinds = [Castore, TorchSave, Safetensors]
        for kind in kinds[turn % 3 :] + kinds[: turn % 3]:
            with bench.folder("small") as folder:
                peer = kind(folder)
                first, second = Checkpoint(state, folder), Checkpoint(changed, folder)
                times["first"][kind.name].append(seconds_of(partial(peer.commit, first, 0), settle=True))
                before = peer.stored_bytes()
                times["second"][kind.name].append(seconds_of(partial(peer.commit, second, 1), settle=True))
                warm(folder)
                times["load"][kind.name].append(seconds_of(partial(peer.load, 0)))
                if kind is Castore:
                    added.append(peer.stored_bytes() - before)
                    if not same_state(peer.load(1), changed):
                        raise RuntimeError("castore loaded something else than it committed")
                peer.close()
        bench.say_values(
            f"round {turn + 1}, castore in s", {name: samples["castore"][-1] for name, samples in times.items()}
        )
    label = f"{count:,} tensors of 1 KB"
    yield _seconds(f"{label}: commit", times["first"], 2.0)
    yield _seconds(f"{label}: commit when one changed", times["second"], None)
    yield _seconds(f"{label}: load", times["load"], 1.0)
    yield Figure(GROUP, f"{label}: stored when one changed", (median(added) - 1024) / 1024, "KiB beside it", 64)


def _seconds(name: str, times: dict[str, list[float]], target: float | None) -> Figure:
    rivals = tuple((peer, median(samples)) for peer, samples in times.items() if peer != "castore")
    return Figure(GROUP, name, median(times["castore"]), "s", target, rivals=rivals)
