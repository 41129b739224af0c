"""The coder of tokens in 64 lanes: the processor's vectors, the loop that does without, and the reference."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numba import njit
from numpy.typing import NDArray

from castore.kernels import coder, rans, rans_lanes, rans_native, rans_reference, tans_reference
from castore.kernels.blocks import LANES, RANS_LANES

ROW = 8
U64 = np.uint64


def kernels_of(encode_lanes: Any, decode_lanes: Any) -> tuple[Any, Any]:
    """Both loops over whole arrays of symbols, by these steps."""

    @njit
    def encode(symbols: Any, table: Any, bits: Any, out: Any, states: Any, met: Any) -> Any:
        at = np.uint64(out.size)
        for back in range(symbols.size // RANS_LANES):
            first = np.uint64(symbols.size - RANS_LANES * (back + 1))
            at = encode_lanes(states, table, np.uint64(bits), symbols, first, out, at, met)
        return at

    @njit
    def decode(contexts: Any, table: Any, bits: Any, stream: Any, at: Any, states: Any, tokens: Any) -> Any:
        at = np.uint64(at)
        for first in range(0, contexts.size, RANS_LANES):
            at = decode_lanes(states, table, np.uint64(bits), contexts, np.uint64(first), stream, at, tokens)
        return at

    return encode, decode


WAYS = {
    "portable": kernels_of(rans_lanes.encode_portable, rans_lanes.decode_portable),
    "chosen": kernels_of(rans_lanes.encode_lanes, rans_lanes.decode_lanes),
}


@st.composite
def streams(draw: st.DrawFn) -> tuple[list[int], list[int], NDArray[np.uint16], NDArray[np.int64], int]:
    """(tokens, contexts, frequencies, counts, table bits), with tokens that no frequency stands for."""
    bits = draw(st.sampled_from([9, 10, 11]))  # that castore writes, see `rans_lanes`
    rng = np.random.default_rng(draw(st.integers(0, 2**32)))
    contexts, tokens = draw(st.integers(1, 3)), draw(st.integers(1, ROW - 1))
    shares = rng.dirichlet(np.full(tokens, draw(st.sampled_from([0.02, 0.3, 5.0]))), contexts)
    counts = (shares * 10 ** draw(st.integers(0, 9))).astype(np.int64)
    groups = draw(st.integers(0, 20))
    places = rng.integers(0, contexts, RANS_LANES * groups)
    met = np.array([rng.choice(tokens, p=shares[place]) for place in places], np.int64)
    met[rng.random(met.size) < draw(st.sampled_from([0.0, 0.05]))] = tokens - 1
    rows = np.array([tans_reference.normalised(row, 1 << bits) for row in counts.tolist()], np.uint16)
    return met.tolist(), places.tolist(), rows, counts, bits


@pytest.mark.parametrize("way", WAYS)
@given(stream=streams())
@settings(max_examples=150)
def test_both_ways_write_and_read_what_the_reference_does(
    way: str, stream: tuple[list[int], list[int], NDArray[np.uint16], NDArray[np.int64], int]
) -> None:
    tokens, contexts, rows, counts, bits = stream
    encode, decode = WAYS[way]
    expected = rans_reference.encode(tokens, contexts, rows, 1 << bits)
    frequencies, table = rans.encoder_table(counts.reshape(-1), *counts.shape, bits, ROW)
    assert frequencies.reshape(rows.shape).tolist() == rows.tolist()
    symbols = (np.array(contexts, np.uint16) * ROW + np.array(tokens, np.uint16)).astype(np.uint16)
    states = coder.Coder(True, bits).resting()
    out, met = np.zeros(2 * len(tokens) + 64, np.uint8), np.zeros(LANES, np.uint32)
    at = int(encode(symbols, table.copy(), bits, out, states, met))
    assert (states.tolist(), out[at:].tobytes(), 8 * (out.size - at)) == expected
    seen = bool(np.bitwise_or.reduce(met) & rans_native.UNSEEN)
    assert seen == any(not rows[place, token] for place, token in zip(contexts, tokens, strict=True))

    places = (np.array(contexts, np.uint16) << bits).astype(np.uint16)
    read, room = np.zeros(len(tokens), np.uint8), np.concatenate([out[at:], np.full(64, 0xA5, np.uint8)])
    end = decode(places, rans.decoder_table(rows, bits).copy(), bits, room, 0, states, read)
    kept = rans_reference.decode(contexts, rows, 1 << bits, *expected)
    assert kept is not None and read.tolist() == kept
    assert end == out.size - at and set(states.tolist()) <= {coder.Coder(True, bits).rest}


@given(st.data(), st.sampled_from(range(5, 12)))
def test_tokens_come_back_and_damage_is_noticed_or_gives_tokens(data: st.DataObject, bits: int) -> None:
    size = 1 << bits
    rows = data.draw(st.lists(st.lists(st.integers(0, 99), min_size=5, max_size=5), min_size=1, max_size=3))
    frequencies = np.array([tans_reference.normalised(row, size) for row in rows])
    contexts = data.draw(st.lists(st.integers(0, len(rows) - 1), max_size=200))
    tokens = [data.draw(st.integers(0, 4)) for _ in contexts]
    states, stream, length = rans_reference.encode(tokens, contexts, frequencies, size)
    kept = [t if frequencies[context, t] else 4 for t, context in zip(tokens, contexts, strict=True)]
    assert rans_reference.decode(contexts, frequencies, size, states, stream, length) == kept
    if length:
        assert rans_reference.decode(contexts, frequencies, size, states, stream[:-2], length - 16) is None


def test_bytes_that_name_no_coder_are_told() -> None:
    named = {one.byte for one in map(coder.of_byte, range(256)) if one is not None}
    assert named == {*range(5, 12), *range(128 + 5, 128 + 12)}
    assert all(coder.of_byte(byte).byte == byte for byte in named)  # type: ignore[union-attr]
