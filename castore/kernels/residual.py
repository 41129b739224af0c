"""The typed surface of the residual coder: one call to encode a chunk's words against a base's, one to decode.

Words are unsigned integers of 2 or 4 bytes, the bits of floats. Arrays may lie at any address.
"""

from __future__ import annotations

import threading
from dataclasses import dataclass
from functools import cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from castore.kernels.compiling import compile_kernel
from castore.kernels.reference import Words

LANES, STATES, TABLE, CONTEXTS, SYMBOLS = 16, 8, 1 << 10, 16, 64
PAD_BYTES = 8  # behind a stream, so that a 64-bit load of its last bits stays inside

Frequencies = NDArray[np.uint16]  # [CONTEXTS, tokens], each row sums to TABLE

_ready: dict[tuple[str, int], Any] = {}


@dataclass(frozen=True, slots=True)
class Coded:
    """frequencies: of the tokens in each context; used: which contexts were met in the sample that they are from.

    top: the exponent that contexts are counted down from. states: the decoder's first. bits: length of the stream.
    """

    top: int
    frequencies: Frequencies
    used: NDArray[np.bool_]
    states: NDArray[np.uint16]
    bits: int
    stream: memoryview


class _Scratch(threading.local):
    """This thread's arrays, reused: fresh pages cost more than what is done in them."""

    def __init__(self) -> None:
        self._arrays: dict[str, NDArray[Any]] = {}

    def array(self, name: str, size: int, dtype: Any) -> NDArray[Any]:
        key = f"{name}/{np.dtype(dtype).name}"
        found = self._arrays.get(key)
        if found is None or found.size < size:
            found = self._arrays[key] = np.empty(size, dtype)
        return found[:size]


_scratch = _Scratch()


