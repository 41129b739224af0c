"""Stored bytes over each trajectory, for castore and every peer, and what committing the same state again adds."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import torch

from benchmarks.bench import Bench
from benchmarks.peers import Castore, Checkpoint, available_peers
from benchmarks.results import Figure, Series
from benchmarks.states import changed_bytes, same_state, tensor_bytes

GROUP = "Stored bytes over a trajectory"
SAME_AGAIN_BYTES = 16 << 10


@dataclass(frozen=True, slots=True)
class Stream:
    """What is committed of a trajectory. part: its top-level key, or None for the full state."""

    label: str
    kind: str
    part: str | None = None


STREAMS = (
    Stream("gpt fp32, full state", "gpt-fp32"),
    Stream("gpt bf16, weights", "gpt-bf16", "model"),
    Stream("gpt bf16, full state", "gpt-bf16"),
    Stream("fine-tune, frozen layers", "finetune"),
    Stream("LoRA", "lora"),
)


@dataclass(frozen=True, slots=True)
class Sizes:
    """Bytes by commit.

    raw: of the tensors. changed: of those that differ from the commit before. stored: by peer, cumulative.
    same_again: what committing the last state once more adds to castore.
    """

    raw: tuple[int, ...]
    changed: tuple[int, ...]
    stored: dict[str, tuple[int, ...]]
    same_again: int


def run(bench: Bench) -> Iterator[Figure | Series]:
    for stream in STREAMS:
        sizes = _commit_all(bench, stream)
        yield from _figures(stream, sizes)
        whole = sum(sizes.raw)
        for name, stored in sizes.stored.items():
            yield Series("line", f"stored: {stream.label}", name, tuple(size / 1e6 for size in stored), "MB")
        bench.say_values(f"{stream.label}, stored / raw", {name: s[-1] / whole for name, s in sizes.stored.items()})


def _commit_all(bench: Bench, stream: Stream) -> Sizes:
    trajectory = bench.trajectory(stream.kind)
    raw, changed, stored = [], [], {}
    with bench.folder("stored") as folder:
        peers = [peer(_new(folder / peer.name)) for peer in available_peers(bench.quick)]
        empty = {peer.name: peer.stored_bytes() for peer in peers}
        stored = {peer.name: [] for peer in peers}
        before = {}
        for i in range(len(trajectory.files)):
            state = trajectory.load(i)
            checkpoint = Checkpoint(state, trajectory.files[i])
            if stream.part is not None:
                state = {stream.part: state[stream.part]}
                checkpoint = Checkpoint(state, folder / f"{i}.pt")
                torch.save(state, checkpoint.file)
            raw.append(tensor_bytes(state))
            changed.append(changed_bytes(before, state))
            before = state
            for peer in peers:
                peer.commit(checkpoint, i)
                stored[peer.name].append(peer.stored_bytes() - empty[peer.name])
        same_again = _same_again(next(peer for peer in peers if isinstance(peer, Castore)), checkpoint, i)
        for peer in peers:
            peer.close()
    return Sizes(tuple(raw), tuple(changed), {name: tuple(sizes) for name, sizes in stored.items()}, same_again)


def _same_again(castore: Castore, checkpoint: Checkpoint, i: int) -> int:
    """Bytes that committing the last state again adds; it must come back bit for bit."""
    before = castore.stored_bytes()
    castore.commit(checkpoint, i + 1)
    added = castore.stored_bytes() - before
    if not same_state(castore.load(i), checkpoint.state):
        raise RuntimeError("castore loaded something else than what it committed")
    return added


def _figures(stream: Stream, sizes: Sizes) -> Iterator[Figure]:
    whole = sum(sizes.raw)
    castore = sizes.stored["castore"]
    ratios = {name: stored[-1] / whole for name, stored in sizes.stored.items()}
    target = 0.80 if stream.kind == "gpt-fp32" else None
    yield _ratio(f"{stream.label}: stored / raw", ratios, f"{whole / 1e6:.0f} MB raw", target)
    if stream.part == "model":
        later = {name: (s[-1] - s[0]) / sum(sizes.raw[1:]) for name, s in sizes.stored.items()}
        yield _ratio(f"{stream.label}: stored / raw from the second commit on", later, "", 0.45)
    if stream.kind in ("finetune", "lora"):
        # What the last commit shares with the one before it never changed: the frozen base, wanted once.
        base = sizes.raw[-1] - sizes.changed[-1]
        changed = sizes.changed[0] - base + sum(sizes.changed[1:])
        note = f"base {base / 1e6:.1f} MB, changed {changed / 1e6:.1f} MB"
        allowed = (base + 1.05 * changed) / 1e6
        rivals = tuple((name, s[-1] / 1e6) for name, s in sizes.stored.items() if name != "castore")
        name = f"{stream.label}: stored, against base + 1.05 x changed"
        yield Figure(GROUP, name, castore[-1] / 1e6, "MB", allowed, note=note, rivals=rivals)
    name = f"{stream.label}: the same state again adds"
    yield Figure(GROUP, name, sizes.same_again, "bytes", SAME_AGAIN_BYTES)


def _ratio(name: str, ratios: dict[str, float], note: str, target: float | None) -> Figure:
    rivals = tuple((peer, ratio) for peer, ratio in ratios.items() if peer != "castore")
    return Figure(GROUP, name, ratios["castore"], "", target, note=note, rivals=rivals)


def _new(folder: Path) -> Path:
    folder.mkdir(parents=True)
    return folder
