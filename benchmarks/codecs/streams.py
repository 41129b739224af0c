"""The streams: one role of a state (weights, exp_avg, ...) in two checkpoints of one run, as flat arrays of words."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
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
class Place:
    """How a chunk lies in its matrix: words in a row, and the column of its first word."""

    width: int
    column: int


@dataclass(frozen=True, slots=True)
class Stream:
    """A role's words in the newer checkpoint and in the older one: uint32 for fp32, uint16 for bf16.

    others: the same places of the pair's other roles, for a codec that predicts one stream from another.
    steps: the step of the older checkpoint and of the newer one. options: the optimizer's, such as lr and betas.
    places: of each chunk, None for one of no matrix.
    """

    pair: Pair
    role: str
    new: Words
    old: Words
    steps: tuple[int, int]
    options: Mapping[str, Any]
    places: tuple[Place | None, ...]
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
        places = self.places[span.start // CHUNK : span.stop // CHUNK]
        return Stream(self.pair, self.role, self.new[span], self.old[span], self.steps, self.options, places, others)


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
        before, after = (_tensors(state, role) for state in states)
        chosen = _spread([tensor.numel() for tensor in after], chunks)
        places = tuple(_place(after[number], start) for number, start in chosen)
        streams[role] = Stream(pair, role, _words(after, chosen), _words(before, chosen), steps, options, places)
    for role, stream in streams.items():
        others = {other: streams[other] for other in streams if other != role}
        yield replace(stream, others=others)


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


def _tensors(state: Mapping[str, Any], role: str) -> list[torch.Tensor]:
    """All tensors of a role, in the order of the parameters, which all roles share."""
    if role in ("weights", "masters"):
        return list(state["model" if role == "weights" else role].values())
    return [of_parameter[role] for _, of_parameter in sorted(state["optimizer"]["state"].items())]


def _spread(sizes: Sequence[int], chunks: int) -> list[tuple[int, int]]:
    """(tensor, its first word) of `chunks` whole chunks, as a commit cuts them, evenly spread: a transformer's first
    tensors are its embeddings, which are not like the rest. Of tensors without whole chunks nothing."""
    starts = [(number, start) for number, size in enumerate(sizes) for start in range(0, size - CHUNK + 1, CHUNK)]
    if not starts:
        return []
    return [starts[place] for place in np.unique(np.linspace(0, len(starts) - 1, chunks).round().astype(int))]


def _words(tensors: Sequence[torch.Tensor], chosen: Sequence[tuple[int, int]]) -> Words:
    """The words of the chosen chunks, one after another; of toys, which have none, all words."""
    flat = [tensor.flatten() for tensor in tensors]
    words = torch.cat([flat[number][start : start + CHUNK] for number, start in chosen] or flat)
    narrow = words.element_size() == 2
    found: Words = words.view(torch.int16 if narrow else torch.int32).numpy().view(np.uint16 if narrow else np.uint32)
    return found


def _place(tensor: torch.Tensor, start: int) -> Place | None:
    width = tensor.shape[-1] if tensor.dim() == 2 else 0
    return Place(width, start % width) if width else None
