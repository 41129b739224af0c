"""From payload to raw bytes, written from the section on codecs of docs/format.md alone: it imports nothing of castore.

It favours brevity over speed.
"""

from __future__ import annotations

import struct
from typing import Any

import lz4.block
import numpy as np
import zstandard

WORDS = {0: 1, 1: 1, 2: 1, 3: 1, 4: 2, 5: 2, 6: 4, 7: 4, 8: 8, 9: 8, 16: 2, 17: 2, 18: 4, 19: 8, 24: 2, 25: 4, 26: 8}
WORDS |= dict.fromkeys(range(32, 38), 1)
MANTISSAS = {16: 10, 17: 7, 18: 23, 19: 52, 24: 10, 25: 23, 26: 52, 32: 3, 33: 3, 34: 2, 35: 2}
RESIDUALS = {16, 17, 18, 24, 25}  # the dtypes that codec 5 takes
ROTATED = {16, 17, 18, 19, 24, 25, 26}  # floats with a word of 2 bytes and more
PREDICTORS = {
    1: (18, 3, 4),
    2: (18, 3, 3),
    3: (18, 2, 2),
    4: (17, 1, 0),
    5: (18, 1, 0),
    6: (18, 1, 2),
}  # dtype, number of bases, of factors


class FormatError(Exception):
    """The store breaks a rule of the page."""


def check(condition: bool, rule: str) -> None:
    if not condition:
        raise FormatError(rule)


def unzstd(frame: bytes, size: int) -> bytes:
    form = zstandard.FORMAT_ZSTD1_MAGICLESS
    try:
        header = zstandard.get_frame_parameters(frame, format=form)
        check(header.content_size == size and not header.has_checksum and not header.dict_id, "zstd frame")
        return zstandard.ZstdDecompressor(format=form).decompress(frame, allow_extra_data=False)
    except zstandard.ZstdError as error:
        raise FormatError(str(error)) from None


def read_planes(payload: bytes, word: int, count: int) -> np.ndarray:
    """The transformed words of a payload of byte planes."""
    words = np.zeros(count, f"<u{word}")
    at = 0
    for plane in range(word):
        method, length = struct.unpack_from("<BI", payload, at)
        data = payload[at + 5 : at + 5 + length]
        at += 5 + length
        check(len(data) == length and method <= 3 and (count > 0 or (method, length) == (0, 0)), "plane")
        if method == 1:
            check(length == 1, "constant plane")
            data = data * count
        elif method == 2:
            data = lz4.block.decompress(data, uncompressed_size=count)
        elif method == 3:
            data = unzstd(data, count)
        check(len(data) == count, "plane length")
        words |= np.frombuffer(data, np.uint8).astype(words.dtype) << words.dtype.type(8 * plane)
    check(at == len(payload), "bytes after the planes")
    return words


def unzigzag(z: np.ndarray) -> np.ndarray:
    one = z.dtype.type(1)
    return (z >> one) ^ (z.dtype.type(0) - (z & one))


def restored(y: np.ndarray, added: int, base: np.ndarray, is_float: bool) -> np.ndarray:
    """The words of y, to which a number was added."""
    magnitude = base.dtype.type((1 << (8 * base.itemsize - 1)) - 1)

    def o(x: np.ndarray) -> np.ndarray:
        return np.where(x > magnitude, x ^ magnitude, x) if is_float else x

    return o(o(base) + unzigzag(y - y.dtype.type(added)))


