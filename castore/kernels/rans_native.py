"""Range asymmetric numeral systems (Duda 2013) in 64 lanes, in Numba: tables, and the loops over tokens.

Each lane has a state of 32 bits and takes or gives 16 of them at a time, so that vectors of lanes need no look at
single bits. AVX-512 does 16 lanes in one instruction, look-ups and moving words to where they are wanted included:
0.6 ns a token where the four lanes of `tans_native` take 1.4 and 1.65. Elsewhere the same is done lane by lane, for
whoever reads what such a machine wrote. What each step means is in `rans_reference`.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from castore.kernels.bits import U
from castore.kernels.blocks import LANES, RANS_LANES
from castore.kernels.compiling import helper, kernel
from castore.kernels.rans_lanes import decode_lanes, encode_lanes
from castore.kernels.tans_native import normalise

UNSEEN = np.uint32(1 << 24)  # in an encoder's entry: coded as the context's last token instead


@helper
def encode(symbols: Any, size: Any, table: Any, bits: Any, out: Any, at: Any, states: Any, met: Any) -> Any:
    """Code a block of symbols (context * row + token) from the last to the first, below `at`; returns the new `at`, and
    whether a symbol was UNSEEN. size: of the block, a multiple of RANS_LANES. met [LANES]: scratch."""
    for i in range(U(LANES)):
        met[i] = np.uint32(0)
    o = U(size)
    while o >= U(RANS_LANES):
        o -= U(RANS_LANES)
        at = encode_lanes(states, table, U(bits), symbols, o, out, U(at), met)
    found = np.uint32(0)
    for i in range(U(LANES)):
        found |= met[i]
    return at, (found & UNSEEN) != np.uint32(0)


@helper
def reach(count: Any) -> Any:
    """Bytes that decoding `count` tokens may touch."""
    return U(2 * count + 2 * LANES)


@helper
def decode(
    contexts: Any, table: Any, bits: Any, stream: Any, position: Any, states: Any, tokens: Any, size: Any
) -> Any:
    """The inverse: a block of tokens from byte `position` on; returns where it ends.

    contexts: each times the size of a table. The caller has seen to it that there is room: see `reach`.
    """
    o = U(0)
    while o < U(size):
        position = decode_lanes(states, table, U(bits), contexts, o, stream, U(position), tokens)
        o += U(RANS_LANES)
    return position


@kernel
def encoder_table(counts: Any, contexts: Any, tokens: Any, bits: Any, row: Any, frequencies: Any, table: Any) -> None:
    """counts [contexts, tokens] -> frequencies [contexts, tokens], as in `tans_native.encoder_tables`; table
    [contexts * row]: bits 0-11 a token's frequency, 12-23 that of all tokens before it. Tokens without one get the last
    token's entry, and UNSEEN."""
    for context in range(U(contexts)):
        first, at = context * U(tokens), context * U(row)
        normalise(counts, first, U(tokens), U(1) << U(bits), frequencies)
        start = U(0)
        for token in range(U(tokens)):
            frequency = U(frequencies[first + token])
            table[at + token] = np.uint32(frequency | (start << U(12)))
            start += frequency
        last = np.uint32(table[at + U(tokens) - U(1)] | UNSEEN)
        for token in range(U(row)):
            if token >= U(tokens) or frequencies[first + token] == 0:
                table[at + token] = last


@kernel
def decoder_table(frequencies: Any, contexts: Any, tokens: Any, bits: Any, table: Any) -> None:
    """frequencies [contexts, tokens] -> table [contexts << bits]: bits 0-11 the frequency of the entry's token, 12-23
    the number of the entry among the token's, 24-31 the token."""
    entry = U(0)
    for context in range(U(contexts)):
        for token in range(U(tokens)):
            frequency = U(frequencies[context * U(tokens) + token])
            for within in range(frequency):
                table[entry] = np.uint32(frequency | (within << U(12)) | (token << U(24)))
                entry += U(1)
