"""The two coders of tokens: tANS in 4 lanes, rANS in 64, and which of them a stream is to be of.

What a payload says of its coder is a byte: the bits of its tables, and 128 for rANS.
"""

from __future__ import annotations

from functools import cache
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from castore.kernels import rans, scratch, tans
from castore.kernels.blocks import LANES, MOST_TABLE_BITS, RANS_LANES, STATES
from castore.kernels.compiling import array_type

LEAST_TABLE_BITS = 5
LEAST_RANS_WORDS = 1 << 14  # below, 256 bytes of states weigh more than what they gain
_RANS = 128
_NO_LONGS, _NO_SHORTS, _NO_WORDS = np.zeros(1, np.uint64), np.zeros(1, np.uint16), np.zeros(1, np.uint32)
_RANS_REST = 1 << 16


class Coder(NamedTuple):
    """is_rans: else tANS. table_bits: log2 of what the frequencies of a context sum to."""

    is_rans: bool
    table_bits: int

    @property
    def byte(self) -> int:
        return self.table_bits | (_RANS if self.is_rans else 0)

    @property
    def states_bytes(self) -> int:
        """What the first states take in a payload."""
        return RANS_LANES * 4 if self.is_rans else STATES * 2

    def most_bytes(self, words: int) -> int:
        """What the tokens of so many words may take, with room to write in."""
        return words * (self.table_bits + 1) // 8 + 4 * RANS_LANES

    @property
    def rest(self) -> int:
        """What a decoder's states are in the end."""
        return _RANS_REST if self.is_rans else 0

    def resting(self) -> NDArray[np.uint32]:
        """What an encoder's states are in the beginning."""
        return np.full(RANS_LANES, _RANS_REST if self.is_rans else 1 << self.table_bits, np.uint32)

    def written(self, states: NDArray[np.uint32]) -> bytes:
        """An encoder's last states, as a payload has them."""
        found = states.astype("<u4") if self.is_rans else (states[:STATES] - (1 << self.table_bits)).astype("<u2")
        data: bytes = found.tobytes()
        return data

    def read(self, data: memoryview) -> NDArray[np.uint32] | None:
        """A decoder's first states, of `states_bytes`; None where they are out of range."""
        states = np.frombuffer(data, "<u4" if self.is_rans else "<u2").astype(np.uint32)
        good = states >= _RANS_REST if self.is_rans else states < 1 << self.table_bits
        return states if good.all() else None


def of_byte(byte: int) -> Coder | None:
    """The coder that a payload names; None for none."""
    coder = Coder(byte >= _RANS, byte % _RANS)
    return coder if LEAST_TABLE_BITS <= coder.table_bits <= MOST_TABLE_BITS else None


def best(words: int, tans_bits: int, rans_bits: int) -> Coder:
    """The coder for so many words: rANS on processors that have the instructions for it."""
    fits = words >= LEAST_RANS_WORDS and words % RANS_LANES == 0
    return Coder(True, rans_bits) if fits and _is_wide() else Coder(False, tans_bits)


@cache
def _is_wide() -> bool:
    from castore.kernels.rans_lanes import has_wide_lanes

    return has_wide_lanes()


def encoder_tables(
    coder: Coder, counts: NDArray[np.int64], contexts: int, tokens: int, row: int
) -> tuple[NDArray[np.uint16], tuple[Any, ...]]:
    """(frequencies [contexts * tokens], what kernels take of types `encoder_types`) for what was counted.

    row: the size that a context has in a table. All of it is this thread's scratch memory.
    """
    if coder.is_rans:
        frequencies, wide = rans.encoder_table(counts, contexts, tokens, coder.table_bits, row)
        return frequencies, (coder.table_bits, _NO_LONGS, _NO_SHORTS, wide)
    frequencies, table, following = tans.encoder_tables(counts, contexts, tokens, coder.table_bits, row)
    return frequencies, (0, table, following, _NO_WORDS)


def encoder_types() -> tuple[Any, ...]:
    """Of a kernel's arguments: bits of rANS or 0, table and following of tANS, table of rANS."""
    from numba import types as t

    return t.int64, array_type(t.uint64), array_type(t.uint16), array_type(t.uint32)


def decoder_table(coder: Coder, frequencies: NDArray[np.uint16]) -> NDArray[np.unsignedinteger]:
    """The table for frequencies [contexts, tokens], each row of which sums to the table's size."""
    return (rans.decoder_table if coder.is_rans else tans.decoder_tables)(frequencies, coder.table_bits)


def met() -> NDArray[np.uint32]:
    """Scratch of the rANS encoder."""
    return scratch.array("met", LANES, np.uint32)
