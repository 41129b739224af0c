"""What codecs 6 and 7 share: units that are left out, rows of frequencies, and their checks."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from castore.codecs.base import Buffer
from castore.errors import CorruptError
from castore.kernels import scratch
from castore.kernels.blocks import LANES, RANS_LANES, UNIT
from castore.kernels.coder import Coder
from castore.kernels.reference import Words

WORTHWHILE = 8  # leave units out where that is every eighth at least: closing the gaps is a copy


def selected(words: Words, units: NDArray[np.bool_] | None, name: str) -> Words:
    """The words of the given units (None: all), one after another, padded to a multiple of LANES by zeros.

    Not copied where that is possible; else in this thread's scratch memory of that name.
    """
    if units is None:
        if words.size % LANES == 0:
            return words
        count = words.size
        out = scratch.array(name, -(-count // LANES) * LANES, words.dtype)
        out[:count] = words
    else:
        count = selected_count(words.size, units)
        out = scratch.array(name, -(-count // LANES) * LANES, words.dtype)
        whole = words.size // UNIT
        body = words[: whole * UNIT].reshape(whole, UNIT)[units[:whole]].reshape(-1)
        out[: body.size] = body
        if body.size < count:
            out[body.size : count] = words[whole * UNIT :]
    out[count:] = 0
    return out


def put_back(part: Words, units: NDArray[np.bool_] | None, words: Words) -> None:
    """The inverse of `selected`: the words of the units into their places."""
    if units is None:
        words[:] = part[: words.size]
        return
    whole = words.size // UNIT
    body = int(np.count_nonzero(units[:whole])) * UNIT
    words[: whole * UNIT].reshape(whole, UNIT)[units[:whole]] = part[:body].reshape(-1, UNIT)
    if units.size > whole and units[whole]:
        words[whole * UNIT :] = part[body : body + words.size % UNIT]


def selected_count(count: int, units: NDArray[np.bool_] | None) -> int:
    """How many of `count` words lie in the given units."""
    if units is None:
        return count
    left_over = count % UNIT
    return int(np.count_nonzero(units)) * UNIT - (UNIT - left_over if left_over and units[-1] else 0)


def worth_leaving_out(units: NDArray[np.bool_]) -> NDArray[np.bool_] | None:
    """The units to code: None where nearly all have to be."""
    return units if np.count_nonzero(units) * WORTHWHILE <= units.size * (WORTHWHILE - 1) else None


def unit_bytes(count: int) -> int:
    """The size of the bitmap of `count` words' units."""
    units = -(-count // UNIT)
    return -(-units // 8)


def parse_units(bitmap: memoryview, count: int) -> NDArray[np.bool_]:
    found = np.unpackbits(np.frombuffer(bitmap, np.uint8), count=-(-count // UNIT), bitorder="little")
    return found.astype(np.bool_)


def pack_units(units: NDArray[np.bool_] | None) -> bytes:
    return b"" if units is None else np.packbits(units, bitorder="little").tobytes()


def parse_rows(data: Buffer, contexts: int, width: int, size: int) -> NDArray[np.uint16]:
    """Rows of frequencies [contexts, width], each of which must sum to `size`."""
    rows = np.frombuffer(data, "<u2").reshape(contexts, width)
    if contexts and (rows.sum(axis=1, dtype=np.int64) != size).any():
        raise CorruptError("record's frequencies do not add up")
    return rows


def parse_states(view: memoryview, start: int, coder: Coder) -> tuple[NDArray[np.uint32], int]:
    """(a decoder's first states, which begin at `start`; where they end)."""
    end = start + coder.states_bytes
    if len(view) < end:
        raise CorruptError("record ends within its header")
    states = coder.read(view[start:end])
    if states is None:
        raise CorruptError("record's states are out of range")
    return states, end


def coded_count(count: int, units: NDArray[np.bool_] | None, coder: Coder, token_bits: int) -> int:
    """How many words are coded of `count`, with those added, in so many bits of tokens."""
    coded = -(-selected_count(count, units) // LANES) * LANES
    if coder.is_rans and (coded % RANS_LANES or token_bits % 16):
        raise CorruptError("record's words do not fit its coder")
    return coded
