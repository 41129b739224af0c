"""Depth and span of deltas: what a store takes, and what the last commit and its load cost, for several settings."""

from __future__ import annotations

import re
from collections.abc import Iterator
from functools import partial

import castore
from benchmarks.bench import Bench, seconds_of, warm
from benchmarks.results import Figure, Series, median
from benchmarks.states import same_state, tensor_bytes

GROUP = "Depth and span of deltas, gpt fp32, full state"
SETTINGS = ((1, 1), (2, 2), (4, 4), (1, 4), (1, 8), (1, 12), (1, 24))


def run(bench: Bench) -> Iterator[Figure | Series]:
    """One store for each setting, committed one after another; loads of the last commit in turn."""
    trajectory = bench.trajectory("gpt-fp32")
    states = [trajectory.load(i) for i in range(len(trajectory.files))]
    raw = tensor_bytes(states[0])
    with bench.folder("deltas") as folder:
        stores, commits = {}, {}
        for depth, span in SETTINGS:
            castore.open(folder / f"{depth}-{span}", create=True).close()
            settings = folder / f"{depth}-{span}" / ".castore" / "castore.toml"
            text = re.sub(r"max_depth = \d+", f"max_depth = {depth}", settings.read_text())
            settings.write_text(re.sub(r"max_span = \d+", f"max_span = {span}", text))
            stores[depth, span] = castore.open(folder / f"{depth}-{span}")
            commits[depth, span] = []
        for step, state in enumerate(states):
            for key, store in stores.items():
                commits[key].append(seconds_of(partial(store.commit, state, step=step), settle=True))
        loads: dict[tuple[int, int], list[float]] = {key: [] for key in stores}
        for _ in range(bench.rounds):
            for key, store in stores.items():
                warm(store.path)
                loads[key].append(seconds_of(partial(store.load, "main")))
        for (depth, span), store in stores.items():
            if not same_state(store.load("main"), states[-1]):
                raise RuntimeError("castore loaded something else than what it committed")
            ratio = store.stats().stored_bytes / (raw * len(states))
            commit, load = median(commits[depth, span][1:]), median(loads[depth, span])
            note = f"commit {1e3 * commit:.0f} ms, load of the newest {1e3 * load:.0f} ms"
            yield Figure(GROUP, f"depth {depth}, span {span}: stored / raw", ratio, "", note=note)
            yield Series("bar", "load of the newest, by depth/span", f"{depth}/{span}", (load,), "s")
            yield Series("bar", "stored / raw, by depth/span", f"{depth}/{span}", (ratio,), "")
            bench.say_values(f"depth {depth}, span {span}", {"stored": ratio, "commit s": commit, "load s": load})
            store.close()
