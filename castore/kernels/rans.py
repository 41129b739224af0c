"""The typed surface of the tables of the coder of tokens in 64 lanes. What is returned is scratch memory."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from castore.kernels import scratch
from castore.kernels.compiling import Kernels, array_type


def encoder_table(
    counts: NDArray[np.int64], contexts: int, tokens: int, table_bits: int, row: int
) -> tuple[NDArray[np.uint16], NDArray[np.uint32]]:
    """(frequencies [contexts * tokens], table) for what was counted, [contexts * tokens].

    row: the size that a context has in the table; symbols are context * row + token.
    """
    frequencies = scratch.array("frequencies", contexts * tokens, np.uint16)
    table = scratch.array("rans encoder", contexts * row, np.uint32)
    _kernel("encoder_table", 0)(counts, contexts, tokens, table_bits, row, frequencies, table)
    return frequencies, table


def decoder_table(frequencies: NDArray[np.uint16], table_bits: int) -> NDArray[np.uint32]:
    """The table for frequencies [contexts, tokens], each row of which sums to the table's size."""
    contexts, tokens = frequencies.shape
    table = scratch.array("decoder", contexts << table_bits, np.uint32)
    _kernel("decoder_table", 0)(frequencies.reshape(-1), contexts, tokens, table_bits, table)
    return table


def _signatures(name: str, _width: int) -> tuple[Any, tuple[Any, ...]]:
    from numba import types as t

    from castore.kernels import rans_native as native

    n, words = t.int64, array_type(t.uint32, writable=True)
    found: dict[str, tuple[Any, tuple[Any, ...]]] = {
        "encoder_table": (
            native.encoder_table,
            (array_type(t.int64), n, n, n, n, array_type(t.uint16, writable=True), words),
        ),
        "decoder_table": (native.decoder_table, (array_type(t.uint16), n, n, n, words)),
    }
    return found[name]


_kernel = Kernels(_signatures)
