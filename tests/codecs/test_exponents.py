"""Codec 7: the compiled coder against its reference, exactness on hard words, sizes, and payloads that lie."""

from __future__ import annotations

import struct
from contextlib import suppress

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from castore import codecs
from castore.codecs import choice, exponents
from castore.dtypes import BY_CODE, DType, by_name
from castore.errors import CorruptError
from castore.kernels import exponent as kernels
from castore.kernels import exponent_reference as reference
from castore.kernels import tans_reference
from castore.kernels.blocks import RANS_LANES
from castore.kernels.coder import Coder
from castore.kernels.reference import Words
from tests.codecs.words import kind, noise, pairs, trained_as

CODEC = codecs.by_id(codecs.EXPONENTS)
SUPPORTED = [dtype for dtype in BY_CODE.values() if exponents.supports(dtype)]
F32, BF16 = by_name("float32"), by_name("bfloat16")
STATES, ROWS, PAD = 8, 16, 8  # where states and frequencies of a payload begin, what lies behind it
ROOM = 100  # bytes for a header
TANS, RANS = (Coder(is_rans, kernels.TABLE_BITS) for is_rans in (False, True))

a_chunk = st.sampled_from(list(pairs(F32, 1)))


def without_signs(words: Words) -> Words:
    return words & words.dtype.type((1 << (8 * words.itemsize - 1)) - 1)


