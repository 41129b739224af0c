"""Predictor 6 of codec 8: a matrix some steps before or after, as a share of it and a product of two thin ones.

What gradients of a few steps add up to has much in common from row to row (Halko, Martinsson and Tropp, 2011, for the
way in which it is found): a few factors of each row and of each column say it, and the differences to that are smaller.

What stands in the payload behind the factors c and e:

    offset  bytes  field
    10      1      r: rank, 1 to MOST_RANK
    11      4      width: words in a row
    15      4      phase: the column of the chunk's first word
    19      4      z: size of the frame
    23      z      a zstd frame of the factors, signed bytes: r for each of the k rows that the chunk touches, then
                   `width` for each of the r

A word of the base, as a number x, becomes c x + e s, where s is the sum of r products of whole numbers, below 2**24:
exact as a float, in whatever order a library adds them up. Little-endian.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from castore.codecs import zstd_frames
from castore.codecs.row_column import Rows
from castore.errors import CorruptError
from castore.kernels import predict as kernels
from castore.kernels import scratch
from castore.kernels.predict import Factors
from castore.kernels.products import times, turned_times
from castore.kernels.reference import Words
from castore.kernels.rows import count

MOST_RANK = 64
RANKS = (8, 32, 64)  # that are tried
_LARGEST = 45  # factor: what is lost by rounding weighs as much as what finer ones would take
_MOST_FACTORS = 1 << 24
_ROUNDS = 2  # of multiplying by the matrix and back, each of which tells large from small the better
_HEADER = struct.Struct("<BIII")

Thin = NDArray[np.int8]


@dataclass(frozen=True, slots=True)
class Product:
    """A matrix of rank r: left [rows, r] and right [r, width], signed bytes, times the second of `factors`; the first
    is the base's share."""

    factors: Factors
    left: Thin
    right: Thin

    def packed(self, rows: Rows) -> bytes:
        """What `predict` reads, behind the factors."""
        frame = zstd_frames.compress_entropy(self.left.tobytes() + self.right.tobytes())
        return _HEADER.pack(self.right.shape[0], rows.width, rows.phase, len(frame)) + frame

    def predict(self, base: Words, rows: Rows, out: Words) -> None:
        """Fill `out` [n] with the prediction from base [n]."""
        height, width = self.left.shape[0], self.right.shape[1]
        sums = scratch.array("sums", height * width, np.float32)
        left, right = (np.ascontiguousarray(thin, np.float32) for thin in (self.left, self.right))
        times(left, right, sums.reshape(height, width))
        moved = sums[rows.phase : rows.phase + base.size].view(np.uint32)
        kernels.predict("momentum_step", [base, moved], self.factors, out)


def products(words: Words, base: Words, rows: Rows) -> list[Product]:
    """What foretells words [n] of base [n], by each of RANKS that fits; none where there are NaNs or infinities."""
    new, old = (array.view(np.float32).astype(np.float64) for array in (words, base))
    with np.errstate(all="ignore"):
        share = float(np.einsum("i,i", old, new) / np.einsum("i,i", old, old)) if old.any() else 0.0
        rest = new - share * old
        largest = float(np.abs(rest).max())
    if not np.isfinite(largest) or not largest:
        return []
    height = count(words.size, rows.width, rows.phase)
    matrix = np.zeros(height * rows.width, np.float32)
    matrix[rows.phase : rows.phase + words.size] = rest / largest
    most = min(RANKS[-1], height, rows.width)
    left, right = _largest_parts(matrix.reshape(height, rows.width), most)
    found = []
    for rank in sorted({min(rank, most) for rank in RANKS}):
        (by_row, row_unit), (by_column, column_unit) = _rounded(left[:, :rank]), _rounded(right[:, :rank])
        with np.errstate(all="ignore"):
            factors = np.array((share, largest * row_unit * column_unit), np.float32)
        if np.isfinite(factors).all() and rank * (height + rows.width) <= _MOST_FACTORS:
            found.append(Product(factors, by_row, np.ascontiguousarray(by_column.T)))
    return found


def _rounded(side: NDArray[np.float32]) -> tuple[Thin, float]:
    """Signed bytes, and what one of them is worth."""
    unit = float(np.abs(side).max()) / _LARGEST
    return np.rint(side / (unit or 1.0)).astype(np.int8), unit


def _largest_parts(matrix: NDArray[np.float32], rank: int) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """left [rows, rank] and right [columns, rank], whose product with the latter turned is the matrix's part of that
    rank, nearly; the largest parts first, and each part's size shared by both."""
    space = np.random.default_rng(0).standard_normal((matrix.shape[1], rank), np.float32)
    for _ in range(_ROUNDS):
        space = turned_times(matrix, times(matrix, space))
        turn, sizes = _apart(space)
        space = times(space, turn / (sizes + (sizes == 0)))
    product = times(matrix, space)
    turn, sizes = _apart(product)
    shared = np.sqrt(sizes)
    return times(product, turn / (shared + (shared == 0))), times(space, turn * shared)


def _apart(thin: NDArray[np.float32]) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """(turn, sizes): thin @ turn has columns at right angles to each other, of these sizes, the largest first."""
    wide = thin.astype(np.float64)  # squares of small parts would drown in the rounding of large ones
    squares, turn = np.linalg.eigh(turned_times(wide, wide))
    return np.ascontiguousarray(turn[:, ::-1], np.float32), np.sqrt(np.maximum(squares[::-1], 0.0)).astype(np.float32)


def predict(view: memoryview, factors: Factors, base: Words, out: Words) -> int:
    """Fill `out` [n] with the prediction from base [n], by what `Product.packed` returned and `view` begins with.

    Returns the length of that. Raises CorruptError for what is none.
    """
    if len(view) < _HEADER.size:
        raise CorruptError("predicted record ends within its header")
    rank, width, phase, size = _HEADER.unpack_from(view)
    if not 1 <= rank <= MOST_RANK or not phase < width <= max(out.size, 1):
        raise CorruptError("predicted record's factors make no sense")
    height = count(out.size, width, phase)
    end = _HEADER.size + size
    if len(view) < end or rank * (height + width) > _MOST_FACTORS:
        raise CorruptError("predicted record ends within its factors")
    thin = np.frombuffer(zstd_frames.decompress(view[_HEADER.size : end], rank * (height + width)), np.int8)
    left, right = thin[: rank * height].reshape(height, rank), thin[rank * height :].reshape(rank, width)
    Product(factors, left, right).predict(base, Rows(width, phase), out)
    return int(end)