def encode(words: Words, base: Words, mantissa: int) -> Coded:
    """Code `words` [n] as differences to `base` [n], n > 0 a multiple of LANES. mantissa: bits below the exponent.

    The stream is this thread's scratch memory, valid until its next call.
    """
    top, y, coded, tokens = _prepared(words, base, mantissa)
    counts = np.zeros((2, CONTEXTS * SYMBOLS), np.uint32)
    _kernel("histogram", 2)(coded, counts)
    sampled = counts.sum(axis=0, dtype=np.int64).reshape(CONTEXTS, SYMBOLS)[:, :tokens]
    used = sampled.any(axis=1)
    frequencies = normalised(sampled)
    following = _scratch.array("following", (CONTEXTS + 1) * TABLE, np.uint16)
    table = _scratch.array("table", CONTEXTS * SYMBOLS, np.uint64)
    _kernel("encoder_tables", 2)(frequencies, following, table)
    out = _scratch.array("stream", words.size * (words.itemsize + 2) + 64, np.uint8)
    states = np.empty(STATES, np.uint16)
    bits = int(_kernel("encode", words.itemsize)(y, coded, table, following, out, states))
    end = -(-bits // 8)
    out[end : end + PAD_BYTES] = 0
    return Coded(top, frequencies, used, states, bits, out[: end + PAD_BYTES].data)


def symbols(words: Words, base: Words, mantissa: int) -> NDArray[np.uint16]:
    """context * SYMBOLS + token of each word of a sample [n // LANES * LANES]; this thread's scratch memory."""
    body = words.size // LANES * LANES
    return _prepared(words[:body], base[:body], mantissa)[2]


def _prepared(words: Words, base: Words, mantissa: int) -> tuple[int, Words, NDArray[np.uint16], int]:
    """(top, y, symbols, how many tokens there are at most)."""
    kind = words.dtype.type
    magnitudes = base[:: max(1, base.size // 4096)] & kind((1 << (8 * words.itemsize - 1)) - 1)
    top = int(magnitudes.max()) >> mantissa
    y = _scratch.array("y", words.size, words.dtype)
    coded = _scratch.array("symbols", words.size, np.uint16)
    union = np.zeros(LANES, words.dtype)
    _kernel("prepare", words.itemsize)(words, base, kind(top), kind(mantissa), y, coded, union)
    return top, y, coded, int(np.bitwise_or.reduce(union)).bit_length() + 1


def decode(coded: Coded, mantissa: int, out: Words) -> bool:
    """Turn `out` [n], which holds the base, into the words. False if the stream is damaged; `out` is then undefined.

    The caller has checked that each row of frequencies sums to TABLE, states are below TABLE, and the stream has
    ceil(bits / 8) + PAD_BYTES bytes.
    """
    kind = out.dtype.type
    contexts = _scratch.array("symbols", out.size, np.uint16)
    _kernel("contexts", out.itemsize)(out, kind(coded.top), kind(mantissa), contexts)
    table = _scratch.array("decoder", CONTEXTS * TABLE, np.uint32)
    _kernel("decoder_tables", 2)(coded.frequencies, table)
    y = _scratch.array("y", out.size, out.dtype)
    stream = np.frombuffer(coded.stream, np.uint8)
    good = bool(_kernel("decode", out.itemsize)(contexts, table, stream, np.uint64(coded.bits), coded.states, y))
    if good:
        _kernel("restore", out.itemsize)(y, out)
    return good


def normalised(counts: NDArray[np.int64]) -> Frequencies:
    """Frequencies that sum to TABLE in each context, at least 1 for every token: a sample does not see them all.

    A context without counts gets all tokens alike, the first ones taking what is left over.
    """
    tokens = counts.shape[1]
    totals = counts.sum(axis=1, keepdims=True)
    scaled = np.where(totals > 0, counts * (TABLE - tokens) // np.maximum(totals, 1), (TABLE - tokens) // tokens) + 1
    left = TABLE - scaled.sum(axis=1)
    rows = np.arange(counts.shape[0])
    empty = totals[:, 0] == 0
    scaled[rows[~empty], counts[~empty].argmax(axis=1)] += left[~empty]
    scaled[empty] += np.arange(tokens) < left[empty, None]
    return np.ascontiguousarray(scaled, np.uint16)


@cache
def alike(tokens: int) -> Frequencies:
    """The frequencies of contexts without a table. Not to be written to."""
    return normalised(np.zeros((CONTEXTS, tokens), np.int64))


def _kernel(name: str, width: int) -> Any:
    ready = _ready.get((name, width))
    return ready if ready is not None else _load(name, width)


def _load(name: str, width: int) -> Any:
    from numba import types

    from castore.kernels import residual_native

    def array(kind: Any, dims: int = 1, writable: bool = False) -> Any:
        return types.Array(kind, dims, "C", readonly=not writable, aligned=kind is types.uint8)

    word = {2: types.uint16, 4: types.uint32}[width]
    short, byte = types.uint16, types.uint8
    words, out_words = array(word), array(word, writable=True)
    shorts, out_shorts = array(short), array(short, writable=True)
    signature = {
        "prepare": (words, words, word, word, out_words, out_shorts, out_words),
        "contexts": (words, word, word, out_shorts),
        "restore": (words, out_words),
        "histogram": (shorts, array(types.uint32, 2, writable=True)),
        "encoder_tables": (array(short, 2), out_shorts, array(types.uint64, writable=True)),
        "decoder_tables": (array(short, 2), array(types.uint32, writable=True)),
        "encode": (words, shorts, array(types.uint64), shorts, array(byte, writable=True), out_shorts),
        "decode": (shorts, array(types.uint32), array(byte), types.uint64, shorts, out_words),
    }[name]
    dispatcher = getattr(residual_native, name)
    compile_kernel(dispatcher, signature)
    _ready[name, width] = dispatcher
    return dispatcher


def stream_bytes(bits: int) -> int:
    """The bytes of a stream of so many bits, its padding included."""
    return -(-bits // 8) + PAD_BYTES
