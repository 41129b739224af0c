"""The yardstick: a sketch of a residual coder from outside this project, on the same arrays in the same run."""

from __future__ import annotations

import importlib.util
import threading
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np

from benchmarks.codecs.coder import Peer, Threading
from benchmarks.codecs.streams import CHUNK, Stream, Words

TABLE_BYTES = 400  # that the sketch counts for a chunk's frequencies, which it does not write


@dataclass(slots=True)
class Scratch:
    """The sketch's arrays, and the result of the last chunk in them. One for each thread; a copy of it is a payload."""

    z: Any
    symbols: Any
    histogram: Any
    frequencies: Any
    starts: Any
    encoder: Any
    bits: Any
    tokens: Any
    states: Any
    table: Any
    top: Any = None
    token_bytes: Any = 0
    bit_bytes: Any = 0


class Yardstick:
    """The sketch's functions, called as its own main program calls them. fp32 only."""

    label = "difference"
    threading: Threading = "pool"

    def __init__(self, path: Path) -> None:
        self._sketch = _load(path)
        self._local = threading.local()

    def unit(self, width: int) -> int | None:
        return CHUNK

    def encode(self, part: Stream, threads: int) -> Scratch:
        k, s = self._sketch, self._scratch()
        new, old = part.new, part.old
        s.top = np.int32(((old[::16] >> 23) & 255).max())
        k.prep(new, old, s.top, s.z, s.symbols)
        s.histogram[:] = 0
        k.hist(s.symbols, s.histogram, 8)
        s.frequencies[:] = 0
        k.tables(s.histogram, s.histogram, s.frequencies, s.starts)
        k.enctab(s.frequencies, s.starts, s.encoder)
        s.bit_bytes = k.encbits(s.z, s.symbols, s.bits)
        s.token_bytes = k.enctok(s.symbols, s.encoder, s.tokens, s.states)
        return s

    def keep(self, payload: Scratch) -> Scratch:
        s = payload
        # Slack at the ends: the decoder loads whole words. The tokens are read backwards from their end.
        bits = s.bits[: int(s.bit_bytes) + 16].copy()
        tokens = s.tokens[: int(s.token_bytes) + 16].copy()
        arrays = (s.frequencies.copy(), s.starts.copy(), None, bits, tokens, s.states.copy(), None)
        return Scratch(None, None, None, *arrays, s.top, s.token_bytes, s.bit_bytes)

    def size(self, payload: Scratch) -> int:
        return int(payload.token_bytes) + int(payload.bit_bytes) + TABLE_BYTES

    def decode(self, payload: Scratch, part: Stream, out: Words, threads: int) -> None:
        k, s, p = self._sketch, self._scratch(), payload
        k.dectab(p.frequencies, p.starts, s.table)
        k.decode(part.old, p.top, s.table, p.tokens, np.uint64(p.token_bytes), p.bits, p.states, out)

    def _scratch(self) -> Scratch:
        found: Scratch | None = getattr(self._local, "scratch", None)
        if found is None:
            slots = self._sketch.NC * 64
            found = self._local.scratch = Scratch(
                z=np.empty(CHUNK, np.uint32),
                symbols=np.empty(CHUNK, np.uint16),
                histogram=np.zeros(slots, np.int64),
                frequencies=np.zeros(slots, np.int64),
                starts=np.zeros(slots, np.int64),
                encoder=np.zeros((slots, 5), np.uint32),
                bits=np.zeros(CHUNK * 4 + 64, np.uint8),
                tokens=np.zeros(CHUNK * 2 + 64, np.uint8),
                states=np.zeros(8, np.uint32),
                table=np.zeros(self._sketch.NC << self._sketch.PB, np.uint32),
            )
        return found


def yardstick_peer(path: Path) -> Peer:
    what = "the sketch that --yardstick names, chunks of 256 Ki elements, without bounds checks or a format"
    return Peer("yardstick", what, (Yardstick(path),), widths=(4,), reference=True)


def _load(path: Path) -> ModuleType:
    spec = importlib.util.spec_from_file_location("castore_yardstick", path)
    if spec is None or spec.loader is None:
        raise FileNotFoundError(f"{path} is no Python module")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module
