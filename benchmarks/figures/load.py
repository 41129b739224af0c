"""Load time, from page cache and disk; castore verifies what it reads, torch.load and safetensors do not."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator
from functools import partial

from benchmarks.bench import Bench, cool, seconds_of, warm
from benchmarks.peers import OWN, Checkpoint, RepackedCastore, with_haste
from benchmarks.results import Figure, Series, median
from benchmarks.states import FULL_STATES, same_state, tensor_bytes

GROUP = "Load"


def run(bench: Bench) -> Iterator[Figure | Series]:
    for kind, label in FULL_STATES.items():
        yield from _full_state(bench, kind, label)


def _full_state(bench: Bench, kind: str, label: str) -> Iterator[Figure | Series]:
    trajectory = bench.trajectory(kind)
    checkpoints = [Checkpoint(trajectory.load(i), trajectory.files[i]) for i in range(len(trajectory.files))]
    last = len(checkpoints) - 1
    times: dict[int, dict[str, list[float]]] = {
        i: defaultdict(list) for i in ((0, last // 2, last) if kind == "gpt-fp32" else (last,))
    }
    cold: dict[str, list[float]] = defaultdict(list)  # of the last one
    with bench.folder("load") as folder:
        types = [*with_haste(bench.quick), RepackedCastore]
        for one in types:
            (folder / one.name).mkdir()
        peers = [one(folder / one.name) for one in types]
        for i, checkpoint in enumerate(checkpoints):
            for peer in peers:
                peer.commit(checkpoint, i)
        for peer in peers:
            if isinstance(peer, RepackedCastore):
                peer.settle()
        for i in times:
            # The first load of each is unmeasured, and shows that castore gives back what it got.
            for peer in peers:
                if peer.name in OWN and not same_state(peer.load(i), checkpoints[i].state):
                    raise RuntimeError(f"{peer.name} loaded something else than it committed as checkpoint {i}")
        for turn in range(bench.rounds):
            for i, samples in times.items():
                for peer in peers[turn % len(peers) :] + peers[: turn % len(peers)]:
                    warm(folder / peer.name)
                    samples[peer.name].append(seconds_of(partial(peer.load, i)))
            for peer in peers[turn % len(peers) :] + peers[: turn % len(peers)]:
                cool(folder / peer.name)
                cold[peer.name].append(seconds_of(partial(peer.load, last)))
            medians = {name: median(samples) for name, samples in times[last].items()}
            bench.say_values(f"{label}, round {turn + 1}, medians so far in s", medians)
        for peer in peers:
            peer.close()
    raw = tensor_bytes(checkpoints[0].state)
    for i, samples in times.items():
        share = 0.9 if i == last else 0.7
        yield from _figures(f"{label}, commit {i + 1} of {last + 1}", samples, raw, share)
    yield from _figures(f"{label}, commit {last + 1} of {last + 1}, cold cache", cold, raw, 1.2)


def _figures(label: str, samples: dict[str, list[float]], raw: int, share: float) -> Iterator[Figure | Series]:
    """share: of the speed of torch.load, that castore is to reach."""
    medians = {name: median(times) for name, times in samples.items()}
    rates = tuple((name, raw / seconds / 1e9) for name, seconds in medians.items() if name not in OWN)
    target = share * dict(rates)["torch.save"]
    note = f"{raw / 1e6:.0f} MB, median of {len(samples['castore'])}; target: {share} x torch.load without mmap"
    for name, how in OWN.items():
        yield Figure(GROUP, label + how, raw / medians[name] / 1e9, "GB/s", target, "at least", note, rates)
    for name, seconds in medians.items():
        yield Series("bar", f"load: {label}", name, (seconds,), "s")
