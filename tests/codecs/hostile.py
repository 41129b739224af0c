"""Payloads that lie: damaged ones, and forged ones whose lengths agree with their headers.

As a program, `python -m tests.codecs.hostile SEED CASES end|start [DTYPE ...]` decodes such payloads, and encodes
chunks, at the end or the start of memory that borders on forbidden pages. It prints how many payloads were refused and
how many gave bytes, and a checksum of all bytes that came out.
"""

from __future__ import annotations

import struct
import sys
import zlib
from collections import Counter
from collections.abc import Callable

import lz4.block
import numpy as np
from numpy.random import Generator

from castore import codecs
from castore.codecs import exponents, predicted, residual, zstd_frames
from castore.codecs.base import FromBases
from castore.codecs.row_column import Rows
from castore.dtypes import BY_NAME, DType
from castore.errors import CorruptError
from castore.kernels import scratch
from castore.kernels.blocks import RANS_LANES
from castore.kernels.coder import Coder
from tests.codecs import residual_payloads
from tests.codecs.guarded import Guarded, GuardedScratch
from tests.codecs.words import pairs

# Those that take one base or none.
CODECS = [codec_id for codec_id in codecs.known_ids() if not codecs.by_id(codec_id).takes_bases]
WRITTEN = [codec_id for codec_id in CODECS if codec_id != codecs.RESIDUAL]
COUNTS = (0, 1, 15, 16, 17, 255, 256, 257, 512, 1023, 1024, 1040, 2049)  # words of a chunk


def takes(codec_id: int, dtype: DType) -> bool:
    """Whether the codec has payloads for chunks of this dtype."""
    if codec_id == codecs.RESIDUAL:
        return residual.supports(dtype)
    return codec_id != codecs.EXPONENTS or exponents.supports(dtype)


def honest(codec_id: int, raw: bytes, dtype: DType, base: bytes) -> bytes:
    """A payload of `raw`."""
    if codec_id == codecs.RESIDUAL:
        return residual_payloads.payload(raw, dtype, base)
    codec = codecs.by_id(codec_id)
    return bytes(codec.encode(raw, dtype, base if codec.is_delta else None))


def damaged(payload: bytes, rng: Generator) -> bytes:
    """Bits flipped, cut short, made longer, the header or all behind it made of chance; or nothing of this."""
    new = np.frombuffer(payload, np.uint8).copy()
    how = rng.integers(7)
    if how == 0 and new.size:
        for bit in rng.integers(0, 8 * new.size, rng.integers(1, 7)).tolist():
            new[bit >> 3] ^= 1 << (bit & 7)
    elif how == 1:
        new = new[: rng.integers(new.size + 1)]
    elif how == 2:
        new = np.concatenate([new, np.frombuffer(rng.bytes(int(rng.integers(1, 40))), np.uint8)])
    elif how in (3, 4) and new.size:
        at = int(rng.integers(min(new.size, 64)))
        part = new[:at] if how == 3 else new[at:]
        part[:] = np.frombuffer(rng.bytes(part.size), np.uint8)
    elif how == 5 and new.size:
        at = int(rng.integers(new.size))
        new[at : at + 8] = rng.choice(np.array([0, 1, 127, 255], np.uint8))
    return new.tobytes()


def row(rng: Generator, width: int, size: int) -> bytes:
    """Frequencies that add up: spread out, or nearly all on one token."""
    shares = rng.dirichlet(np.full(width, rng.choice([0.02, 1.0])))
    return rng.multinomial(size, shares).astype("<u2").tobytes()


def bits(rng: Generator, likely: int) -> int:
    """The length of a stream: none, few, or about as many as are needed."""
    return int(rng.choice([0, rng.integers(100), rng.integers(likely + 1), 2 * likely]))


def forged_planes(dtype: DType, count: int, rng: Generator) -> bytes:
    parts = []
    for _ in range(dtype.word):
        method = int(rng.integers(5))
        plane = bytes(rng.integers(0, rng.choice([2, 256]), max(0, count + int(rng.integers(-1, 2))), np.uint8))
        data = (plane, plane[:1], lz4.block.compress(plane, store_size=False), zstd_frames.compress_general(plane))
        chosen = data[method] if method < 4 else rng.bytes(int(rng.integers(40)))
        parts.append(struct.pack("<BI", method, len(chosen)) + chosen)
    return b"".join(parts)


