"""The ordered-delta coder in Numba, block by block, so that what passes between its steps stays in the first cache.

What each step means is in `delta_reference`; the format is in `codecs/ordered_delta`. A block's steps: differences
and their tokens; tokens to the token stream; low bytes to their planes; the bits between to the field stream.
Coding goes from the last block to the first, decoding forwards.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from castore.kernels import delta_lanes as lanes
from castore.kernels import fields_native as fields_of
from castore.kernels import rans_native as rans
from castore.kernels import tans_native as tans
from castore.kernels.bits import U, clear_bytes, copy_bytes
from castore.kernels.blocks import BLOCK, LANES, ROW, UNIT
from castore.kernels.compiling import helper, kernel


@kernel
def changed(words: Any, base: Any, unit: Any, flags: Any) -> None:
    """Which units of `unit` 8-byte words differ; the last may be shorter."""
    for k in range(flags.size):
        difference = U(0)
        for i in range(k * unit, min((k + 1) * unit, words.size)):
            difference |= words[U(i)] ^ base[U(i)]
        flags[k] = difference != U(0)


@helper
def tally(symbols: Any, counts: Any, half: Any) -> None:
    """Count the symbols of one unit. Two tables in turn: one would wait for itself where values repeat."""
    for i in range(U(0), U(UNIT), U(2)):
        counts[U(symbols[i])] += np.uint32(1)
        counts[U(symbols[i + U(1)]) + half] += np.uint32(1)


@kernel
def count(
    words: Any, base: Any, units: Any, step: Any, parts: Any, find: Any, fit: Any, tokens: Any, symbols: Any,
    counts: Any, found: Any,
) -> None:  # fmt: skip
    """Count the symbols of units into found [contexts, tokens]; unit k is the one with number k * step // parts.

    fit [6]: low bits, top exponent, mantissa bits, context shift, last context, 1 for floats, in words of the dtype.
    find: the top exponent is looked for first. symbols, counts [2 * contexts * ROW]: scratch.
    """
    kind = words.dtype.type
    if find:
        magnitude = kind(0)
        most = kind(~kind(0)) >> kind(1)
        for k in range(U(units)):
            start = k * U(step) // U(parts) * U(UNIT)
            for i in range(start, start + U(UNIT)):
                magnitude = max(magnitude, kind(base[i] & most))
        fit[1] = magnitude >> fit[2]
    for i in range(U(counts.size)):
        counts[i] = np.uint32(0)
    for k in range(U(units)):
        start = np.int64(k * U(step) // U(parts)) * UNIT
        for i in range(0, UNIT, LANES):
            lanes.symbols_of(words, base, start + i, fit[0], fit[1], fit[2], fit[3], fit[4], fit[5], i, symbols)
        tally(symbols, counts, U(counts.size) >> U(1))
    for i in range(U(found.size)):
        at = i // U(tokens) * U(ROW) + i % U(tokens)
        found[i] = np.int64(counts[at]) + np.int64(counts[at + (U(counts.size) >> U(1))])


@kernel
def judge(found: Any, contexts: Any, tokens: Any, least: Any, most: Any, waste: Any) -> Any:
    """Of counts [contexts, tokens] at `least` low bits: how many low bits to take, at most `most`; the bits that a
    value takes, without tables; how many rows and columns those have.

    The largest number is chosen that wastes no more than `waste` of a value's bits.
    """
    cost = 0.0
    total = U(0)
    rows = columns = U(0)
    for context in range(U(contexts)):
        row = U(0)
        seen = U(0)
        for token in range(U(tokens)):
            count = U(found[context * U(tokens) + token])
            if count != U(0):
                row += count
                seen += U(1)
                cost += np.float64(count) * (np.float64(U(least) + token) - np.log2(np.float64(count)))
        if row != U(0):
            # Miller-Madow: a small sample makes rare tokens look rarer.
            cost += np.float64(row) * np.log2(np.float64(row)) + np.float64(seen - U(1)) * 0.7213475204444817
            rows += U(1)
        total += row
    below = wasted = 0.0
    low = U(least)
    for token in range(U(tokens) - U(1)):
        column = U(0)
        for context in range(U(contexts)):
            column += U(found[context * U(tokens) + token])
        if column != U(0):
            columns += U(1)
        # A low of k costs a value of token t < k (k - t) bits: those of lower tokens that much more each time.
        below += np.float64(column)
        wasted += below
        if low == U(least) + token and wasted <= waste * cost and low < U(most):
            low += U(1)
    return low, cost / np.float64(total), rows, columns


@kernel
def encode(
    words: Any,
    base: Any,
    fit: Any,
    planes: Any,
    rans_bits: Any,
    table: Any,
    following: Any,
    rans_table: Any,
    out: Any,
    token_end: Any,
    field_start: Any,
    y: Any,
    symbols: Any,
    masks: Any,
    states: Any,
    met: Any,
) -> Any:
    """Code `words` as differences to `base`: tokens below byte `token_end` of `out`, planes from there on, fields from
    `field_start` on. Returns (first bit of the tokens, bits of the fields).

    fit: as in `count`. rans_bits: of the tables of rANS, 0 for tANS. table, following: of `tans_native.encoder_tables`;
    rans_table: of `rans_native.encoder_table`. y, symbols, masks, met: scratch of one block.
    """
    kind = words.dtype.type
    bits = words.itemsize * 8
    low = fit[0]
    shift = kind(8 * planes)
    narrow = bits >= 16 and planes > 0
    whole = U(kind(~kind(0) >> shift))  # of a value whose bits are all in the field
    nowhere = out.size - LANES
    token_at, token_held, token_count = U(token_end), U(0), U(0)
    field_at, field_held, field_count = U(field_start), U(0), U(0)
    start = words.size
    while start > 0:
        count = (start - 1) % BLOCK + 1
        start -= count
        for i in range(0, count, LANES):
            lanes.prepare(
                words, base, start + i, low, fit[1], fit[2], fit[3], fit[4], fit[5], i, symbols, shift, y, masks, out,
                token_end + start + i, words.size, planes, nowhere,
            )  # fmt: skip
        if rans_bits:
            token_at, met_unseen = rans.encode(symbols, count, rans_table, rans_bits, out, token_at, states, met)
        else:
            token_at, token_held, token_count, met_unseen = tans.encode(
                symbols, count, table, following, out, token_at, token_held, token_count, states
            )
        if met_unseen:
            for i in range(U(count)):
                symbol = U(symbols[i])
                if (rans_table[symbol] & rans.UNSEEN) if rans_bits else (table[symbol] & tans.UNSEEN):
                    bit = i * U(bits)
                    masks[bit >> U(6)] |= whole << (bit & U(63))
        field_at, field_held, field_count = fields_of.put(
            masks, y, U(count * bits) >> U(6), bits, narrow, out, field_at, field_held, field_count
        )
    if not rans_bits:
        out[token_at - U(1)] = np.uint8((token_held << (U(8) - token_count)) & U(0xFF))
    return token_at * U(8) - token_count, (field_at - U(field_start)) * U(8) + field_count


@kernel
def decode(
    out: Any,
    fit: Any,
    planes: Any,
    is_rans: Any,
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
    table: of `rans_native.decoder_table` if is_rans, else of `tans_native.decoder_tables`. contexts, tokens, masks,
    fields: scratch of one block. spare: scratch of SPARE_BYTES. Whatever the stream holds, nothing outside of it is
    read: a block that might read there gets a copy with room around it.
    """
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
        source, moved = stream, U(0)
        at, reach = token_at >> U(3), rans.reach(size) if is_rans else tans.reach(size)
        if at + reach > U(stream.size):
            left = U(stream.size) - at
            copy_bytes(spare, U(0), stream, at, left)
            clear_bytes(spare, left, reach - left)
            source, moved = spare, at << U(3)
        if fit[4] or is_rans:
            for i in range(0, size, LANES):
                lanes.contexts(out, start + i, fit[1], fit[2], fit[3], fit[4], np.uint16(table_bits), i, contexts)
        if is_rans:
            end = rans.decode(contexts, table, table_bits, source, at - (moved >> U(3)), states, tokens, size)
            token_at = (end << U(3)) + moved
        elif fit[4]:
            token_at = tans.decode(contexts, table, source, token_at - moved, states, tokens, size) + moved
        else:
            token_at = tans.decode_plain(table, source, token_at - moved, states, tokens, size) + moved
        for i in range(0, size, LANES):
            lanes.masks(tokens, kind(low - shift), i, masks)
        source, moved = stream, U(0)
        if field_at < U(size * bits):
            moved = U(BLOCK * 64)
            used = (field_at >> U(3)) + U(8)
            clear_bytes(spare, U(0), U(BLOCK * 8))
            copy_bytes(spare, U(BLOCK * 8), stream, U(0), used)
            source = spare
        groups = U(size * bits) >> U(6)
        field_at = fields_of.get(masks, groups, bits, narrow, source, field_at + moved, fields) - moved
        for i in range(0, size, LANES):
            lanes.leading(fields, masks, i, shift)
        for k in range(planes):
            at_plane = plane_start + k * out.size + start
            for i in range(0, size, LANES):
                lanes.plane_in(stream, at_plane + i, kind(8 * k), i, fields)
        for i in range(0, size, LANES):
            lanes.restore(fields, i, low, fit[5], out, start + i)
    return token_at, field_at
