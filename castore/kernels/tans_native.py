"""Tabled asymmetric numeral systems (Duda 2013) in Numba: the tables, and the loops over tokens.

A table has 2**bits states for each context. The stream is read forwards, least significant bit first; it is written
backwards, from the last token to the first. Four states take turns, so that their look-ups do not wait for each other,
and more would not fit into registers; four tokens take at most 44 bits, which one unaligned load has. All indices are
unsigned 64-bit: signed ones would be checked for wrap-around at every access. What each step means is in
`tans_reference`.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from castore.kernels.bits import U, load_64, lowest, store_64
from castore.kernels.blocks import MOST_TABLE_BITS
from castore.kernels.compiling import helper, kernel, step

UNSEEN = np.uint64(1 << 24)  # in an encoder's entry: coded as the context's last token instead


@helper
def _spread(frequencies: Any, row: Any, tokens: Any, size: Any, found: Any) -> None:
    """Which token each state of a context stands for: steps that visit all states once (FSE, Collet 2013)."""
    position = U(0)
    step = (size >> U(1)) + (size >> U(3)) + U(3)
    for token in range(tokens):
        for _ in range(frequencies[row + token]):
            found[position] = np.uint8(token)
            position = (position + step) & (size - U(1))


@helper
def normalise(counts: Any, row: Any, tokens: Any, size: Any, frequencies: Any) -> None:
    """frequencies[row...] of `tokens` counts from `row` on, that add up to `size`; see `encoder_tables`."""
    total = U(0)
    for token in range(tokens):
        total += U(counts[row + token])
    if total == U(0):
        for token in range(tokens):
            frequencies[row + token] = np.uint16(0)
        frequencies[row + tokens - U(1)] = np.uint16(size)
        return
    left = np.int64(size)
    for token in range(tokens):
        count = U(counts[row + token])
        share = count * size // total
        if share == U(0) and (count != U(0) or token == tokens - U(1)):
            share = U(1)
        frequencies[row + token] = np.uint16(share)
        left -= np.int64(share)
    while left != 0:
        best = U(0)
        score = -1.0
        for token in range(tokens):
            share = np.float64(frequencies[row + token])
            if share == 0.0 or (left < 0 and share == 1.0):
                continue
            count = np.float64(counts[row + token]) + 0.01
            gain = count / (share + 0.5) if left > 0 else (share - 0.5) / count
            if gain > score:
                best, score = token, gain
        step = np.int64(1) if left > 0 else np.int64(-1)
        frequencies[row + best] = np.uint16(np.int64(frequencies[row + best]) + step)
        left -= step


@kernel
def encoder_tables(
    counts: Any, contexts: Any, tokens: Any, bits: Any, row: Any, frequencies: Any, following: Any, table: Any,
    spread: Any, place: Any,
) -> None:  # fmt: skip
    """counts [contexts, tokens] -> frequencies [contexts, tokens], which add up to 1 << bits in each context; following
    [(contexts + 1) << bits], table [contexts * row].

    A token that was counted gets a frequency of at least 1, the last one too, others none. What rounding leaves over
    goes where it saves most.
    An entry of `table`: bits 0-31 what, added to the state, has the number of its bits to put out from bit 16 on;
    48-63 where the token's states begin in `following`, less their number. Tokens that no state stands for get the
    last token's entry, and UNSEEN, which adds 256 to the number of bits: shifts do not see it, their sum does.
    spread [1 << bits], place [tokens]: scratch.
    """
    size = U(1) << U(bits)
    for context in range(U(contexts)):
        first, at = context * U(tokens), context * U(row)
        normalise(counts, first, U(tokens), size, frequencies)
        _spread(frequencies, first, U(tokens), size, spread)
        start = size * (context + U(1))
        for token in range(U(tokens)):
            count = U(frequencies[first + token])
            place[token] = start
            most = U(bits)
            while count > U(1) and (count - U(1)) >> (U(bits) - most + U(1)) != U(0):
                most -= U(1)
            table[at + token] = (((most << U(16)) - (count << most)) & U(0xFFFFFFFF)) | ((start - count) << U(48))
            start += count
        last = table[at + U(tokens) - U(1)] | UNSEEN
        for token in range(U(row)):
            if token >= U(tokens) or frequencies[first + token] == 0:
                table[at + token] = last
        for state in range(size):
            token = U(spread[state])
            following[place[token]] = np.uint16(size + state)
            place[token] += U(1)


@kernel
def decoder_tables(
    frequencies: Any, contexts: Any, tokens: Any, bits: Any, table: Any, spread: Any, upcoming: Any
) -> None:
    """frequencies [contexts, tokens] -> table [contexts << bits]: bits 0-7 how many bits are read for the next state;
    8-15 the token; 16-31 the next state, less what is read. spread [1 << bits], upcoming [tokens]: scratch."""
    size = U(1) << U(bits)
    for context in range(U(contexts)):
        first = context * U(tokens)
        _spread(frequencies, first, U(tokens), size, spread)
        for token in range(U(tokens)):
            upcoming[token] = U(frequencies[first + token])
        for entry in range(size):
            token = U(spread[entry])
            state = upcoming[token]
            upcoming[token] = state + U(1)
            read = U(0)
            while state << read < size:
                read += U(1)
            table[(context << U(bits)) + entry] = np.uint32(
                read | (token << U(8)) | (((state << read) - size) << U(16))
            )


@step
def _put(state: Any, symbol: Any, table: Any, following: Any, held: Any) -> Any:
    entry = table[U(symbol)]
    bits = (state + (entry & U(0xFFFFFFFF))) >> U(16)
    held = (held << (bits & U(63))) | lowest(state, bits)
    return U(following[(state >> (bits & U(63))) + (entry >> U(48))]), held, bits


@step
def _flush(out: Any, at: Any, held: Any, count: Any) -> Any:
    """Whole bytes of what was held longest go below `at`."""
    left = count & U(7)
    size = count >> U(3)
    store_64(out, at - U(8), (held >> left) << ((U(64) - (size << U(3))) & U(63)))
    return at - size, lowest(held, left), left


@helper
def encode(
    symbols: Any, size: Any, table: Any, following: Any, out: Any, at: Any, held: Any, count: Any, states: Any
) -> Any:
    """Code a block of symbols (context * row + token) from the last to the first, below `at`; 8 bytes there to spare.

    held, count: bits not yet stored, of the block behind. Returns the new (at, held, count), and whether a symbol was
    UNSEEN. size: of the block, a multiple of STATES.
    """
    a, b, c, d = U(states[0]), U(states[1]), U(states[2]), U(states[3])
    met = U(0)
    o = U(size)
    while o >= U(4):
        o -= U(4)
        d, held, n3 = _put(d, symbols[o + U(3)], table, following, held)
        c, held, n2 = _put(c, symbols[o + U(2)], table, following, held)
        b, held, n1 = _put(b, symbols[o + U(1)], table, following, held)
        a, held, n0 = _put(a, symbols[o], table, following, held)
        count += n0 + n1 + n2 + n3
        met |= count
        at, held, count = _flush(out, at, held, count & U(0xFF))
    states[0], states[1], states[2], states[3] = np.uint32(a), np.uint32(b), np.uint32(c), np.uint32(d)
    return at, held, count, met >= U(256)


@helper
def reach(count: Any) -> Any:
    """Bytes that decoding `count` tokens may touch, from the byte on that the first one begins in."""
    return U((count * MOST_TABLE_BITS >> 3) + 16)


@step
def _get(state: Any, context: Any, table: Any, held: Any) -> Any:
    entry = U(table[state | context])
    return (entry >> U(16)) + lowest(held, entry), held >> (entry & U(63)), entry


@helper
def decode(contexts: Any, table: Any, stream: Any, position: Any, states: Any, tokens: Any, size: Any) -> Any:
    """The inverse: a block of tokens from bit `position` on; returns where it ends.

    contexts: each times the size of a table. The caller has seen to it that there is room: see `reach`.
    """
    a, b, c, d = U(states[0]), U(states[1]), U(states[2]), U(states[3])
    o = U(0)
    while o < U(size):
        held = load_64(stream, position >> U(3)) >> (position & U(7))
        a, held, e0 = _get(a, U(contexts[o]), table, held)
        tokens[o] = e0 >> U(8)
        b, held, e1 = _get(b, U(contexts[o + U(1)]), table, held)
        tokens[o + U(1)] = e1 >> U(8)
        c, held, e2 = _get(c, U(contexts[o + U(2)]), table, held)
        tokens[o + U(2)] = e2 >> U(8)
        d, held, e3 = _get(d, U(contexts[o + U(3)]), table, held)
        tokens[o + U(3)] = e3 >> U(8)
        position += (e0 + e1 + e2 + e3) & U(0xFF)
        o += U(4)
    states[0], states[1], states[2], states[3] = np.uint32(a), np.uint32(b), np.uint32(c), np.uint32(d)
    return position


@helper
def decode_plain(table: Any, stream: Any, position: Any, states: Any, tokens: Any, size: Any) -> Any:
    """`decode` where there is one context."""
    a, b, c, d = U(states[0]), U(states[1]), U(states[2]), U(states[3])
    o = U(0)
    while o < U(size):
        held = load_64(stream, position >> U(3)) >> (position & U(7))
        a, held, e0 = _get(a, U(0), table, held)
        tokens[o] = e0 >> U(8)
        b, held, e1 = _get(b, U(0), table, held)
        tokens[o + U(1)] = e1 >> U(8)
        c, held, e2 = _get(c, U(0), table, held)
        tokens[o + U(2)] = e2 >> U(8)
        d, held, e3 = _get(d, U(0), table, held)
        tokens[o + U(3)] = e3 >> U(8)
        position += (e0 + e1 + e2 + e3) & U(0xFF)
        o += U(4)
    states[0], states[1], states[2], states[3] = np.uint32(a), np.uint32(b), np.uint32(c), np.uint32(d)
    return position