def frequencies_of(words: Words, step: int, table_bits: int, shift: int = 1) -> NDArray[np.uint16]:
    """Of what is counted, and 1 at least for every top byte between the extremes of those that occur."""
    tokens = reference.split(words, shift)[-1]
    unit = np.arange(words.size) // kernels.UNIT
    seen = (unit % step == 0) & (unit < words.size // kernels.UNIT)
    counts = np.bincount(tokens[seen], minlength=256)
    above = tokens[tokens > 0]
    if above.size:
        between = slice(int(above.min()), int(above.max()) + 1)
        counts[between] = np.maximum(counts[between], 1)
    counts[0] = max(counts[0], (tokens == 0).any())
    last = int(tokens.max())
    row = tans_reference.normalised(counts[: last + 1].tolist(), 1 << table_bits)
    return np.array([row], np.uint16)


def assert_coded_as_the_reference_does(words: Words, step: int) -> None:
    """By each coder that so many words may have, on any machine; and without their signs, not rotated."""
    assert_coded_alike(words, 1, step)
    assert_coded_alike(without_signs(words), 0, step)


def assert_coded_alike(words: Words, shift: int, step: int) -> None:
    for coder in [TANS] if words.size % RANS_LANES else [TANS, RANS]:
        coded = kernels.encode(words, shift, step, ROOM, coder)
        frequencies = frequencies_of(words, step, coder.table_bits, shift)
        assert np.array_equal(coded.frequencies, frequencies[0])
        expected = reference.encode(words, shift, frequencies, coder)
        states = coder.read(memoryview(coded.states))
        assert states is not None
        assert (states.tolist(), coded.token_bits) == (expected.states, expected.token_bits)
        assert coded.start >= ROOM
        data = coded.data[coded.start :]
        assert data.tobytes() == expected.tokens + expected.planes + bytes(PAD)
        out = ~words
        assert kernels.decode(frequencies, shift, coder, states, data, coded.token_bits, out)
        assert np.array_equal(out, words)
        found = reference.decode(frequencies, shift, coder, expected, words.dtype, words.size)
        assert found is not None
        assert np.array_equal(found, words)


@given(
    dtype=st.sampled_from(SUPPORTED),
    count=st.one_of(st.sampled_from([1, 64, 65, 128]), st.integers(1, 35).map(lambda n: 4 * n), st.integers(1, 140)),
    name=a_chunk,
    step=st.integers(1, 9),
)
@settings(max_examples=120)
def test_the_compiled_coder_writes_what_the_reference_writes_bit_for_bit(
    dtype: DType, count: int, name: str, step: int
) -> None:
    assert_coded_as_the_reference_does(pairs(dtype, 16 * count)[name][0], step)


@pytest.mark.parametrize("dtype", SUPPORTED, ids=lambda dtype: dtype.name)
def test_top_bytes_that_were_not_counted_are_coded(dtype: DType) -> None:
    """Only the first unit is counted: what is below and above its bytes, and zero, lies in others."""
    one = 1 << (8 * dtype.word - 9)
    words = np.full(1024, 100 * one, kind(dtype))
    words[300], words[700], words[900] = 3 * one, 200 * one, 0
    assert_coded_as_the_reference_does(words, 100)


@pytest.mark.parametrize("is_rans", [False, True])
@pytest.mark.parametrize("table_bits", range(5, 12))
@pytest.mark.parametrize("dtype", [F32, BF16, by_name("float64")], ids=lambda dtype: dtype.name)
def test_tables_of_every_size_are_read(dtype: DType, table_bits: int, is_rans: bool) -> None:
    """castore writes one size; a payload may name others."""
    coder = Coder(is_rans, table_bits)
    words = noise(dtype, 1088, 3) >> kind(dtype).type(5)  # as many top bytes as fit into the smallest table
    frequencies = frequencies_of(words, 1, table_bits)
    coded = reference.encode(words, 1, frequencies, coder)
    data = np.frombuffer(coded.tokens + coded.planes + bytes(PAD), np.uint8)
    out = np.empty_like(words)
    assert kernels.decode(frequencies, 1, coder, np.array(coded.states, np.uint32), data, coded.token_bits, out)
    assert np.array_equal(out, words)


def decoded(payload: codecs.Buffer, dtype: DType, size: int) -> bytes:
    out = bytearray(b"\xa5" * size)
    CODEC.decode(payload, dtype, memoryview(out))
    return bytes(out)


def payload_of(words: Words, dtype: DType) -> bytes:
    """A copy: what `encode` returns is the thread's own."""
    return bytes(CODEC.encode(words.tobytes(), dtype, None))


@pytest.mark.parametrize("count", [0, 1, 15, 17, 255, 256, 257, 1023, 1040, 4999])
@pytest.mark.parametrize("dtype", SUPPORTED, ids=lambda dtype: dtype.name)
def test_every_pattern_of_bits_comes_back(dtype: DType, count: int) -> None:
    count *= dtype.width // dtype.word
    for name, (words, _) in pairs(dtype, count).items():
        assert decoded(payload_of(words, dtype), dtype, words.nbytes) == words.tobytes(), name


@given(
    dtype=st.sampled_from(SUPPORTED),
    count=st.one_of(st.sampled_from([0, 1, 255, 256, 257, 5000]), st.integers(0, 3000)),
    spread=st.integers(0, 64),
    occupied=st.sets(st.integers(0, 20)),
    seed=st.integers(0, 2**32),
)
@settings(max_examples=150)
def test_decode_undoes_encode_where_only_some_units_are_not_zero(
    dtype: DType, count: int, spread: int, occupied: set[int], seed: int
) -> None:
    words = noise(dtype, count, seed) & kind(dtype).type((1 << min(spread, 8 * dtype.word)) - 1)
    words *= np.isin(np.arange(count) // 256, sorted(occupied)).astype(kind(dtype))
    payload = payload_of(words, dtype)
    assert decoded(payload, dtype, words.nbytes) == words.tobytes()
    assert len(payload) <= words.nbytes * 9 / 8 + 16 * 9 / 8 * dtype.word + 600


@pytest.mark.parametrize("dtype", SUPPORTED, ids=lambda dtype: dtype.name)
@pytest.mark.parametrize("count", [7, 256, 1040, 5007])
def test_words_without_a_sign_are_not_rotated_and_a_single_sign_is_enough(dtype: DType, count: int) -> None:
    count *= dtype.width // dtype.word
    words = without_signs(noise(dtype, count, 4)) | kind(dtype).type(1)
    payload = payload_of(words, dtype)
    assert header(payload)["flags"] == NO_SIGNS
    assert decoded(payload, dtype, words.nbytes) == words.tobytes()
    for at in (0, count // 2, count - 1):  # the last of them is not in a whole vector
        signed = words.copy()
        signed[at] |= kind(dtype).type(1 << (8 * dtype.word - 1))
        payload = payload_of(signed, dtype)
        assert header(payload)["flags"] == 0
        assert decoded(payload, dtype, words.nbytes) == signed.tobytes()


def test_words_that_are_not_rotated_have_no_top_byte_above_127() -> None:
    words = without_signs(noise(F32, 256, 5))
    payload = payload_of(words, F32)
    good = header(payload)
    assert good["first"] + good["width"] <= 127
    decoded(payload, F32, words.nbytes)
    for first in range(128 - good["width"], 256 - good["width"]):
        with pytest.raises(CorruptError, match="makes no sense"):
            decoded(with_header(payload, first=first), F32, words.nbytes)


@pytest.mark.parametrize("offset", [1, 2, 3])
@pytest.mark.parametrize("count", [592, 603])
def test_unaligned_chunks_are_coded_the_same(offset: int, count: int) -> None:
    words, _ = pairs(F32, count)["near"]
    apart = memoryview(bytearray(bytes(offset) + words.tobytes()))[offset:]
    payload = bytes(CODEC.encode(apart, F32, None))
    assert payload == payload_of(words, F32)
    apart[:] = bytes(len(apart))
    CODEC.decode(payload, F32, apart)
    assert bytes(apart) == words.tobytes()


def test_what_the_codec_is_not_for_is_refused() -> None:
    with pytest.raises(ValueError, match="base not wanted"):
        CODEC.encode(bytes(16), F32, bytes(16))
    with pytest.raises(ValueError, match="whole words"):
        CODEC.encode(bytes(15), F32, None)
    with pytest.raises(CorruptError, match="of 15 bytes of float32"):
        decoded(bytes(64), F32, 15)
    for name in ("int32", "bytes", "float8_e4m3fn"):
        with pytest.raises(ValueError, match=name):
            CODEC.encode(bytes(16), by_name(name), None)
        with pytest.raises(CorruptError, match=name):
            decoded(bytes(64), by_name(name), 16)


@pytest.mark.parametrize("dtype", SUPPORTED, ids=lambda dtype: dtype.name)
def test_rows_of_zeros_cost_a_bit_for_each_256_words(dtype: DType) -> None:
    zeros = np.zeros(1 << 18, kind(dtype))
    assert len(payload_of(zeros, dtype)) == ROWS + 2 + (1 << 10) // 8 + PAD
    half = noise(dtype, 1 << 16, 1)
    rows = np.arange(1 << 17) // 4096 % 2 == 0
    mixed = np.zeros(1 << 17, kind(dtype))
    mixed[rows] = half
    assert len(payload_of(mixed, dtype)) <= len(payload_of(half, dtype)) + (1 << 9) // 8


@pytest.mark.parametrize("dtype", [F32, BF16], ids=lambda dtype: dtype.name)
def test_weights_take_the_entropy_of_their_exponents_and_the_bytes_below(dtype: DType) -> None:
    raw, _ = trained_as(dtype, 1 << 18)
    tokens = reference.split(np.frombuffer(raw, kind(dtype)), 1)[-1]
    counts = np.bincount(tokens)
    counts = counts[counts > 0]
    entropy = tokens.size * np.log2(tokens.size) - (counts * np.log2(counts)).sum()
    ideal = entropy / 8 + (dtype.word - 1) * tokens.size
    assert ideal <= len(CODEC.encode(raw, dtype, None)) <= 1.002 * ideal


@pytest.mark.usefixtures("warm")
@pytest.mark.parametrize("dtype", [F32, BF16], ids=lambda dtype: dtype.name)
def test_weights_that_stand_alone_are_coded_as_exponents_and_not_larger_than_in_planes(dtype: DType) -> None:
    raw, _ = trained_as(dtype)
    encoded = choice.choose(raw, dtype, None)
    assert encoded.codec_id == codecs.EXPONENTS
    size = len(encoded.payload)
    assert decoded(encoded.payload, dtype, len(raw)) == raw
    assert size <= len(codecs.by_id(codecs.PLANES).encode(raw, dtype, None))


@pytest.mark.usefixtures("warm")
@pytest.mark.parametrize("dtype", [F32, BF16], ids=lambda dtype: dtype.name)
def test_squares_are_coded_as_exponents_and_save_their_sign(dtype: DType) -> None:
    """As exp_avg_sq is; planes spend an entropy coder on the byte that the sign is in."""
    raw, _ = trained_as(dtype)
    squares = without_signs(np.frombuffer(raw, kind(dtype)))
    encoded = choice.choose(squares.tobytes(), dtype, None)
    assert encoded.codec_id == codecs.EXPONENTS
    assert decoded(encoded.payload, dtype, len(raw)) == squares.tobytes()
    with_signs = len(choice.choose(raw, dtype, None).payload)
    assert with_signs - len(encoded.payload) >= 0.8 * squares.size / 8


# Payloads that lie.


@pytest.fixture(scope="module")
def victim() -> tuple[bytes, bytes]:
    """(payload, raw) of float32: three units, the middle one zero, and 7 words more."""
    words = np.frombuffer(trained_as(F32, 3 * 256 + 7)[0], "<u4").copy()
    words[256:512] = 0
    return payload_of(words, F32), words.tobytes()


FORM = "<BBBBI"
FIELDS = ["coder", "flags", "first", "width", "token_bits"]
HAS_UNITS, NO_SIGNS = 1, 2


def header(payload: bytes) -> dict[str, int]:
    return dict(zip(FIELDS, struct.unpack_from(FORM, payload), strict=True))


def with_header(payload: bytes, **fields: int) -> bytes:
    return struct.pack(FORM, *{**header(payload), **fields}.values()) + payload[struct.calcsize(FORM) :]


def tokens_at(payload: bytes) -> int:
    found = header(payload)
    return ROWS + 2 * (found["width"] + 1) + (found["flags"] & HAS_UNITS)


def test_a_payload_cut_anywhere_is_refused(victim: tuple[bytes, bytes]) -> None:
    payload, raw = victim
    assert decoded(payload, F32, len(raw)) == raw
    for cut in range(len(payload)):
        with pytest.raises(CorruptError):
            decoded(payload[:cut], F32, len(raw))


def test_headers_that_do_not_fit_are_refused(victim: tuple[bytes, bytes]) -> None:
    payload, raw = victim
    good = header(payload)
    wrong = [with_header(payload, coder=value) for value in range(256) if value != good["coder"]]
    assert good["flags"] == HAS_UNITS
    wrong += [with_header(payload, flags=value) for value in range(256) if value & ~NO_SIGNS != HAS_UNITS]
    wrong += [with_header(payload, first=value) for value in range(256 - good["width"], 256)]
    wrong += [with_header(payload, width=value) for value in range(256) if value != good["width"]]
    bits = good["token_bits"]
    wrong += [with_header(payload, token_bits=value) for value in (0, bits + 8, bits - 8, 2**32 - 1)]
    for lane in range(4):
        for state in (2048, 65535):
            damaged = bytearray(payload)
            struct.pack_into("<H", damaged, STATES + 2 * lane, state)
            wrong.append(bytes(damaged))
    for damaged in wrong:
        with pytest.raises(CorruptError):
            decoded(damaged, F32, len(raw))


def test_a_stream_of_no_words_is_refused() -> None:
    for count in (0, 512):
        payload = payload_of(np.zeros(count, "<u4"), F32)
        assert decoded(payload, F32, 4 * count) == bytes(4 * count)
        state = bytearray(payload)
        state[STATES] = 1
        more = payload[:-PAD] + b"\0" + payload[-PAD:]
        for damaged in (with_header(more, token_bits=8), bytes(state)):
            with pytest.raises(CorruptError, match="no words"):
                decoded(damaged, F32, 4 * count)


@pytest.mark.parametrize("change", [-1000, -9, -8, -1, 1, 8, 1000])
def test_a_stream_of_another_length_than_the_words_take_is_refused(victim: tuple[bytes, bytes], change: int) -> None:
    """The payload's length agrees with the field, so that only decoding can tell."""
    payload, raw = victim
    good = header(payload)
    bits = good["token_bits"] + change
    size = (bits + 7) // 8
    start, end = tokens_at(payload), tokens_at(payload) + -(-good["token_bits"] // 8)
    new = (bytes(200) + payload[start:end])[-size:] if change > 0 else payload[start : start + size]
    with pytest.raises(CorruptError, match="does not decode"):
        decoded(with_header(payload[:start] + new + payload[end:], token_bits=bits), F32, len(raw))


def test_frequencies_that_do_not_add_up_are_refused(victim: tuple[bytes, bytes]) -> None:
    payload, raw = victim
    (count,) = struct.unpack_from("<H", payload, ROWS)
    for value in (count + 1, count - 1, 65535):
        damaged = bytearray(payload)
        struct.pack_into("<H", damaged, ROWS, value & 0xFFFF)
        with pytest.raises(CorruptError, match="frequencies"):
            decoded(bytes(damaged), F32, len(raw))


def test_bits_that_mean_nothing_are_ignored(victim: tuple[bytes, bytes]) -> None:
    payload, raw = victim
    damaged = np.frombuffer(payload, np.uint8).copy()
    damaged[-PAD:] = 0xFF
    at = tokens_at(payload)
    assert damaged[at - 1] == 0b1101
    damaged[at - 1] |= 0xF0  # no units
    damaged[at] |= 0xFF >> (header(payload)["token_bits"] - 1) % 8 + 1
    assert decoded(damaged.tobytes(), F32, len(raw)) == raw


@given(
    tokens=st.binary(max_size=400),
    dtype=st.sampled_from(SUPPORTED),
    count=st.sampled_from([1, 16, 256, 1040]),
    table_bits=st.integers(5, 11),
    seed=st.integers(0, 999),
)
@settings(max_examples=150)
def test_arbitrary_streams_give_corrupt_error_or_bytes(
    tokens: bytes, dtype: DType, count: int, table_bits: int, seed: int
) -> None:
    """Headers that fit, so that the stream itself is reached."""
    words = count * dtype.width // dtype.word
    rng = np.random.default_rng(seed)
    rows = np.zeros(int(rng.integers(1, 257)), "<u2")
    np.add.at(rows, rng.integers(0, rows.size, 1 << table_bits), 1)
    head = struct.pack(FORM, table_bits, 0, 0, rows.size - 1, 8 * len(tokens)) + bytes(8) + rows.tobytes()
    payload = head + tokens + bytes((dtype.word - 1) * -(-words // 16) * 16 + PAD)
    with suppress(CorruptError):
        assert len(decoded(payload, dtype, count * dtype.width)) == count * dtype.width
