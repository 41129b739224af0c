"""What is measured: coders, and the peers that consist of one or more of them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Literal, Protocol

from benchmarks.codecs.streams import Stream, Words

Threading = Literal["pool", "own", "processes"]
"""How a coder uses two threads: a pool over its units; threads of its own; or, where it holds the GIL, processes."""


class Coder(Protocol):
    """One way to code a stream. label: how it uses the older checkpoint.

    A payload may be memory that the thread's next call overwrites, until `keep` has made it last.
    """

    label: str
    threading: Threading

    def unit(self, width: int) -> int | None:
        """How many words of `width` bytes it codes at once; None for all of a stream."""
        ...

    def encode(self, part: Stream, threads: int) -> Any: ...

    def keep(self, payload: Any) -> Any: ...

    def size(self, payload: Any) -> int: ...

    def decode(self, payload: Any, part: Stream, out: Words, threads: int) -> None:
        """Write part.new into `out`. Copying the base there, where that is needed, is part of it."""
        ...


@dataclass(frozen=True, slots=True)
class Peer:
    """A codec by its name, and its coders, of which the smallest result on a stream counts.

    what: how it is run, for the page. widths: bytes of the words that it takes.
    reference: measured for comparison only; no peer to beat.
    """

    name: str
    what: str
    coders: tuple[Coder, ...]
    widths: tuple[int, ...] = (2, 4)
    reference: bool = False


class BytesCoder:
    """What coders whose payload is `bytes` have in common."""

    def __init__(self, label: str, threading: Threading) -> None:
        self.label = label
        self.threading: Threading = threading

    def keep(self, payload: bytes) -> bytes:
        return payload

    def size(self, payload: bytes) -> int:
        return len(payload)


@dataclass(frozen=True, slots=True)
class Transform:
    """What a backend is fed in place of the words, and how to get them back: (coded, old, out)."""

    label: str
    forward: Callable[[Words, Words], Words]
    inverse: Callable[[Words, Words, Words], None]


class Backend(Protocol):
    """A compressor of arrays of words that knows nothing of an older checkpoint. like: an array like the result."""

    def compress(self, words: Words, threads: int) -> bytes: ...

    def decompress(self, payload: bytes, like: Words, threads: int) -> Words: ...


class Transformed(BytesCoder):
    """A backend behind a transform."""

    def __init__(self, backend: Backend, transform: Transform, unit: int, threading: Threading) -> None:
        super().__init__(transform.label, threading)
        self._backend = backend
        self._transform = transform
        self._unit = unit

    def unit(self, width: int) -> int | None:
        return self._unit

    def encode(self, part: Stream, threads: int) -> bytes:
        return self._backend.compress(self._transform.forward(part.new, part.old), threads)

    def decode(self, payload: bytes, part: Stream, out: Words, threads: int) -> None:
        coded = self._backend.decompress(payload, part.new, threads)
        self._transform.inverse(coded, part.old, out)


def transformed(
    backend: Backend, transforms: Sequence[Transform], unit: int, threading: Threading = "pool"
) -> tuple[Coder, ...]:
    """A coder for each of `transforms`."""
    return tuple(Transformed(backend, transform, unit, threading) for transform in transforms)
