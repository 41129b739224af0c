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
from numba import njit

from castore.kernels.bits import U, load_64, lowest, store_64
from castore.kernels.blocks import MOST_TABLE_BITS, STATES

UNSEEN = np.uint64(1 << 24)  # in an encoder's entry: coded as the context's last token instead


@njit(nogil=True)
def normalise(counts: Any, size: Any, frequencies: Any) -> None:
    """counts [contexts, tokens] -> frequencies that add up to `size` in each context; the last token of each gets 1.

    A token that was counted gets at least 1, others none. What rounding leaves over goes where it saves most.
    """
    contexts, tokens = counts.shape
    for context in range(contexts):
        total = np.int64(0)
        for token in range(tokens):
            total += counts[context, token]
        if total == 0:
            frequencies[context] = 0
            frequencies[context, tokens - 1] = size
            continue
        left = np.int64(size)
        for token in range(tokens):
            count = np.int64(counts[context, token])
            share = max(count * size // total, 1) if count else 0
            if token == tokens - 1:
                share = max(share, 1)
            frequencies[context, token] = share
            left -= share
        while left != 0:
            best = -1
            score = -1.0
            for token in range(tokens):
                share = np.int64(frequencies[context, token])
                if share == 0 or (left < 0 and share == 1):
                    continue
                count = np.float64(counts[context, token])
                gain = (count + 0.01) / (share + 0.5) if left > 0 else (share - 0.5) / (count + 0.01)
                if gain > score:
                    best, score = token, gain
            step = 1 if left > 0 else -1
            frequencies[context, best] = np.int64(frequencies[context, best]) + step
            left -= step


@njit(nogil=True)
def spread(frequencies: Any, size: Any, tokens: Any) -> None:
    """Which token each state of a context stands for: steps that visit all states once (FSE, Collet 2013)."""
    position = 0
    for token in range(frequencies.size):
        for _ in range(frequencies[token]):
            tokens[position] = token
            position = (position + (size >> 1) + (size >> 3) + 3) & (size - 1)


@njit(nogil=True)
def encoder_tables(frequencies: Any, size: Any, row: Any, following: Any, table: Any) -> None:
    """frequencies [contexts, tokens] -> following [(contexts + 1) * size], table [contexts * row].

    An entry of `table`: bits 0-31 what, added to the state, has the number of its bits to put out from bit 16 on;
    48-63 where the token's states begin in `following`, less their number. Tokens that no state stands for get the
    last token's entry, and UNSEEN, which adds 256 to the number of bits: shifts do not see it, their sum does.
    """
    most_bits = 0
    while (1 << most_bits) < size:
        most_bits += 1
    tokens = np.empty(size, np.uint8)
    place = np.empty(row, np.int64)
    contexts, count_tokens = frequencies.shape
    for context in range(contexts):
        spread(frequencies[context], size, tokens)
        start = 0
        for token in range(count_tokens):
            count = np.int64(frequencies[context, token])
            place[token] = size * (context + 1) + start
            bits = most_bits
            while count > 1 and (count - 1) >> (most_bits - bits + 1) > 0:
                bits -= 1
            begin = U(size * (context + 1) + start - count)
            table[context * row + token] = U((bits << 16) - (count << bits)) | (begin << U(48))
            start += count
        last = table[context * row + count_tokens - 1] | UNSEEN
        for token in range(row):
            if token >= count_tokens or frequencies[context, token] == 0:
                table[context * row + token] = last
        for state in range(size):
            token = tokens[state]
            following[place[token]] = np.uint16(size + state)
            place[token] += 1


@njit(nogil=True)
def decoder_tables(frequencies: Any, size: Any, table: Any) -> None:
    """frequencies [contexts, tokens] -> table [contexts * size]: bits 0-7 how many bits are read for the next state;
    8-15 the token; 16-31 the next state, less what is read."""
    tokens = np.empty(size, np.uint8)
    states = np.empty(256, np.int64)
    for context in range(frequencies.shape[0]):
        spread(frequencies[context], size, tokens)
        for token in range(frequencies.shape[1]):
            states[token] = frequencies[context, token]
        for entry in range(size):
            token = np.int64(tokens[entry])
            state = states[token]
            states[token] = state + 1
            bits = 0
            while state << bits < size:
                bits += 1
            table[context * size + entry] = np.uint32(bits | (token << 8) | (((state << bits) - size) << 16))


@njit(nogil=True, inline="always")
def _put(state: Any, symbol: Any, table: Any, following: Any, held: Any) -> Any:
    entry = table[U(symbol)]
    bits = (state + (entry & U(0xFFFFFFFF))) >> U(16)
    held = (held << (bits & U(63))) | lowest(state, bits)
    return U(following[(state >> (bits & U(63))) + (entry >> U(48))]), held, bits


@njit(nogil=True, inline="always")
def _flush(out: Any, at: Any, held: Any, count: Any) -> Any:
    """Whole bytes of what was held longest go below `at`."""
    left = count & U(7)
    size = count >> U(3)
    store_64(out, at - U(8), (held >> left) << ((U(64) - (size << U(3))) & U(63)))
    return at - size, lowest(held, left), left


@njit(nogil=True)
def encode(symbols: Any, table: Any, following: Any, out: Any, at: Any, held: Any, count: Any, states: Any) -> Any:
    """Code a block of symbols (context * row + token) from the last to the first, below `at`; 8 bytes there to spare.

    held, count: bits not yet stored, of the block behind. Returns the new (at, held, count), and whether a symbol was
    UNSEEN. len(symbols) is a multiple of STATES.
    """
    a, b, c, d = U(states[0]), U(states[1]), U(states[2]), U(states[3])
    met = U(0)
    o = U(symbols.size)
    for _ in range(symbols.size // STATES):
        o -= U(4)
        d, held, n3 = _put(d, symbols[o + U(3)], table, following, held)
        c, held, n2 = _put(c, symbols[o + U(2)], table, following, held)
        b, held, n1 = _put(b, symbols[o + U(1)], table, following, held)
        a, held, n0 = _put(a, symbols[o], table, following, held)
        count += n0 + n1 + n2 + n3
        met |= count
        at, held, count = _flush(out, at, held, count & U(0xFF))
    for lane, state in enumerate((a, b, c, d)):
        states[lane] = np.uint16(state)
    return at, held, count, met >= U(256)


@njit(nogil=True)
def with_room(stream: Any, position: Any, count: Any, spare: Any) -> Any:
    """The stream itself if `count` tokens from bit `position` on can't reach its end; else a copy of what is left.

    Returns it, and the bits that positions in it lie behind. `position` lies within the stream. `spare`: room for the
    tokens and 16 bytes.
    """
    most = (count * MOST_TABLE_BITS >> 3) + 16
    at = np.int64(position >> U(3))
    if at + most <= stream.size:
        return stream, U(0)
    left = stream.size - at
    spare[:left] = stream[at:]
    spare[left : left + most] = 0
    return spare, U(at << 3)


@njit(nogil=True, inline="always")
def _get(state: Any, context: Any, table: Any, held: Any) -> Any:
    entry = U(table[state | U(context)])
    return (entry >> U(16)) + lowest(held, entry), held >> (entry & U(63)), entry


@njit(nogil=True)
def decode(contexts: Any, table: Any, stream: Any, position: Any, states: Any, tokens: Any) -> Any:
    """The inverse: a block of tokens from bit `position` on; returns where it ends.

    contexts: each times the size of a table. The caller has seen to it that there is room: see `with_room`.
    """
    a, b, c, d = U(states[0]), U(states[1]), U(states[2]), U(states[3])
    for i in range(0, tokens.size, STATES):
        o = U(i)
        held = load_64(stream, position >> U(3)) >> (position & U(7))
        a, held, e0 = _get(a, contexts[o], table, held)
        tokens[o] = e0 >> U(8)
        b, held, e1 = _get(b, contexts[o + U(1)], table, held)
        tokens[o + U(1)] = e1 >> U(8)
        c, held, e2 = _get(c, contexts[o + U(2)], table, held)
        tokens[o + U(2)] = e2 >> U(8)
        d, held, e3 = _get(d, contexts[o + U(3)], table, held)
        tokens[o + U(3)] = e3 >> U(8)
        position += (e0 + e1 + e2 + e3) & U(0xFF)
    for lane, state in enumerate((a, b, c, d)):
        states[lane] = np.uint16(state)
    return position


@njit(nogil=True)
def decode_plain(table: Any, stream: Any, position: Any, states: Any, tokens: Any) -> Any:
    """`decode` where there is one context."""
    a, b, c, d = U(states[0]), U(states[1]), U(states[2]), U(states[3])
    for i in range(0, tokens.size, STATES):
        o = U(i)
        held = load_64(stream, position >> U(3)) >> (position & U(7))
        a, held, e0 = _get(a, 0, table, held)
        tokens[o] = e0 >> U(8)
        b, held, e1 = _get(b, 0, table, held)
        tokens[o + U(1)] = e1 >> U(8)
        c, held, e2 = _get(c, 0, table, held)
        tokens[o + U(2)] = e2 >> U(8)
        d, held, e3 = _get(d, 0, table, held)
        tokens[o + U(3)] = e3 >> U(8)
        position += (e0 + e1 + e2 + e3) & U(0xFF)
    for lane, state in enumerate((a, b, c, d)):
        states[lane] = np.uint16(state)
    return position
