"""The streams: one role of a state (weights, exp_avg, ...) in two checkpoints of one run, as flat arrays of words."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray

from benchmarks.trajectories import Trajectory

Words = NDArray[np.unsignedinteger[Any]]
Run = Literal["fp32", "bf16", "sgd"]

CHUNK = 1 << 18  # elements: castore's default chunk


@dataclass(frozen=True, slots=True)
class Pair:
    """Two checkpoints of one run, `distance` steps apart. kind: of the trajectory that they are from."""

    run: Run
    distance: int
    kind: str

    @property
    def name(self) -> str:
        return f"{self.run}-{self.distance}"


PAIRS = (
    *(Pair("fp32", distance, "gpt-fp32-steps") for distance in (1, 10)),
    Pair("fp32", 50, "gpt-fp32"),
    Pair("fp32", 100, "gpt-fp32-steps"),
    *(Pair("bf16", distance, "gpt-bf16-steps") for distance in (1, 10, 100)),
    *(Pair("sgd", distance, "gpt-sgd-steps") for distance in (1, 10, 100)),
)
RUNS: Mapping[Run, str] = {"fp32": "AdamW, fp32", "bf16": "AdamW, bf16 with fp32 masters", "sgd": "SGD with momentum"}
ROLES: Mapping[Run, tuple[str, ...]] = {
    "fp32": ("weights", "exp_avg", "exp_avg_sq"),
    "bf16": ("weights", "masters", "exp_avg", "exp_avg_sq"),
    "sgd": ("weights", "momentum_buffer"),
}


@dataclass(frozen=True, slots=True)
class Stream:
    """A role's words in the newer checkpoint and in the older one: uint32 for fp32, uint16 for bf16.

    others: the same places of the pair's other roles, for a codec that predicts one stream from another.
    steps: the step of the older checkpoint and of the newer one. options: the optimizer's, such as lr and betas.
    """

    pair: Pair
    role: str
    new: Words
    old: Words
    steps: tuple[int, int]
    options: Mapping[str, Any]
    others: Mapping[str, Stream] = field(default_factory=dict, repr=False)

    @property
    def label(self) -> str:
        precision = "fp32" if self.new.itemsize == 4 else "bf16"
        return f"{self.role} {precision}"

    @property
    def raw_bytes(self) -> int:
        return self.new.nbytes

    def parts(self, elements: int | None) -> list[Stream]:
        """The stream cut every `elements`, the others with it; uncut if None. No bytes are copied."""
        size = elements or self.new.size
        return [self._part(slice(start, start + size)) for start in range(0, self.new.size, size)]

    def _part(self, span: slice) -> Stream:
        others = {role: other._part(span) for role, other in self.others.items()}
        return Stream(self.pair, self.role, self.new[span], self.old[span], self.steps, self.options, others)


def read(pair: Pair, trajectory: Trajectory, chunks: int, quick: bool) -> Iterator[Stream]:
    """The streams of `pair`: `chunks` chunks evenly spread over each role, at the same places in all of them.

    quick: a toy trajectory without such a pair gives its last two checkpoints. ValueError for a real one.
    """
    old, new = _newest(trajectory.steps, pair.distance, quick)
    states = [trajectory.load(old), trajectory.load(new)]
    options = {name: value for name, value in states[1]["optimizer"]["param_groups"][0].items() if name != "params"}
    steps = (trajectory.steps[old], trajectory.steps[new])
    streams = {}
    for role in ROLES[pair.run]:
        before, after = (_spread(_words(state, role), chunks) for state in states)
        streams[role] = Stream(pair, role, after, before, steps, options)
    for role, stream in streams.items():
        others = {other: streams[other] for other in streams if other != role}
        yield Stream(pair, role, stream.new, stream.old, steps, options, others)


def as_bytes(words: Any) -> memoryview:
    """The bytes of an array, not copied."""
    return memoryview(words).cast("B")


def _newest(steps: Sequence[int], distance: int, quick: bool) -> tuple[int, int]:
    """The indices of the last two checkpoints that lie `distance` steps apart."""
    found = [(i, j) for j in range(len(steps)) for i in range(j) if steps[j] - steps[i] == distance]
    if not found and quick:
        return len(steps) - 2, len(steps) - 1
    if not found:
        raise ValueError(f"no two of the steps {steps} lie {distance} apart")
    return found[-1]


def _words(state: Mapping[str, Any], role: str) -> Words:
    """All tensors of a role as one array, in the order of the parameters, which all roles share."""
    if role == "weights":
        tensors = state["model"].values()
    elif role == "masters":
        tensors = state["masters"].values()
    else:
        tensors = [of_parameter[role] for _, of_parameter in sorted(state["optimizer"]["state"].items())]
    flat = torch.cat([tensor.flatten() for tensor in tensors])
    integers = torch.int16 if flat.element_size() == 2 else torch.int32
    words: Words = flat.view(integers).numpy().view(np.uint16 if flat.element_size() == 2 else np.uint32)
    return words


def _spread(words: Words, chunks: int) -> Words:
    """`chunks` whole chunks: a transformer's first tensors are its embeddings, which are not like the rest."""
    whole = words.size // CHUNK
    if whole == 0:
        return words
    places = np.unique(np.linspace(0, whole - 1, min(chunks, whole)).round().astype(int))
    return np.concatenate([words[place * CHUNK : (place + 1) * CHUNK] for place in places])
