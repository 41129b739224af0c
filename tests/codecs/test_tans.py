"""The coder of tokens: frequencies against their reference, and the laws of the reference itself."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from castore.kernels import tans
from castore.kernels import tans_reference as reference

counts = st.lists(
    st.one_of(st.just(0), st.integers(0, 3), st.integers(0, 300), st.integers(0, 2**31)), min_size=2, max_size=32
)


@given(st.lists(counts, min_size=1, max_size=4), st.integers(5, 11))
def test_frequencies_are_those_of_the_reference(rows: list[list[int]], table_bits: int) -> None:
    width = max(map(len, rows))
    padded = np.array([row + [0] * (width - len(row)) for row in rows], np.int64)
    found, _, _ = tans.encoder_tables(padded.reshape(-1), *padded.shape, table_bits, width)
    assert found.reshape(padded.shape).tolist() == [
        reference.normalised(row, 1 << table_bits) for row in padded.tolist()
    ]


@given(counts, st.integers(5, 11))
def test_frequencies_fill_the_table_and_leave_out_nothing_that_was_counted(row: list[int], table_bits: int) -> None:
    found = reference.normalised(row, 1 << table_bits)
    assert sum(found) == 1 << table_bits
    assert found[-1] >= 1
    for count, frequency in zip(row[:-1], found[:-1], strict=True):
        assert (frequency > 0) == (count > 0)


@pytest.mark.parametrize("table_bits", range(5, 12))
def test_every_state_stands_for_one_token(table_bits: int) -> None:
    size = 1 << table_bits
    frequencies = reference.normalised([5, 0, 1, 900, 31, 2], size)
    spread = reference.spread(frequencies, size)
    assert [spread.count(token) for token in range(6)] == frequencies
    for token, bits, low in reference.decoder_rows(frequencies, size):
        assert low >= 0
        assert low + (1 << bits) <= size
        assert frequencies[token]


@given(
    st.data(),
    st.integers(5, 9),
    st.lists(st.lists(st.integers(0, 99), min_size=5, max_size=5), min_size=1, max_size=3),
)
def test_tokens_come_back_and_damage_is_noticed_or_gives_tokens(
    data: st.DataObject, table_bits: int, rows: list[list[int]]
) -> None:
    size = 1 << table_bits
    frequencies = np.array([reference.normalised(row, size) for row in rows])
    contexts = data.draw(st.lists(st.integers(0, len(rows) - 1), max_size=90))
    tokens = [data.draw(st.integers(0, 4)) for _ in contexts]
    states, stream, length = reference.encode(tokens, contexts, frequencies, size)
    kept = [t if frequencies[context, t] else 4 for t, context in zip(tokens, contexts, strict=True)]
    assert reference.decode(contexts, frequencies, size, states, stream, length) == kept
    assert len(stream) == -(-length // 8)
    if length:
        assert reference.decode(contexts, frequencies, size, states, stream[:-1], length - 8) is None
