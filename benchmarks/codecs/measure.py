"""Sizes and times of every peer on a stream, interleaved, with every round trip checked."""

from __future__ import annotations

import functools
import mmap
import statistics
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from benchmarks.codecs.castore_codec import Castore, ideal_bytes
from benchmarks.codecs.coder import Coder, Peer
from benchmarks.codecs.streams import CHUNK, Stream, Words
from benchmarks.codecs.timing import seconds_of

THREADS = 2
SLOW = 0.15e9  # bytes a second: what encodes more slowly is timed once, or a run would be all about it


@dataclass(frozen=True, slots=True)
class Row:
    """One peer on one stream. label: how its smallest coder used the older checkpoint.

    Seconds are medians: (one thread, two threads). ideal_bytes: of castore's own model, where that is known.
    """

    pair: str
    role: str
    stream: str
    codec: str
    label: str
    reference: bool
    raw_bytes: int
    coded_bytes: int
    encode_s: tuple[float, float]
    decode_s: tuple[float, float]
    ideal_bytes: float | None = None

    @property
    def ratio(self) -> float:
        return self.raw_bytes / self.coded_bytes


@dataclass(frozen=True, slots=True)
class Coded:
    """A stream as one coder codes it, ready to be timed."""

    coder: Coder
    stream: Stream
    parts: list[Stream]
    payloads: list[Any]
    coded_bytes: int
    first_encode_s: float

    def encode_seconds(self, threads: int) -> float:
        inner = threads if self.coder.threading == "own" else 1
        jobs = [functools.partial(self.coder.encode, part, inner) for part in self.parts]
        return seconds_of(jobs, threads, self.coder.threading)

    def decode_seconds(self, threads: int, out: Words) -> float:
        """`out` is cleared first and compared afterwards; neither counts."""
        inner = threads if self.coder.threading == "own" else 1
        if threads > 1 and self.coder.threading == "processes":  # memory that all of them see
            out = np.frombuffer(mmap.mmap(-1, out.nbytes), out.dtype)
        out.fill(0)
        jobs, start = [], 0
        for part, payload in zip(self.parts, self.payloads, strict=True):
            target = out[start : start + part.new.size]
            jobs.append(functools.partial(self.coder.decode, payload, part, target, inner))
            start += part.new.size
        seconds = seconds_of(jobs, threads, self.coder.threading)
        if not np.array_equal(out, self.stream.new):
            raise RuntimeError(f"{type(self.coder).__name__}, {self.coder.label}: decoded something else")
        return seconds


def measure(stream: Stream, peers: Sequence[Peer], rounds: int) -> Iterator[Row]:
    """A row for each of `peers` that takes the stream's words. Each round every one of them codes the stream once."""
    width = stream.new.itemsize
    taking = [peer for peer in peers if width in peer.widths]
    coded = [min((_code(coder, stream) for coder in peer.coders), key=lambda c: c.coded_bytes) for peer in taking]
    out = np.empty_like(stream.new)
    encode: list[list[tuple[float, float]]] = [[] for _ in coded]
    decode: list[list[tuple[float, float]]] = [[] for _ in coded]
    for round_ in range(rounds):
        for k in range(len(coded)):
            i = (k + round_) % len(coded)  # another one goes first each time
            one = coded[i]
            slow = stream.raw_bytes / one.first_encode_s < SLOW
            if slow and round_:
                continue
            encode[i].append((one.first_encode_s if slow else one.encode_seconds(1), one.encode_seconds(THREADS)))
            decode[i].append((one.decode_seconds(1, out), one.decode_seconds(THREADS, out)))
    for peer, one, encodes, decodes in zip(taking, coded, encode, decode, strict=True):
        yield Row(
            stream.pair.name,
            stream.role,
            stream.label,
            peer.name,
            one.coder.label,
            peer.reference,
            stream.raw_bytes,
            one.coded_bytes,
            _medians(encodes),
            _medians(decodes),
            _ideal(stream) if isinstance(one.coder, Castore) and not peer.reference else None,
        )


_warm: set[tuple[int, str, int]] = set()


def _code(coder: Coder, stream: Stream) -> Coded:
    parts = stream.parts(coder.unit(stream.new.itemsize))
    if (key := (id(coder), stream.role, stream.new.itemsize)) not in _warm:  # compiling does not count
        coder.decode(coder.keep(coder.encode(parts[0], 1)), parts[0], np.empty_like(parts[0].new), 1)
        _warm.add(key)
    started = time.perf_counter()
    payloads = [coder.keep(coder.encode(part, 1)) for part in parts]
    seconds = time.perf_counter() - started
    return Coded(coder, stream, parts, payloads, sum(coder.size(payload) for payload in payloads), seconds)


def _ideal(stream: Stream) -> float | None:
    found = [ideal_bytes(part) for part in stream.parts(CHUNK)]
    known = [one for one in found if one is not None]
    return sum(known) if len(known) == len(found) else None


def _medians(samples: Sequence[tuple[float, float]]) -> tuple[float, float]:
    one, two = zip(*samples, strict=True)
    return statistics.median(one), statistics.median(two)
