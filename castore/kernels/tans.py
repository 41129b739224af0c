"""The typed surface of the tables of the coder of tokens. What is returned is this thread's scratch memory."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from castore.kernels import scratch
from castore.kernels.blocks import MOST_TABLE_BITS
from castore.kernels.compiling import Kernels, array_type

_MOST_TOKENS = 256

Table = NDArray[np.unsignedinteger]


def encoder_tables(
    counts: NDArray[np.int64], contexts: int, tokens: int, table_bits: int, row: int
) -> tuple[NDArray[np.uint16], Table, Table]:
    """(frequencies [contexts * tokens], table, following) for what was counted, [contexts * tokens].

    row: the size that a context has in the table; symbols are context * row + token.
    """
    frequencies = scratch.array("frequencies", contexts * tokens, np.uint16)
    table = scratch.array("encoder", contexts * row, np.uint64)
    following = scratch.array("following", (contexts + 1) << table_bits, np.uint16)
    spread, place = _scratch()
    _kernel("encoder_tables", 0)(
        counts, contexts, tokens, table_bits, row, frequencies, following, table, spread, place
    )
    return frequencies, table, following


def decoder_tables(frequencies: NDArray[np.uint16], table_bits: int) -> Table:
    """The table for frequencies [contexts, tokens], each row of which sums to the table's size."""
    contexts, tokens = frequencies.shape
    table = scratch.array("decoder", contexts << table_bits, np.uint32)
    _kernel("decoder_tables", 0)(frequencies.reshape(-1), contexts, tokens, table_bits, table, *_scratch())
    return table


def _scratch() -> tuple[NDArray[np.uint8], NDArray[np.uint64]]:
    return (
        scratch.array("spread", 1 << MOST_TABLE_BITS, np.uint8),
        scratch.array("place", _MOST_TOKENS, np.uint64),
    )


def _signatures(name: str, _width: int) -> tuple[Any, tuple[Any, ...]]:
    from numba import types as t

    from castore.kernels import tans_native as native

    n, shorts, place = t.int64, array_type(t.uint16), array_type(t.uint64, writable=True)
    written, spread = array_type(t.uint16, writable=True), array_type(t.uint8, writable=True)
    found: dict[str, tuple[Any, tuple[Any, ...]]] = {
        "encoder_tables": (
            native.encoder_tables,
            (array_type(t.int64), n, n, n, n, written, written, place, spread, place),
        ),
        "decoder_tables": (
            native.decoder_tables,
            (shorts, n, n, n, array_type(t.uint32, writable=True), spread, place),
        ),
    }
    return found[name]


_kernel = Kernels(_signatures)