def table(frequencies: list[int], q: int) -> list[tuple[int, int, int]]:
    """(token, number of bits, next state less those bits) of each of 2^q states."""
    size = 1 << q
    tokens, p = [0] * size, 0
    for token, frequency in enumerate(frequencies):
        for _ in range(frequency):
            tokens[p] = token
            p = (p + size // 2 + size // 8 + 3) % size
    counters, entries = list(frequencies), []
    for token in tokens:
        x = counters[token]
        counters[token] += 1
        bits = q + 1 - x.bit_length()
        entries.append((token, bits, (x << bits) - size))
    return entries


def read_residual(payload: bytes, dtype: int, base: bytes) -> bytes:
    """The raw bytes of a payload of codec 5."""
    check(dtype in RESIDUALS and len(base) % WORDS[dtype] == 0 and len(payload) >= 26, "residual record")
    word, mantissa, words = WORDS[dtype], MANTISSAS[dtype], np.frombuffer(base, f"<u{WORDS[dtype]}").copy()
    top, t, r, mask, b, *states = struct.unpack("<HBBHI8H", payload[:26])
    blocks, used = len(words) // 256, [k for k in range(16) if mask >> k & 1]
    bitmap_at = 26 + 2 * t * len(used)
    tail_at = bitmap_at + -(-blocks // 8)
    stream = payload[tail_at + r * word :]
    check(1 <= t <= 8 * word + 1 and r == len(words) % 256 and top < 1 << (8 * word - 1 - mantissa), "residual header")
    check(len(payload) == tail_at + r * word + -(-b // 8) + 8 and max(states) < 1024, "residual length, states")
    tables = [table([1024 // t + (token < 1024 % t) for token in range(t)], 10)] * 16
    for number, k in enumerate(used):
        frequencies = struct.unpack_from(f"<{t}H", payload, 26 + 2 * t * number)
        check(min(frequencies) >= 1 and sum(frequencies) == 1024, "residual frequencies")
        tables[k] = table(list(frequencies), 10)
    coded = [k for k in range(blocks) if payload[bitmap_at + k // 8] >> k % 8 & 1]
    old = words[: blocks * 256].reshape(blocks, 256)[coded].reshape(-1)
    exponents = (old.astype(np.int64) & ((1 << (8 * word - 1)) - 1)) >> mantissa
    found, position, modulus = [], b, 1 << 8 * word
    for i, context in enumerate(np.clip(top - exponents, 0, 15).tolist()):
        token, bits, low = tables[context][states[i % 8]]
        position -= token + bits
        check(position >= 0, "residual stream too short")
        here = int.from_bytes(stream[position >> 3 : (position >> 3) + 8], "little") >> (position & 7)
        states[i % 8] = low + (here & ((1 << bits) - 1))
        found.append(((1 << token) + (here >> bits & ((1 << token) - 1))) % modulus)
    check(not coded or (position == 0 and not any(states)), "end of the residual stream")
    y = np.array(found, words.dtype)
    words[: blocks * 256].reshape(blocks, 256)[coded] = restored(y, 1, old, True).reshape(-1, 256)
    words[blocks * 256 :] = np.frombuffer(payload[tail_at : tail_at + r * word], words.dtype)
    return words.tobytes()


def entries(coder: int, frequencies: list[int]) -> list[tuple[int, int, int]]:
    """The table of a context: of tANS as `table` has it; of rANS (token, its frequency, which of its entries)."""
    if coder < 128:
        return table(frequencies, coder)
    return [(token, frequency, j) for token, frequency in enumerate(frequencies) for j in range(frequency)]


def read_tokens(coder: int, data: bytes, b: int, tables: list[Any], contexts: list[int], first: list[int]) -> list[int]:
    """The tokens in the last `b` bits of `data`."""
    if coder >= 128:
        return read_wide_tokens(coder - 128, data, b, tables, contexts, first)
    states, position, tokens = list(first), -b % 8, []
    for i, context in enumerate(contexts):
        token, bits, low = tables[context][states[i % 4]]
        here = int.from_bytes(data[position >> 3 : (position >> 3) + 3], "little") >> (position & 7)
        states[i % 4] = low + (here & ((1 << bits) - 1))
        position += bits
        tokens.append(token)
    check(position == 8 * len(data) and not any(states), "end of the tokens")
    return tokens


def read_wide_tokens(
    q: int, data: bytes, b: int, tables: list[Any], contexts: list[int], first: list[int]
) -> list[int]:
    """The same of rANS."""
    check(b % 16 == 0 and len(contexts) % 64 == 0, "words and bits of rANS")
    states, position, tokens = list(first), 0, []
    for i, context in enumerate(contexts):
        token, frequency, j = tables[context][states[i % 64] % (1 << q)]
        x = frequency * (states[i % 64] >> q) + j
        if x < 1 << 16:
            x = x << 16 | int.from_bytes(data[position : position + 2].ljust(2, b"\0"), "little")
            position += 2
        states[i % 64] = x
        tokens.append(token)
    check(position == len(data) and set(states) == {1 << 16}, "end of the tokens")
    return tokens


def read_fields(data: bytes, g: int, sizes: list[int], group: int) -> list[int]:
    """Fields of so many bits, in groups of so many words, downwards from bit `g`."""
    position, found = g, []
    for start in range(0, len(sizes), group):
        position -= sum(sizes[start : start + group])
        check(position >= 0, "fields too short")
        at = position
        for size in sizes[start : start + group]:
            here = int.from_bytes(data[at >> 3 : (at >> 3) + 9], "little") >> (at & 7)
            found.append(here & ((1 << size) - 1))
            at += size
    check(position == 0, "end of the fields")
    return found


class Parts:
    """A payload, taken apart from its start."""

    def __init__(self, payload: bytes, form: str) -> None:
        self.at, self.payload = struct.calcsize(form), payload
        check(len(payload) >= self.at, "header cut off")
        self.header: tuple[int, ...] = struct.unpack_from(form, payload)

    def take(self, size: int) -> bytes:
        check(len(self.payload) >= self.at + size, "payload too short")
        self.at += size
        return self.payload[self.at - size : self.at]

    def states(self, coder: int) -> list[int]:
        """The first states of a coder."""
        check(coder % 128 in range(5, 12), "coder")
        if coder < 128:
            states = self.shorts(4)
            check(max(states) < 1 << coder, "states")
            return states
        wide = list(struct.unpack("<64I", self.take(256)))
        check(min(wide) >= 1 << 16, "states")
        return wide

    def shorts(self, count: int) -> list[int]:
        return list(struct.unpack(f"<{count}H", self.take(2 * count)))

    def coded(self, has_bitmap: int, n: int) -> np.ndarray:
        """Which of n words are in the streams."""
        units = -(-n // 256)
        if not has_bitmap:
            return np.ones(n, bool)
        bitmap = np.frombuffer(self.take(-(-units // 8)), np.uint8)
        return np.repeat(np.unpackbits(bitmap, bitorder="little")[:units], 256)[:n].astype(bool)


def padded(words: np.ndarray) -> np.ndarray:
    return np.concatenate([words, np.zeros(-len(words) % 16, words.dtype)])


def read_ordered_delta(payload: bytes, dtype: int, base: bytes) -> bytes:
    """The raw bytes of a payload of codec 6."""
    word, is_float = WORDS[dtype], dtype in MANTISSAS
    w, m = 8 * word, MANTISSAS.get(dtype, 0)
    check(len(base) % word == 0, "whole words")
    words = np.frombuffer(base, f"<u{word}").copy()
    parts = Parts(payload, "<BBBBBBHHBBII")
    low, p, coder, last, h, has_bitmap, top, mask, f, t, b, g = parts.header
    states, size = parts.states(coder), 1 << coder % 128
    check(low <= w - 8 and p <= low // 8 and (word < 8 or p > 0 or not len(words)), "low bits, planes")
    check(last <= 15 and h <= 7 and has_bitmap <= 1, "ranges")
    check(top < 1 << (w - 1 - m) if is_float else top == last == 0, "top, last context")
    check(mask < 2 << last and f + t <= w - low, "contexts, tokens")
    tables = []
    for context in range(last + 1):
        frequencies = [0] * (w - low) + [size]
        if mask >> context & 1:
            *frequencies[f : f + t], frequencies[-1] = parts.shorts(t + 1)
            check(sum(frequencies) == size, "frequencies")
        tables.append(entries(coder, frequencies))
    coded = parts.coded(has_bitmap, len(words))
    old = padded(words[coded])
    tokens, planes = parts.take(-(-b // 8)), parts.take(p * len(old))
    fields = parts.take(-(-g // 8) + 8)[:-8]
    check(parts.at == len(payload), "bytes left over")
    exponents = (old.astype(object) & ((1 << (w - 1)) - 1)) >> m
    contexts = [min(max(top - int(e), 0) >> h, last) for e in exponents]
    found = read_tokens(coder, tokens, b, tables, contexts, states)
    sizes = [min(low - 8 * p + token, w - 8 * p) for token in found]
    y = [
        ((field + (1 << size if size < w - 8 * p else 0)) << 8 * p)
        for field, size in zip(read_fields(fields, g, sizes, 8 // word), sizes, strict=True)
    ]
    for k in range(p):
        y = [one + (byte << 8 * k) for one, byte in zip(y, planes[k * len(old) :], strict=False)]
    words[coded] = restored(np.array(y, old.dtype), 1 << low, old, is_float)[: coded.sum()]
    return words.tobytes()


def read_exponents(payload: bytes, dtype: int, raw_length: int) -> bytes:
    """The raw bytes of a payload of codec 7."""
    check(dtype in ROTATED and raw_length % WORDS[dtype] == 0, "exponents record")
    word = WORDS[dtype]
    parts = Parts(payload, "<BBBBI")
    coder, flags, f, less, b = parts.header
    states = parts.states(coder)
    check(flags <= 3 and f + less < (128 if flags & 2 else 256), "ranges")
    frequencies = [0] * f + parts.shorts(less + 1)
    words = np.zeros(raw_length // word, f"<u{word}")
    coded = parts.coded(flags & 1, len(words))
    c = -(-int(coded.sum()) // 16) * 16
    tokens, planes = parts.take(-(-b // 8)), parts.take((word - 1) * c)
    parts.take(8)
    check(parts.at == len(payload) and (not c or sum(frequencies) == 1 << coder % 128), "bytes left over, frequencies")
    tables = [entries(coder, frequencies)] if c else []
    rotated = np.array(read_tokens(coder, tokens, b, tables, [0] * c, states), words.dtype) << words.dtype.type(
        8 * word - 8
    )
    for k in range(word - 1):
        rotated |= np.frombuffer(planes, np.uint8, c, k * c).astype(words.dtype) << words.dtype.type(8 * k)
    if not flags & 2:
        rotated = (rotated >> words.dtype.type(1)) | (rotated << words.dtype.type(8 * word - 1))
    words[coded] = rotated[: coded.sum()]
    return words.tobytes()


def flushed(values: np.ndarray) -> np.ndarray:
    return np.where(np.abs(values) < np.float32(2.0**-125), np.float32(0), values)


def predict(predictor: int, bases: list[np.ndarray], factors: np.ndarray) -> np.ndarray:
    """The prediction of codec 8, from the words of its bases."""
    if predictor == 4:
        (x,) = bases
        up = (x + np.uint32(0x7FFF) + (x >> np.uint32(16) & np.uint32(1))) >> np.uint32(16)
        return np.where(x & np.uint32(0x7FFFFFFF) > np.uint32(0x7F800000), np.uint32(0x7FC0), up).astype("<u2")
    first, second, *third = (flushed(base.view("<f4")) for base in bases)
    if predictor == 1:
        c, a, s, e = factors
        step = flushed(flushed(a * second) / flushed(flushed(flushed(np.sqrt(third[0])) / s) + e))
        found = flushed(c * first) + step
    elif predictor == 2:
        c, d, e = factors
        gradient = flushed(second + flushed(flushed(third[0] - second) / c))
        found = flushed(d * first) + flushed(flushed(e * gradient) * gradient)
    else:
        c, a = factors
        found = flushed(c * first) + flushed(a * second)
    return np.where(np.isnan(found), bases[0], flushed(found).view("<u4"))


def read_rows(payload: bytes, at: int, base: np.ndarray) -> tuple[np.ndarray, int]:
    """The prediction of predictor 5, and where the payload goes on behind its rows and columns."""
    check(len(payload) >= at + 9, "rows and columns")
    shift, width, phase = struct.unpack_from("<BII", payload, at)
    check(shift <= 23 and phase < width, "rows and columns")
    count = -(-(phase + base.size) // width)
    end = at + 9 + count + width
    check(len(payload) >= end, "rows and columns")
    rows, columns = (
        np.frombuffer(payload, "i1", n, k).astype(int) for n, k in ((count, at + 9), (width, at + 9 + count))
    )
    place = phase + np.arange(base.size)
    moved = (base.astype(int) + ((rows[place // width] + columns[place % width]) << shift)) & 0xFFFFFFFF
    return np.where((base == 0) | (moved >> 31 == 1), 0, moved).astype("<u4"), end


def read_low_rank(payload: bytes, at: int, base: np.ndarray, factors: np.ndarray) -> tuple[np.ndarray, int]:
    """The prediction of predictor 6, and where the payload goes on behind its matrices."""
    check(len(payload) >= at + 13, "rank")
    rank, width, phase, size = struct.unpack_from("<BIII", payload, at)
    check(1 <= rank <= 64 and phase < width <= max(base.size, 1), "rank")
    count = -(-(phase + base.size) // width)
    check(rank * (count + width) <= 1 << 24 and len(payload) >= at + 13 + size, "factors of rows and columns")
    thin = np.frombuffer(unzstd(payload[at + 13 : at + 13 + size], rank * (count + width)), "i1").astype(int)
    product = thin[: rank * count].reshape(count, rank) @ thin[rank * count :].reshape(rank, width)
    sums = product.reshape(-1)[phase : phase + base.size].astype("<f4")
    found = flushed(flushed(factors[0] * flushed(base.view("<f4"))) + flushed(factors[1] * sums))
    return np.where(np.isnan(found), base, found.view("<u4")).astype("<u4"), at + 13 + size


def read_predicted(payload: bytes, dtype: int, bases: list[bytes], raw_length: int) -> bytes:
    """The raw bytes of a payload of codec 8."""
    check(len(payload) >= 2 and payload[0] in PREDICTORS, "predictor")
    of, number, factors = PREDICTORS[payload[0]]
    check((dtype, len(bases), payload[1]) == (of, number, factors) and len(payload) >= 2 + 4 * factors, "prediction")
    check(raw_length % WORDS[dtype] == 0, "whole words")
    check(all(len(base) == raw_length // WORDS[dtype] * 4 for base in bases), "lengths of bases")
    with np.errstate(all="ignore"):
        words = [np.frombuffer(base, "<u4") for base in bases]
        end = 2 + 4 * factors
        given = np.frombuffer(payload, "<f4", factors, 2)
        if payload[0] == 5:
            predicted, end = read_rows(payload, end, words[0])
        elif payload[0] == 6:
            predicted, end = read_low_rank(payload, end, words[0], given)
        else:
            predicted = predict(payload[0], words, given)
    return read_ordered_delta(payload[end:], dtype, predicted.tobytes())


def decode(codec: int, dtype: int, payload: bytes, raw_length: int, bases: list[bytes]) -> bytes:
    """The raw bytes of a payload."""
    check(codec in range(9) and (codec == 8 or len(bases) == (codec in (3, 4, 5, 6))), "codec, number of bases")
    check(codec == 8 or all(len(base) == raw_length for base in bases), "length of the base")
    word = WORDS[dtype]
    if codec == 0:
        raw = payload
    elif codec == 1:
        raw = unzstd(payload, raw_length) if raw_length else payload
    elif codec == 5:
        raw = read_residual(payload, dtype, bases[0])
    elif codec == 6:
        raw = read_ordered_delta(payload, dtype, bases[0])
    elif codec == 7:
        raw = read_exponents(payload, dtype, raw_length)
    elif codec == 8:
        raw = read_predicted(payload, dtype, bases, raw_length)
    else:
        check(raw_length % word == 0, "whole words")
        words = read_planes(payload, word, raw_length // word)
        one, top = words.dtype.type(1), words.dtype.type(8 * word - 1)
        if codec == 2 and dtype in ROTATED:
            words = (words >> one) | (words << top)
        elif codec == 3:
            words = words ^ np.frombuffer(bases[0], words.dtype)
        elif codec == 4:
            words = unzigzag(words) + np.frombuffer(bases[0], words.dtype)
        raw = words.tobytes()
    check(len(raw) == raw_length, "raw length")
    return raw