def forged_residual(dtype: DType, count: int, rng: Generator) -> bytes:
    tokens, used = int(rng.integers(1, 8 * dtype.word + 2)), rng.integers(0, 2, 16)
    length = bits(rng, 8 * dtype.word * count)
    mask, top = int((used << np.arange(16)).sum()), int(rng.integers(1 << dtype.exponent))
    head = struct.pack("<HBBHI", top, tokens, count % 256, mask, length)
    rows = b""
    for _ in range(int(used.sum())):
        ones = np.frombuffer(row(rng, tokens, 1024 - tokens), "<u2") + 1
        rows += ones.astype("<u2").tobytes()
    bitmap = rng.bytes(-(-(count // 256) // 8))
    stream = rng.bytes(-(-length // 8) + 8)
    return head + states(rng, 8, 1024) + rows + bitmap + rng.bytes(count % 256 * dtype.word) + stream


def states(rng: Generator, lanes: int, size: int) -> bytes:
    return rng.integers(0, size, lanes).astype("<u2").tobytes()


def coder(rng: Generator, coded: int) -> tuple[Coder, bytes]:
    """Any coder that so many words may have, with its states."""
    found = Coder(coded % RANS_LANES == 0 and bool(rng.integers(2)), int(rng.integers(5, 12)))
    if not found.is_rans:
        return found, states(rng, 4, 1 << found.table_bits)
    return found, rng.integers(1 << 16, 1 << 32, RANS_LANES).astype("<u4").tobytes()


def units(rng: Generator, count: int) -> tuple[int, bytes, int]:
    """(whether some are left out, the bitmap, how many words are coded, padded)."""
    has_units = int(rng.integers(2))
    sizes = [min(256, count - at) for at in range(0, count, 256)]
    kept = rng.integers(0, 2, len(sizes)) if has_units else np.ones(len(sizes), np.int64)
    bitmap = np.packbits(kept.astype(np.bool_), bitorder="little").tobytes() if has_units else b""
    return has_units, bitmap, -(-int((kept * sizes).sum()) // 16) * 16


def forged_ordered_delta(dtype: DType, count: int, rng: Generator) -> bytes:
    least = 8 if dtype.word == 8 else 0
    low = int(rng.choice([least, rng.integers(least, max(8 * dtype.word - 8, least) + 1)]))
    planes = int(rng.integers(least // 8, low // 8 + 1))
    last = int(rng.integers(16)) if dtype.exponent else 0
    top = int(rng.integers(1 << dtype.exponent))
    mask = int(rng.integers(1 << (last + 1)))
    first = int(rng.integers(8 * dtype.word - low + 1))
    width = int(rng.integers(8 * dtype.word - low - first + 1))
    has_units, bitmap, coded = units(rng, count)
    by, first_states = coder(rng, coded)
    token_bits, field_bits = bits(rng, by.table_bits * coded), bits(rng, 8 * dtype.word * coded)
    token_bits -= token_bits % 16 if by.is_rans else 0
    head = struct.pack(
        "<BBBBBBHHBBII", low, planes, by.byte, last, int(rng.integers(8)), has_units, top, mask, first, width,
        token_bits, field_bits,
    )  # fmt: skip
    rows = b"".join(row(rng, width + 1, 1 << by.table_bits) for _ in range(mask.bit_count()))
    streams = rng.bytes(-(-token_bits // 8) + planes * coded + -(-field_bits // 8) + 8)
    return head + first_states + rows + bitmap + streams


def forged_exponents(dtype: DType, count: int, rng: Generator) -> bytes:
    no_signs = int(rng.integers(2))
    first = int(rng.integers(256 >> no_signs))
    width = int(rng.integers((256 >> no_signs) - first))
    has_units, bitmap, coded = units(rng, count)
    by, first_states = coder(rng, coded)
    token_bits = bits(rng, by.table_bits * coded)
    token_bits -= token_bits % 16 if by.is_rans else 0
    head = struct.pack("<BBBBI", by.byte, has_units + 2 * no_signs, first, width, token_bits)
    streams = rng.bytes(-(-token_bits // 8) + (dtype.word - 1) * coded + 8)
    return head + first_states + row(rng, width + 1, 1 << by.table_bits) + bitmap + streams


FORGED: dict[int, Callable[[DType, int, Generator], bytes]] = {
    codecs.RAW: lambda dtype, count, rng: rng.bytes(count * dtype.word),
    codecs.ZSTD: lambda dtype, count, rng: zstd_frames.compress_general(rng.bytes(count * dtype.word)),
    codecs.PLANES: forged_planes,
    codecs.XOR_PLANES: forged_planes,
    codecs.SUB_PLANES: forged_planes,
    codecs.RESIDUAL: forged_residual,
    codecs.ORDERED_DELTA: forged_ordered_delta,
    codecs.EXPONENTS: forged_exponents,
}


def lying(codec_id: int, dtype: DType, rng: Generator) -> tuple[bytes, bytes]:
    """(a payload, the bytes that `out` holds on entry)."""
    count = int(rng.choice([rng.choice(COUNTS), rng.integers(1100)]))
    if codec_id == codecs.RESIDUAL and rng.random() < 0.8:
        count = min(count, 300)  # its encoder here is slow
    words, base = list(pairs(dtype, count).values())[rng.integers(12)]
    if takes(codec_id, dtype) and rng.random() < 0.5:
        return damaged(honest(codec_id, words.tobytes(), dtype, base.tobytes()), rng), base.tobytes()
    payload = FORGED[codec_id](dtype, count, rng)
    return (damaged(payload, rng) if rng.random() < 0.3 else payload), base.tobytes()


def lying_prediction(dtype: DType, rng: Generator) -> tuple[bytes, bytes, list[bytes]]:
    """(a payload of codec 8, the bytes that `out` holds on entry, those of the bases): most of them fit together."""
    inner, before = lying(codecs.ORDERED_DELTA, dtype, rng)
    predictor = int(rng.integers(0, 8))
    bases, factors = {1: (3, 4), 2: (3, 3), 3: (2, 2), 4: (1, 0), 5: (1, 0), 6: (1, 2)}.get(predictor, (1, 1))
    size = len(before) // dtype.word * 4 + int(rng.choice([0, 0, 0, 0, 0, 1, 4]))
    given = rng.normal(size=factors + int(rng.choice([0, 0, 0, 0, 0, 1]))).astype("<f4")
    head = bytes((predictor, given.size)) + given.tobytes()
    if predictor == predicted.ROW_COLUMN:
        head += damaged_rarely(forged_rows(size // 4, rng), rng)
    if predictor == predicted.LOW_RANK:
        head += damaged_rarely(forged_product(size // 4, rng), rng)
    return head + inner, before, [rng.bytes(size) for _ in range(bases + int(rng.choice([0, 0, 0, 0, 0, 1])))]


def forged_rows(count: int, rng: Generator) -> bytes:
    """Rows and columns for a chunk of so many words."""
    width = int(rng.choice([1, 2, 7, 16, rng.integers(1, 1100), rng.integers(1, 1 << 32)]))
    phase = int(rng.integers(width))
    length = min(-(-(phase + count) // width) + width, 5000)
    return struct.pack("<BII", int(rng.integers(24)), width, phase) + rng.bytes(length)


def forged_product(count: int, rng: Generator) -> bytes:
    """Factors of rows and columns for a chunk of so many words."""
    width, rank = int(rng.choice([1, 2, 7, 16, rng.integers(1, 1100)])), int(rng.choice([1, 1, 2, 7, 64, 64, 0, 65]))
    width = min(width, max(count, 1)) if rng.random() < 0.9 else width
    phase = int(rng.integers(width))
    frame = zstd_frames.compress_entropy(rng.bytes(rank * (-(-(phase + count) // width) + width)))
    return struct.pack("<BIII", rank, width if rng.random() < 0.9 else 1 << 31, phase, len(frame)) + frame


def damaged_rarely(payload: bytes, rng: Generator) -> bytes:
    return damaged(payload, rng) if rng.random() < 0.3 else payload


class Room:
    """Bytes beside a forbidden page."""

    def __init__(self, data: bytes, at_end: bool) -> None:
        self._room, self._data, self._at_end = Guarded(len(data)), data, at_end
        self.view = self._room.take(len(data), at_end)
        self.view[:] = data

    def is_unchanged(self) -> bool:
        return self._room.holds(self._data, self._at_end)

    def is_filled_around(self) -> bool:
        """Whether nothing was written beside the bytes."""
        return self._room.holds(bytes(self.view), self._at_end)


def decode_guarded(codec_id: int, dtype: DType, rng: Generator, at_end: bool) -> bytes | None:
    """What the decoder made of a payload; it must change neither that nor anything beside its output."""
    bases: list[bytes] = []
    if codec_id == codecs.PREDICTED:
        payload, before, bases = lying_prediction(dtype, rng)
    else:
        payload, before = lying(codec_id, dtype, rng)
    out, *given = (Room(data, at_end) for data in (before, payload, *bases))
    codec = codecs.by_id(codec_id)
    try:
        if isinstance(codec, FromBases):
            codec.decode_from(
                given[0].view.toreadonly(), dtype, out.view, [room.view.toreadonly() for room in given[1:]]
            )
        else:
            codec.decode(given[0].view.toreadonly(), dtype, out.view)
        found = bytes(out.view)
    except CorruptError:
        found = None
    assert all(room.is_unchanged() for room in given), "what was given was written to"
    assert out.is_filled_around(), "wrote beside the output"
    return found


def encode_guarded(codec_id: int, dtype: DType, rng: Generator, at_end: bool) -> bytes:
    """The payload of a chunk and its base beside forbidden pages; it decodes to the chunk."""
    words, base = list(pairs(dtype, int(rng.choice(COUNTS))).values())[rng.integers(12)]
    raw, old = words.tobytes(), base.tobytes()
    given, given_base = Room(raw, at_end), Room(old, at_end)
    codec = codecs.by_id(codec_id)
    payload = bytes(codec.encode(given.view, dtype, given_base.view if codec.is_delta else None))
    assert given.is_unchanged(), "the chunk was written to"
    assert given_base.is_unchanged(), "the base was written to"
    codec.decode(payload, dtype, given_base.view)
    assert given_base.view == raw
    return payload


def encode_rows_guarded(dtype: DType, rng: Generator, at_end: bool) -> bytes:
    """The same of a payload of predictor 5 or 6; none where it does not apply."""
    words, base = list(pairs(dtype, int(rng.choice(COUNTS[1:]))).values())[rng.integers(12)]
    given, given_base = Room(words.tobytes(), at_end), Room(base.tobytes(), at_end)
    width = int(rng.integers(1, words.size // 8 + 2))
    plan = rng.choice([predicted.plan_rows, predicted.plan_low_rank])
    how = plan(given.view, dtype, given_base.view, Rows(width, int(rng.integers(width))))
    if how is None:
        return b""
    payload = bytes(predicted.CODEC.encode_as(given.view, dtype, how))
    assert given.is_unchanged() and given_base.is_unchanged(), "the chunk or the base was written to"
    out = bytearray(words.nbytes)
    predicted.CODEC.decode_from(payload, dtype, memoryview(out), [given_base.view])
    assert out == words.tobytes()
    return payload


def main() -> None:
    seed, cases, at_end = int(sys.argv[1]), int(sys.argv[2]), sys.argv[3] == "end"
    dtypes = [BY_NAME[name] for name in sys.argv[4:]] or list(BY_NAME.values())
    scratch.array = GuardedScratch(at_end)
    counts: Counter[str] = Counter()
    checksum = 0
    for case in range(cases):
        rng = np.random.default_rng([seed, case])
        codec_id, dtype = int(rng.choice(codecs.known_ids())), dtypes[rng.integers(len(dtypes))]
        print(f"case {case}, codec {codec_id}, {dtype.name}", file=sys.stderr, flush=True)
        found = decode_guarded(codec_id, dtype, rng, at_end)
        counts["refused" if found is None else "taken"] += 1
        checksum = zlib.crc32(found or b"", checksum)
        if codec_id in WRITTEN and takes(codec_id, dtype) and case % 4 == 0:
            checksum = zlib.crc32(encode_guarded(codec_id, dtype, rng, at_end), checksum)
            counts["encoded"] += 1
        if codec_id == codecs.PREDICTED:
            payload = encode_rows_guarded(dtype, rng, at_end)
            checksum = zlib.crc32(payload, checksum)
            counts["encoded"] += payload != b""
    print(*(f"{name} {count}" for name, count in sorted(counts.items())), f"checksum {checksum:08x}")


if __name__ == "__main__":
    main()
