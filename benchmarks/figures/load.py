"""Load time from the page cache; castore verifies what it reads, torch.load and safetensors don't."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator
from functools import partial

from benchmarks.bench import Bench, seconds_of, warm
from benchmarks.peers import Checkpoint, available_peers
from benchmarks.results import Figure, Series, median
from benchmarks.states import same_state, tensor_bytes

GROUP = "Load"


def run(bench: Bench) -> Iterator[Figure | Series]:
    trajectory = bench.trajectory("gpt-fp32")
    checkpoints = [Checkpoint(trajectory.load(i), trajectory.files[i]) for i in range(len(trajectory.files))]
    last = len(checkpoints) - 1
    times: dict[int, dict[str, list[float]]] = {i: defaultdict(list) for i in (0, last // 2, last)}
    with bench.folder("load") as folder:
        kinds = available_peers(bench.quick)
        for kind in kinds:
            (folder / kind.name).mkdir()
        peers = [kind(folder / kind.name) for kind in kinds]
        for i, checkpoint in enumerate(checkpoints):
            for peer in peers:
                peer.commit(checkpoint, i)
        for i in times:
            # The first load of each is unmeasured, and shows that castore gives back what it got.
            if not same_state(peers[0].load(i), checkpoints[i].state):
                raise RuntimeError(f"castore loaded something else than it committed as checkpoint {i}")
        for turn in range(bench.rounds):
            for i, samples in times.items():
                for peer in peers[turn % len(peers) :] + peers[: turn % len(peers)]:
                    warm(folder / peer.name)
                    samples[peer.name].append(seconds_of(partial(peer.load, i)))
            medians = {name: median(samples) for name, samples in times[last].items()}
            bench.say_values(f"round {turn + 1}, medians so far in s", medians)
        for peer in peers:
            peer.close()
    raw = tensor_bytes(checkpoints[0].state)
    for i, samples in times.items():
        yield from _figures(f"full fp32 state, commit {i + 1} of {last + 1}", samples, raw)


def _figures(label: str, samples: dict[str, list[float]], raw: int) -> Iterator[Figure | Series]:
    medians = {name: median(times) for name, times in samples.items()}
    rates = tuple((name, raw / seconds / 1e9) for name, seconds in medians.items() if name != "castore")
    target = 0.7 * dict(rates)["torch.save"]
    note = f"{raw / 1e6:.0f} MB, median of {len(samples['castore'])}; target: 0.7 x torch.load without mmap"
    yield Figure(GROUP, label, raw / medians["castore"] / 1e9, "GB/s", target, "at least", note, rates)
    for name, seconds in medians.items():
        yield Series("bar", f"load: {label}", name, (seconds,), "s")
