from __future__ import annotations

import hashlib

from hypothesis import given, settings
from hypothesis import strategies as st

from castore.chunks.content import MAX_BYTES, MIN_BYTES, cut

VECTOR = [283161, 960633, 361976, 266943, 191391, 522703, 152472, 307029, 355812, 297401, 301373, 193410]


def noise(nbytes: int, seed: bytes = b"castore") -> bytes:
    return hashlib.shake_128(seed).digest(nbytes)


def cuts(data: bytes) -> list[int]:
    """Lengths of the chunks; they cover the data in order."""
    position, lengths = 0, []
    for offset, length in cut(lambda offset, nbytes: data[offset : offset + nbytes], len(data)):
        assert offset == position
        position += length
        lengths.append(length)
    assert position == len(data)
    return lengths


def test_the_boundaries_are_the_same_in_every_version() -> None:
    assert cuts(noise(4 << 20)) == VECTOR


def test_small_files_are_one_chunk_and_empty_ones_none() -> None:
    assert cuts(b"") == []
    assert cuts(b"x") == [1]
    assert cuts(bytes(MIN_BYTES)) == [MIN_BYTES]


def test_zeros_are_cut_at_the_maximum() -> None:
    assert cuts(bytes(3 * MAX_BYTES + 5)) == [MAX_BYTES] * 3 + [5]


def test_an_insertion_changes_the_chunks_around_it_only() -> None:
    data = noise(8 << 20)
    before, after = cuts(data), cuts(data[: 1 << 20] + b"inserted" + data[1 << 20 :])
    assert before[-10:] == after[-10:]
    assert before[0] == after[0]


@settings(max_examples=20)
@given(seed=st.binary(max_size=8), nbytes=st.integers(0, 3 << 20))
def test_chunks_are_within_their_bounds(seed: bytes, nbytes: int) -> None:
    lengths = cuts(noise(nbytes, seed))
    assert all(MIN_BYTES <= length <= MAX_BYTES for length in lengths[:-1])
    assert all(0 < length <= MAX_BYTES for length in lengths)


def test_reads_are_sequential_and_bounded() -> None:
    data = noise(6 << 20)
    reads: list[tuple[int, int]] = []

    def read(offset: int, nbytes: int) -> bytes:
        reads.append((offset, nbytes))
        return data[offset : offset + nbytes]

    assert sum(length for _, length in cut(read, len(data))) == len(data)
    assert sum(nbytes for _, nbytes in reads) == len(data)
    assert max(nbytes for _, nbytes in reads) <= 2 * MAX_BYTES
    assert reads == sorted(reads)
