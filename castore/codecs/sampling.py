"""What a chunk's bytes would cost, from a sample of them."""

from __future__ import annotations

from dataclasses import dataclass

import lz4.block
import numpy as np
from numpy.typing import NDArray

from castore.kernels import planes as kernels
from castore.kernels.reference import Bytes

BLOCKS, BLOCK = 8, 512  # the sample: strided blocks of contiguous elements; all of them if there are no more
GLANCE = 64  # elements of a block, for a first look
PROBE_BYTES = 4096  # a stretch of a plane that is searched for repeats
RAW_BITS = 7.75  # a plane of more bits a byte than this is not worth an entropy coder's time


@dataclass(frozen=True, slots=True)
class Sample:
    """bits: the order-0 entropy of each plane, in bits a byte, [planes]; 0.0 if the sample is constant."""

    bits: list[float]

    def stored_fraction(self, first: int, last: int) -> float:
        """What planes first..last-1 would take of their raw size, a Huffman coder's losses included."""
        costs = [8.0 if bits > RAW_BITS else 1.03 * bits + 0.04 for bits in self.bits[first:last]]
        return sum(costs) / (8 * len(costs))


def sample_rows(rows: Bytes) -> Sample:
    """The entropies of `rows` [k, n], n > 0, from the same BLOCKS strided blocks of each."""
    return entropies(strided(rows))


def strided(rows: NDArray[np.unsignedinteger], block: int = BLOCK) -> NDArray[np.unsignedinteger]:
    """BLOCKS blocks of `block` elements of each row [k, n], evenly spread; all of it if n is no more than that."""
    count = rows.shape[1]
    if count <= BLOCKS * block:
        return np.ascontiguousarray(rows)
    step = count // BLOCKS
    return rows[:, : BLOCKS * step].reshape(rows.shape[0], BLOCKS, step)[:, :, :block].reshape(rows.shape[0], -1)


def entropies(sample: Bytes) -> Sample:
    """The entropies of the rows of `sample` [k, m], 0 < m <= BLOCKS * BLOCK."""
    return Sample(kernels.entropies(sample))


def probe(plane: Bytes) -> float:
    """What the middle of `plane` takes under lz4, of its own size: far below the entropy if there are repeats."""
    start = max(0, (plane.size - PROBE_BYTES) // 2)
    part = plane[start : start + PROBE_BYTES]
    return len(lz4.block.compress(part.data, mode="fast", acceleration=4, store_size=False)) / part.size
