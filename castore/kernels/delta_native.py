"""The ordered-delta coder in Numba, block by block, so that what passes between its steps stays in the first cache.

What each step means is in `delta_reference`; the format is in `codecs/ordered_delta`. A block's steps: differences
and their tokens; tokens to the token stream; low bytes to their planes; the bits between to the field stream.
Coding goes from the last block to the first, decoding forwards.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numba import njit

from castore.kernels import delta_lanes as lanes
from castore.kernels import fields_native as fields_of
from castore.kernels import tans_native as tans
from castore.kernels.bits import U
from castore.kernels.blocks import BLOCK, LANES, ROW, UNIT


@njit(nogil=True, cache=True)
def changed(words: Any, base: Any, unit: Any, flags: Any) -> None:
    """Which units of `unit` 8-byte words differ; the last may be shorter."""
    for k in range(flags.size):
        difference = U(0)
        for i in range(k * unit, min((k + 1) * unit, words.size)):
            difference |= words[U(i)] ^ base[U(i)]
        flags[k] = difference != U(0)


@njit(nogil=True)
def _count(words: Any, base: Any, start: Any, fit: Any, symbols: Any, counts: Any) -> None:
    """Count the symbols of one unit. Two tables in turn: one would wait for itself where values repeat."""
    for i in range(0, UNIT, LANES):
        lanes.symbols_of(words, base, start + i, fit[0], fit[1], fit[2], fit[3], fit[4], fit[5], i, symbols)
    half = counts.size // 2
    for i in range(0, UNIT, 2):
        counts[U(symbols[U(i)])] += np.uint32(1)
        counts[U(symbols[U(i + 1)]) + U(half)] += np.uint32(1)


@njit(nogil=True)
def _sum(counts: Any, contexts: Any, tokens: Any, found: Any) -> None:
    """counts [2 * contexts * ROW] -> found [contexts, tokens]."""
    half = counts.size // 2
    for context in range(contexts):
        for token in range(tokens):
            at = context * ROW + token
            found[context, token] = np.int64(counts[at]) + np.int64(counts[half + at])


@njit(nogil=True, cache=True)
def survey(words: Any, base: Any, step: Any, fit: Any, symbols: Any, counts: Any, found: Any) -> None:
    """Count the symbols of every `step`-th unit into found [contexts, tokens].

    fit [6]: low bits, top exponent, mantissa bits, context shift, last context, 1 for floats, in words of the dtype.
    counts: scratch.
    """
    counts[:] = 0
    for start in range(0, words.size - UNIT + 1, UNIT * step):
        _count(words, base, start, fit, symbols, counts)
    _sum(counts, found.shape[0], found.shape[1], found)


@njit(nogil=True, cache=True)
def plan(words: Any, base: Any, units: Any, fit: Any, waste: Any, symbols: Any, counts: Any, found: Any) -> Any:
    """Look at `units` units, evenly spread: sets fit[0], fit[1]; returns the bits that a value takes, with its tables.

    fit: as in `survey`; fit[0] is the least number of low bits. The largest one is chosen that wastes no more than
    `waste` of a value's bits. found: scratch [contexts, tokens at fit[0]].
    """
    kind = words.dtype.type
    bits = words.itemsize * 8
    contexts, tokens = found.shape
    whole = words.size // UNIT
    taken = min(units, whole)
    if fit[5]:
        magnitude = kind(0)
        most = kind((1 << (bits - 1)) - 1)
        for k in range(taken):
            for i in range(k * whole // taken * UNIT, k * whole // taken * UNIT + UNIT):
                magnitude = max(magnitude, kind(base[i] & most))
        fit[1] = magnitude >> fit[2]
    counts[:] = 0
    for k in range(taken):
        _count(words, base, k * whole // taken * UNIT, fit, symbols, counts)
    _sum(counts, contexts, tokens, found)
    least = np.int64(fit[0])
    total = taken * UNIT
    cost = 0.0
    rows = columns = 0
    for context in range(contexts):
        row = np.int64(0)
        seen = 0
        for token in range(tokens):
            count = found[context, token]
            if count:
                row += count
                seen += 1
                cost += count * (least + token - np.log2(np.float64(count)))
        if row:
            # Miller-Madow: a small sample makes rare tokens look rarer.
            cost += row * np.log2(np.float64(row)) + (seen - 1) * 0.7213475204444817
            rows += 1
    cost /= total
    below = 0.0
    wasted = 0.0
    low = least
    for token in range(tokens - 1):
        column = np.int64(0)
        for context in range(contexts):
            column += found[context, token]
        columns += column > 0
        # A low of k costs a value of token t < k (k - t) bits: those of lower tokens that much more each time.
        below += column
        wasted += below
        if low == least + token and wasted <= waste * cost * total and low < bits - 8:
            low += 1
    fit[0] = kind(low)
    return cost + 16.0 * rows * (columns + 1) / words.size


@njit(nogil=True, cache=True)
def encode(
    words: Any,
    base: Any,
    fit: Any,
    planes: Any,
    size: Any,
    step: Any,
    counts: Any,
    found: Any,
    frequencies: Any,
    table: Any,
    following: Any,
    out: Any,
    token_end: Any,
    field_start: Any,
    y: Any,
    symbols: Any,
    masks: Any,
    states: Any,
) -> Any:
    """Code `words` as differences to `base`: tokens below byte `token_end` of `out`, planes from there on, fields from
    `field_start` on. Returns (first bit of the tokens, bits of the fields).

    size: states of a table. step: every which unit is counted. counts: scratch. found, frequencies [contexts, tokens]:
    what was counted, and what became of it. table, following: scratch of `tans_native.encoder_tables`; y, symbols,
    masks: of one block.
    """
    survey(words, base, step, fit, symbols, counts, found)
    tans.normalise(found, size, frequencies)
    tans.encoder_tables(frequencies, size, ROW, following, table)
    kind = words.dtype.type
    bits = words.itemsize * 8
    low = fit[0]
    shift = kind(8 * planes)
    narrow = bits >= 16 and planes > 0
    whole = kind(~kind(0) >> shift)  # of a value whose bits are all in the field
    nowhere = out.size - LANES
    token_at, token_held, token_count = U(token_end), U(0), U(0)
    field_at, field_held, field_count = U(field_start), U(0), U(0)
    blocks = (words.size + BLOCK - 1) // BLOCK
    for done in range(blocks):
        start = (blocks - 1 - done) * BLOCK
        count = min(BLOCK, words.size - start)
        for i in range(0, count, LANES):
            lanes.prepare(
                words, base, start + i, low, fit[1], fit[2], fit[3], fit[4], fit[5], i, symbols, shift, y, masks, out,
                token_end + start + i, words.size, planes, nowhere,
            )  # fmt: skip
        token_at, token_held, token_count, met_unseen = tans.encode(
            symbols[:count], table, following, out, token_at, token_held, token_count, states
        )
        if met_unseen:
            for i in range(count):
                if table[U(symbols[i])] & tans.UNSEEN:
                    masks[i] = whole
        field_at, field_held, field_count = fields_of.put(
            masks[:count].view(np.uint64),
            y[:count].view(np.uint64),
            bits,
            narrow,
            out,
            field_at,
            field_held,
            field_count,
        )
    out[token_at - U(1)] = np.uint8((token_held << (U(8) - token_count)) & U(0xFF))
    return token_at * U(8) - token_count, (field_at - U(field_start)) * U(8) + field_count


@njit(nogil=True, cache=True)
def decode(
    out: Any,
    fit: Any,
    planes: Any,
    frequencies: Any,
    table: Any,
    table_bits: Any,
    stream: Any,
    token_start: Any,
    plane_start: Any,
    field_end: Any,
    contexts: Any,
    tokens: Any,
    masks: Any,
    fields: Any,
    states: Any,
    spare: Any,
) -> Any:
    """Turn `out`, which holds the base, into the words. Returns the bits at which tokens and fields ended: beyond the
    stream's, or below zero (wrapped), for one that ran out of it.

    token_start, field_end: bits of `stream`; plane_start: a byte of it; 8 bytes of the stream lie behind the fields.
    table: scratch; contexts, tokens, masks, fields: of one block. spare: scratch of SPARE_BYTES. Whatever the stream
    holds, nothing outside of it is read: a block that might read there gets a copy with room around it.
    """
    tans.decoder_tables(frequencies, 1 << table_bits, table)
    kind = out.dtype.type
    bits = out.itemsize * 8
    low = fit[0]
    shift = kind(8 * planes)
    narrow = bits >= 16 and planes > 0
    token_at, field_at = U(token_start), U(field_end)
    for start in range(0, out.size, BLOCK):
        size = min(BLOCK, out.size - start)
        if token_at > U(stream.size * 8) or field_at > U(stream.size * 8):  # not what `encode` makes
            break
        source, moved = tans.with_room(stream, token_at, size, spare)
        if fit[4]:
            for i in range(0, size, LANES):
                lanes.contexts(out, start + i, fit[1], fit[2], fit[3], fit[4], np.uint16(table_bits), i, contexts)
            token_at = tans.decode(contexts, table, source, token_at - moved, states, tokens[:size]) + moved
        else:
            token_at = tans.decode_plain(table, source, token_at - moved, states, tokens[:size]) + moved
        for i in range(0, size, LANES):
            lanes.masks(tokens, low - shift, i, masks)
        groups, found = masks[:size].view(np.uint64), fields[:size].view(np.uint64)
        if field_at >= U(size * bits):
            field_at = fields_of.get(groups, bits, narrow, stream, field_at, found)
        else:
            spare[: BLOCK * 8] = 0
            used = np.int64(field_at >> U(3)) + 8
            spare[BLOCK * 8 : BLOCK * 8 + used] = stream[:used]
            field_at = fields_of.get(groups, bits, narrow, spare, field_at + U(BLOCK * 64), found) - U(BLOCK * 64)
        for i in range(0, size, LANES):
            lanes.leading(fields, masks, i, shift)
        for k in range(planes):
            at = plane_start + k * out.size + start
            for i in range(0, size, LANES):
                lanes.plane_in(stream, at + i, kind(8 * k), i, fields)
        for i in range(0, size, LANES):
            lanes.restore(fields, i, low, fit[5], out, start + i)
    return token_at, field_at
