"""Depth of deltas and placement of whole records: what a store takes, and what its commits and loads cost.

Each setting has a store of its own, and all of them get each commit and each load in turn. A round does all of that
anew. What a load takes is compared with the same turn's from the store that holds whole records only.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any

import castore
from benchmarks.bench import Bench, seconds_of
from benchmarks.results import Curve, Figure, Point, median
from benchmarks.states import same_state, tensor_bytes
from benchmarks.trajectories import Trajectory
from castore import config
from castore.config import Config

GROUP = "Depth and placement"
NEWEST = "load of the newest, in loads of whole records"
MOST = 2.2  # loads of whole records that one of the newest may take, with the settings that a store has by default
LOADS = 3  # turns of loads in a round

DEFAULT = Config(uuid="")
WHOLE = replace(DEFAULT, max_depth=0, max_depth_half=0, max_depth_predicted=0)
# Stars, whose span says where whole records are, then chains, which the default span lets get as deep as they may.
DEPTHS_AND_SPANS = ((1, 2), (1, 4), (1, 12), (2, 12), (4, 12), (8, 12))
DEPTHS_PREDICTED = (0, 1, 2, 4, 8)

Stores = Mapping[str, castore.Store]


def _for_words(words: int) -> dict[str, Config]:
    """Settings that matter where floats have 2 or 4 bytes."""
    settings = {"whole records": WHOLE}
    for depth, span in DEPTHS_AND_SPANS:
        setting = replace(DEFAULT, max_depth_half=depth) if words == 2 else replace(DEFAULT, max_depth=depth)
        settings[f"depth {depth}, span {span}"] = replace(setting, max_span=span)
    return _with_default(settings)


def _for_predictions() -> dict[str, Config]:
    """Settings that matter where commits lie one step apart."""
    predicted = {f"predicted {depth}": replace(DEFAULT, max_depth_predicted=depth) for depth in DEPTHS_PREDICTED}
    return _with_default({"whole records": WHOLE} | predicted)


def _with_default(settings: dict[str, Config]) -> dict[str, Config]:
    return settings if DEFAULT in settings.values() else settings | {"default": DEFAULT}


@dataclass(frozen=True, slots=True)
class Case:
    """What is committed, and the settings of the stores. part: a top-level key of the state. first: so many commits."""

    label: str
    kind: str
    settings: Mapping[str, Config]
    part: str | None = None
    first: int | None = None

    def count(self, trajectory: Trajectory) -> int:
        return len(trajectory.files[: self.first])

    def state(self, trajectory: Trajectory, i: int) -> dict[str, Any]:
        state = trajectory.load(i)
        return state if self.part is None else {self.part: state[self.part]}


CASES = (
    Case("gpt fp32, full state", "gpt-fp32", _for_words(4)),
    Case("gpt bf16, weights", "gpt-bf16", _for_words(2), part="model"),
    Case("fine-tune, frozen layers", "finetune", _for_words(4)),
    Case("gpt fp32, every step", "gpt-fp32-steps", _for_predictions(), first=4),
)


@dataclass(slots=True)
class Samples:
    """Of the stores of one setting, in seconds. stored: bytes, of raw ones.

    commits: those that have a parent. against_whole: loads of the newest in those of whole records in the same turn.
    """

    stored: float = 0.0
    commits: list[float] = field(default_factory=list)
    newest: list[float] = field(default_factory=list)
    oldest: list[float] = field(default_factory=list)
    against_whole: list[float] = field(default_factory=list)


def run(bench: Bench) -> Iterator[Figure | Curve]:
    samples = {case.label: {label: Samples() for label in case.settings} for case in CASES}
    for turn in range(bench.rounds):
        for case in CASES:
            with bench.folder("depth") as folder:
                _measure(bench, case, folder, turn, samples[case.label])
            ratios = {label: median(one.against_whole) for label, one in samples[case.label].items()}
            bench.say_values(f"round {turn + 1}, {case.label}, newest in loads of whole records so far", ratios)
    for case in CASES:
        yield from _figures(bench, case, samples[case.label])


def _measure(bench: Bench, case: Case, folder: Path, turn: int, samples: Mapping[str, Samples]) -> None:
    """One round: all commits, then all loads."""
    stores = {label: _new_store(folder / str(n), one) for n, (label, one) in enumerate(case.settings.items())}
    _commit_all(bench, case, stores, turn, samples)
    _check(bench, case, stores)
    _load_all(bench, case, stores, turn, samples)
    for store in stores.values():
        store.close()


def _commit_all(bench: Bench, case: Case, stores: Stores, turn: int, samples: Mapping[str, Samples]) -> None:
    trajectory = bench.trajectory(case.kind)
    raw = 0
    for i in range(case.count(trajectory)):
        state = case.state(trajectory, i)
        raw += tensor_bytes(state)
        for label in _rotated(stores, turn + i):
            seconds = seconds_of(partial(stores[label].commit, state, step=trajectory.steps[i]), settle=True)
            if i:
                samples[label].commits.append(seconds)
    for label, store in stores.items():
        samples[label].stored = store.stats().stored_bytes / raw


def _check(bench: Bench, case: Case, stores: Stores) -> None:
    """What is loaded is what was committed. The loads also bring what is measured next into the page cache."""
    trajectory = bench.trajectory(case.kind)
    last = case.count(trajectory) - 1
    backs = {label: _newest(setting, last) for label, setting in case.settings.items()}
    for back in {last, *backs.values()}:
        state = case.state(trajectory, last - back)
        for label, store in stores.items():
            if back in (last, backs[label]) and not same_state(store.load(f"main~{back}"), state):
                raise RuntimeError(f"castore loaded something else than it committed: {label}, {back} commits back")


def _load_all(bench: Bench, case: Case, stores: Stores, turn: int, samples: Mapping[str, Samples]) -> None:
    last = case.count(bench.trajectory(case.kind)) - 1
    for n in range(LOADS):
        for label in _rotated(stores, turn + n):
            one, load = samples[label], stores[label].load
            one.newest.append(seconds_of(partial(load, f"main~{_newest(case.settings[label], last)}")))
            one.oldest.append(seconds_of(partial(load, f"main~{last}")))
        for one in samples.values():
            one.against_whole.append(one.newest[-1] / samples["whole records"].newest[-1])


def _new_store(folder: Path, setting: Config) -> castore.Store:
    store = castore.init(folder)
    store.close()
    config.write(replace(setting, uuid=store.repository.config.uuid), store.path)
    return castore.open(folder)


def _newest(setting: Config, last: int) -> int:
    """How far back the newest commit with deltas lies: where a span ends with the last one, whole records came in."""
    return 1 if setting != WHOLE and last % (setting.max_span + 1) == 0 else 0


def _rotated(stores: Stores, by: int) -> list[str]:
    labels = list(stores)
    return labels[by % len(labels) :] + labels[: by % len(labels)]


def _figures(bench: Bench, case: Case, samples: Mapping[str, Samples]) -> Iterator[Figure | Curve]:
    last = case.count(bench.trajectory(case.kind)) - 1
    points = []
    for label, one in samples.items():
        is_default = case.settings[label] == DEFAULT
        ratio = median(one.against_whole)
        notes = ["the default"] if is_default else []
        if _newest(case.settings[label], last):
            notes.append(f"newest: commit {last} of {last + 1}, the last is whole")
        milliseconds = {"commit": one.commits, "newest": one.newest, "oldest": one.oldest}
        beside = (("stored / raw", one.stored), *((f"{n}, ms", 1e3 * median(s)) for n, s in milliseconds.items()))
        target = MOST if is_default else None
        yield Figure(GROUP, f"{case.label}: {label}", ratio, "x whole", target, note="; ".join(notes), beside=beside)
        points.append(Point(one.stored, ratio, label, is_default))
    yield Curve("depth", case.label, "stored / raw", NEWEST, tuple(points), MOST)
