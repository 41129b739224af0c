"""Codec 6: the compiled coder against its reference, exactness on hard words, sizes, and payloads that lie."""

from __future__ import annotations

import itertools
import struct
from contextlib import suppress

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from castore import codecs
from castore.codecs import choice, ordered_delta
from castore.dtypes import BY_CODE, DType, by_name
from castore.errors import CorruptError
from castore.kernels import delta as kernels
from castore.kernels import delta_reference as reference
from castore.kernels import tans_reference
from castore.kernels.blocks import RANS_LANES
from castore.kernels.coder import Coder
from castore.kernels.delta import Fit
from castore.kernels.reference import Words
from tests.codecs.words import kind, mantissa, noise, pairs, trained, trained_as

CODEC = codecs.by_id(codecs.ORDERED_DELTA)
DTYPES = list(BY_CODE.values())
F32, BF16, F64, I32 = by_name("float32"), by_name("bfloat16"), by_name("float64"), by_name("int32")
STATES, ROWS, PAD = 20, 28, 8  # where states and frequencies of a payload begin, what lies behind it
ROOM = 100  # bytes for a header
TANS, RANS = Coder(False, kernels.TABLE_BITS), Coder(True, kernels.RANS_TABLE_BITS)


def is_float(dtype: DType) -> bool:
    return dtype.exponent > 0 and mantissa(dtype) >= 0


def fit_of(dtype: DType, base: Words, low: int, planes: int, shift: int, last: int) -> Fit:
    if not is_float(dtype):
        return Fit(low, planes, 0, 0, 0, 0, False)
    magnitudes = base & base.dtype.type((1 << (8 * dtype.word - 1)) - 1)
    top = int(magnitudes.max()) >> mantissa(dtype)
    return Fit(low, planes, top, mantissa(dtype), shift, last, True)


@st.composite
def fits(draw: st.DrawFn, dtype: DType, base: Words) -> Fit:
    """Every cut into planes, fields and tokens that a header may name."""
    least = 8 if dtype.word == 8 else 0
    low = draw(st.integers(least, max(8 * dtype.word - 8, least)))
    planes = draw(st.integers(least // 8, low // 8))
    return fit_of(dtype, base, low, planes, draw(st.integers(0, 7)), draw(st.integers(0, 15)))


def counts_of(words: Words, base: Words, fit: Fit, step: int) -> NDArray[np.int64]:
    """How often each token is met in each context, in every `step`-th whole unit."""
    counts = np.zeros((fit.last + 1, fit.tokens(words.dtype)), np.int64)
    unit = np.arange(words.size) // kernels.UNIT
    seen = (unit % step == 0) & (unit < words.size // kernels.UNIT)
    y = reference.values(words[seen], base[seen], fit)
    np.add.at(counts, (reference.contexts(base[seen], fit), reference.tokens(y, fit)), 1)
    return counts


def frequencies_of(counts: NDArray[np.int64], table_bits: int) -> kernels.Frequencies:
    return np.array([tans_reference.normalised(row, 1 << table_bits) for row in counts.tolist()], np.uint16)


def coders(count: int) -> list[Coder]:
    """Those that so many words may have, on any machine."""
    return [TANS] if count % RANS_LANES else [TANS, RANS]


def assert_coded_as_the_reference_does(words: Words, base: Words, fit: Fit, step: int, coder: Coder) -> None:
    """Words beyond the units that are counted may have tokens that the tables have not."""
    coded = kernels.encode(words, base, fit, step, ROOM, coder)
    assert np.array_equal(coded.counts, counts_of(words, base, fit, step))
    assert np.array_equal(coded.frequencies, frequencies_of(coded.counts, coder.table_bits))
    frequencies = coded.frequencies.copy()
    expected = reference.encode(words, base, fit, frequencies, coder)
    states = coder.read(memoryview(coded.states))
    assert states is not None and states.tolist() == expected.states
    assert (coded.token_bits, coded.field_bits) == (expected.token_bits, expected.field_bits)
    assert coded.start >= ROOM
    data = coded.data[coded.start :]
    assert data.tobytes() == expected.tokens + expected.planes + expected.fields + bytes(PAD)
    out = base.copy()
    assert kernels.decode(out, fit, frequencies, coder, states, data, coded.token_bits, coded.field_bits)
    assert np.array_equal(out, words)
    found = reference.decode(base, fit, frequencies, coder, expected)
    assert found is not None
    assert np.array_equal(found, words)


@given(
    data=st.data(),
    dtype=st.sampled_from(DTYPES),
    count=st.one_of(st.sampled_from([1, 64, 65, 128]), st.integers(1, 35).map(lambda n: 4 * n), st.integers(1, 140)),
    name=st.sampled_from(list(pairs(I32, 1))),
)
@settings(max_examples=200)
def test_the_compiled_coder_writes_what_the_reference_writes_bit_for_bit(
    data: st.DataObject, dtype: DType, count: int, name: str
) -> None:
    words, base = pairs(dtype, 16 * count)[name]
    coder = data.draw(st.sampled_from(coders(words.size)))
    assert_coded_as_the_reference_does(words, base, data.draw(fits(dtype, base)), data.draw(st.integers(1, 9)), coder)


@pytest.mark.parametrize("count", [16, 1024, 1040, 3008, 3072])
@pytest.mark.parametrize("name", ["float32", "uint32", "bfloat16", "int16", "uint8"])
def test_fields_that_fill_64_bits_of_words_are_coded(name: str, count: int) -> None:
    """No planes, and differences as large as words are: groups of more bits than one load has."""
    dtype = by_name(name)
    for words, base in pairs(dtype, count).values():
        for step, coder in itertools.product((1, 100), coders(count)):
            assert_coded_as_the_reference_does(words, base, fit_of(dtype, base, 0, 0, 0, 15), step, coder)


@pytest.mark.parametrize("low", [8, 9, 56])
@pytest.mark.parametrize("name", ["float64", "int64", "complex128"])
def test_fields_of_words_of_8_bytes_are_coded(name: str, low: int) -> None:
    dtype = by_name(name)
    for words, base in pairs(dtype, 1088).values():
        for planes, coder in itertools.product({1, low // 8}, coders(1088)):
            assert_coded_as_the_reference_does(words, base, fit_of(dtype, base, low, planes, 0, 3), 1, coder)


@pytest.mark.parametrize("is_rans", [False, True])
@pytest.mark.parametrize("table_bits", range(5, 12))
@pytest.mark.parametrize("dtype", [F32, BF16, F64, I32], ids=lambda dtype: dtype.name)
def test_tables_of_every_size_are_read(dtype: DType, table_bits: int, is_rans: bool) -> None:
    """castore writes one size; a payload may name others."""
    words, base = pairs(dtype, 1088)["near"]
    coder = Coder(is_rans, table_bits)
    least = 8 if dtype.word == 8 else 0
    fit = fit_of(dtype, base, least, least // 8, 0, 15)
    tokens = len(set(reference.tokens(reference.values(words, base, fit), fit)))
    if tokens > 1 << table_bits:
        return
    frequencies = frequencies_of(counts_of(words, base, fit, 2), table_bits)
    coded = reference.encode(words, base, fit, frequencies, coder)
    data = np.frombuffer(coded.tokens + coded.planes + coded.fields + bytes(PAD), np.uint8)
    out, states = base.copy(), np.array(coded.states, np.uint32)
    assert kernels.decode(out, fit, frequencies, coder, states, data, coded.token_bits, coded.field_bits)
    assert np.array_equal(out, words)


def decoded(payload: codecs.Buffer, dtype: DType, base: bytes) -> bytes:
    out = bytearray(base)
    CODEC.decode(payload, dtype, memoryview(out))
    return bytes(out)


def payload_of(words: Words, base: Words, dtype: DType) -> bytes:
    """A copy: what `encode` returns is the thread's own."""
    return bytes(CODEC.encode(words.tobytes(), dtype, base.tobytes()))


@pytest.mark.parametrize("count", [0, 1, 15, 17, 255, 256, 257, 1023, 1040, 4999])
@pytest.mark.parametrize("dtype", DTYPES, ids=lambda dtype: dtype.name)
def test_every_pattern_of_bits_comes_back(dtype: DType, count: int) -> None:
    count *= dtype.width // dtype.word
    for name, (words, base) in pairs(dtype, count).items():
        assert decoded(payload_of(words, base, dtype), dtype, base.tobytes()) == words.tobytes(), name


@given(
    dtype=st.sampled_from(DTYPES),
    count=st.one_of(st.sampled_from([0, 1, 255, 256, 257, 5000]), st.integers(0, 3000)),
    spread=st.integers(0, 64),
    changed=st.sets(st.integers(0, 20)),
    seed=st.integers(0, 2**32),
)
@settings(max_examples=150)
def test_decode_undoes_encode_where_only_some_units_changed(
    dtype: DType, count: int, spread: int, changed: set[int], seed: int
) -> None:
    base = noise(dtype, count, seed)
    moves = noise(dtype, count, seed + 1) & kind(dtype).type((1 << min(spread, 8 * dtype.word)) - 1)
    is_changed = np.isin(np.arange(count) // 256, sorted(changed))
    words = np.where(is_changed, base + moves, base).astype(kind(dtype))
    payload = payload_of(words, base, dtype)
    assert decoded(payload, dtype, base.tobytes()) == words.tobytes()
    assert len(payload) <= words.nbytes * 9 / 8 + 16 * 9 / 8 * dtype.word + 2500


@pytest.mark.parametrize("offset", [1, 2, 3])
@pytest.mark.parametrize("count", [592, 603])
def test_unaligned_chunks_are_coded_the_same(offset: int, count: int) -> None:
    words, base = pairs(F32, count)["near"]
    apart = memoryview(bytearray(bytes(offset) + words.tobytes()))[offset:]
    base_apart = memoryview(bytearray(bytes(offset) + base.tobytes()))[offset:]
    payload = bytes(CODEC.encode(apart, F32, base_apart))
    assert payload == payload_of(words, base, F32)
    CODEC.decode(payload, F32, base_apart)
    assert bytes(base_apart) == words.tobytes()


def test_a_base_is_needed_and_whole_words() -> None:
    with pytest.raises(ValueError, match="base missing"):
        CODEC.encode(bytes(16), F32, None)
    with pytest.raises(ValueError, match="whole words"):
        CODEC.encode(bytes(15), F32, bytes(15))
    with pytest.raises(CorruptError, match="of 15 bytes of float32"):
        decoded(bytes(64), F32, bytes(15))


@pytest.mark.parametrize("dtype", [d for d in DTYPES if d.word == d.width], ids=lambda dtype: dtype.name)
def test_an_unchanged_chunk_costs_a_bit_for_each_256_words(dtype: DType) -> None:
    base = noise(dtype, 1 << 18, 5)
    payload = payload_of(base, base, dtype)
    assert len(payload) == ROWS + (1 << 10) // 8 + PAD
    assert len(payload) < 256
    few = base.copy()
    few[77_777] ^= 1
    assert len(payload_of(few, base, dtype)) < 512 + 256 * dtype.word
    zeros = np.zeros_like(base)
    assert len(payload_of(zeros, zeros, dtype)) < 256


def test_a_chunk_in_which_zero_rows_stay_costs_what_the_other_rows_do() -> None:
    after, before = trained(1 << 16)
    rows = np.arange(1 << 16) // 4096 % 2 == 0
    half = len(payload_of(after * rows, before * rows, F32))
    assert half < 1.01 * len(payload_of(after[rows], before[rows], F32)) + 256


def ideal_bytes(words: Words, base: Words, fit: Fit) -> float:
    """The entropy of the tokens in their contexts, and the bits below them."""
    tokens = np.array(reference.tokens(reference.values(words, base, fit), fit))
    contexts = np.array(reference.contexts(base, fit))
    bits = float(sum(reference.field_bits_of(token, words.dtype, fit) for token in tokens.tolist()))
    for context in np.unique(contexts):
        counts = np.bincount(tokens[contexts == context])
        counts = counts[counts > 0]
        bits += counts.sum() * np.log2(counts.sum()) - (counts * np.log2(counts)).sum()
    return bits / 8 + fit.planes * words.size


@pytest.mark.parametrize("dtype", [F32, BF16], ids=lambda dtype: dtype.name)
def test_a_step_of_training_takes_what_its_tokens_and_fields_do(dtype: DType) -> None:
    raw, base = trained_as(dtype, 1 << 18)
    size = len(CODEC.encode(raw, dtype, base))
    fit = ordered_delta.plan(raw, dtype, base).fit
    ideal = ideal_bytes(np.frombuffer(raw, kind(dtype)), np.frombuffer(base, kind(dtype)), fit)
    assert ideal <= size <= 1.01 * ideal


@pytest.mark.parametrize("dtype", [F32, BF16], ids=lambda dtype: dtype.name)
def test_the_cut_into_planes_and_fields_wastes_next_to_nothing(dtype: DType) -> None:
    raw, base = trained_as(dtype)
    words, old = np.frombuffer(raw, kind(dtype)), np.frombuffer(base, kind(dtype))
    fit = ordered_delta.plan(raw, dtype, base).fit
    whole = Fit(0, 0, fit.top, fit.mantissa, fit.shift, fit.last, True)
    assert ideal_bytes(words, old, fit) < 1.002 * ideal_bytes(words, old, whole)


@pytest.mark.parametrize("dtype", [F32, BF16], ids=lambda dtype: dtype.name)
def test_the_plan_knows_the_real_size(dtype: DType) -> None:
    raw, base = trained_as(dtype)
    real = len(CODEC.encode(raw, dtype, base)) / len(raw)
    assert ordered_delta.plan(raw, dtype, base).fraction == pytest.approx(real, rel=0.03)


@pytest.mark.usefixtures("warm")
@pytest.mark.parametrize("dtype", [F32, BF16], ids=lambda dtype: dtype.name)
def test_a_step_of_training_is_coded_as_ordered_deltas_and_smaller_than_in_planes(dtype: DType) -> None:
    raw, base = trained_as(dtype)
    encoded = choice.choose(raw, dtype, base)
    assert encoded.codec_id == codecs.ORDERED_DELTA
    size = len(encoded.payload)
    assert decoded(encoded.payload, dtype, base) == raw
    for planes in (codecs.SUB_PLANES, codecs.XOR_PLANES):
        assert size < len(codecs.by_id(planes).encode(raw, dtype, base))


def test_a_token_that_the_sample_did_not_have_costs_its_bits() -> None:
    """Every fourth unit is counted; the outliers lie in others."""
    after, before = trained(256 * 80)
    plain = len(payload_of(after, before, F32))
    after = after.copy()
    after[256 + 7 :: 1024] ^= 0x40000000
    payload = payload_of(after, before, F32)
    assert decoded(payload, F32, before.tobytes()) == after.tobytes()
    assert len(payload) < plain + 20 * 8


# Payloads that lie.


@pytest.fixture(scope="module")
def victim() -> tuple[bytes, bytes, bytes]:
    """(payload, base, raw) of float32: three units, the middle one unchanged, and 7 words more."""
    after, before = trained(3 * 256 + 7)
    after[256:512] = before[256:512]
    return payload_of(after, before, F32), before.tobytes(), after.tobytes()


FORM = "<BBBBBBHHBBII"
FIELDS = [
    "low",
    "planes",
    "coder",
    "last",
    "shift",
    "has_units",
    "top",
    "mask",
    "first",
    "width",
    "token_bits",
    "field_bits",
]


def header(payload: bytes) -> dict[str, int]:
    return dict(zip(FIELDS, struct.unpack_from(FORM, payload), strict=True))


def with_header(payload: bytes, **fields: int) -> bytes:
    return struct.pack(FORM, *{**header(payload), **fields}.values()) + payload[struct.calcsize(FORM) :]


def streams_at(payload: bytes) -> int:
    """Where the victim's tokens begin."""
    found = header(payload)
    return ROWS + 2 * found["mask"].bit_count() * (found["width"] + 1) + found["has_units"]


def test_a_payload_cut_anywhere_is_refused(victim: tuple[bytes, bytes, bytes]) -> None:
    payload, base, raw = victim
    assert decoded(payload, F32, base) == raw
    for cut in range(len(payload)):
        with pytest.raises(CorruptError):
            decoded(payload[:cut], F32, base)


def test_headers_that_do_not_fit_are_refused(victim: tuple[bytes, bytes, bytes]) -> None:
    payload, base, _ = victim
    good = header(payload)
    wrong = [with_header(payload, low=value) for value in range(25, 256)]
    wrong += [with_header(payload, planes=value) for value in range(256) if value != good["planes"]]
    wrong += [with_header(payload, coder=value) for value in range(256) if value != good["coder"]]
    wrong += [with_header(payload, last=value) for value in range(16, 256)]
    wrong += [with_header(payload, shift=value) for value in range(8, 256)]
    wrong += [with_header(payload, has_units=value) for value in range(256) if value != good["has_units"]]
    wrong += [with_header(payload, top=value) for value in (256, 257, 65535)]
    wrong += [with_header(payload, mask=good["mask"] ^ 1 << k) for k in range(16)]
    wrong += [with_header(payload, first=value) for value in range(33 - good["width"], 256)]
    wrong += [with_header(payload, width=value) for value in range(256) if value != good["width"]]
    for name in ("token_bits", "field_bits"):
        wrong += [with_header(payload, **{name: value}) for value in (0, good[name] + 8, good[name] - 8, 2**32 - 1)]
    for lane in range(4):
        for state in (512, 65535):
            damaged = bytearray(payload)
            struct.pack_into("<H", damaged, STATES + 2 * lane, state)
            wrong.append(bytes(damaged))
    for damaged in wrong:
        with pytest.raises(CorruptError):
            decoded(damaged, F32, base)


def test_what_only_floats_and_long_words_have_is_refused_elsewhere() -> None:
    words, base = pairs(I32, 512)["near"]
    payload = payload_of(words, base, I32)
    for damaged in (with_header(payload, last=1), with_header(payload, top=1)):
        with pytest.raises(CorruptError, match="no sense"):
            decoded(damaged, I32, base.tobytes())
    wide = noise(F64, 512, 1)
    payload = payload_of(wide, wide + np.uint64(1), F64)
    with pytest.raises(CorruptError, match="no sense"):
        decoded(with_header(payload, planes=0), F64, wide.tobytes())


def test_streams_of_no_words_are_refused() -> None:
    for count in (0, 512):
        base = noise(F32, count, 3)
        payload = payload_of(base, base, F32)
        assert decoded(payload, F32, base.tobytes()) == base.tobytes()
        end = len(payload) - PAD
        more = payload[:end] + b"\0" + payload[end:]
        state = bytearray(payload)
        state[STATES] = 1
        for damaged in (with_header(more, token_bits=8), with_header(more, field_bits=8), bytes(state)):
            with pytest.raises(CorruptError, match="no words"):
                decoded(damaged, F32, base.tobytes())


@pytest.mark.parametrize("change", [-1000, -9, -8, -1, 1, 8, 1000])
@pytest.mark.parametrize("stream", ["token_bits", "field_bits"])
def test_streams_of_another_length_than_the_values_take_are_refused(
    victim: tuple[bytes, bytes, bytes], stream: str, change: int
) -> None:
    """The payload's length agrees with the field, so that only decoding can tell."""
    payload, base, _ = victim
    good = header(payload)
    bits = good[stream] + change
    size = (bits + 7) // 8
    start = streams_at(payload) if stream == "token_bits" else len(payload) - PAD - -(-good["field_bits"] // 8)
    end = start + -(-good[stream] // 8)
    new = (bytes(200) + payload[start:end])[-size:] if change > 0 else payload[start : start + size]
    damaged = with_header(payload[:start] + new + payload[end:], **{stream: bits})
    with pytest.raises(CorruptError, match="do not decode"):
        decoded(damaged, F32, base)


def test_frequencies_that_do_not_add_up_are_refused(victim: tuple[bytes, bytes, bytes]) -> None:
    payload, base, _ = victim
    good = header(payload)
    (count,) = struct.unpack_from("<H", payload, ROWS)
    for row in range(good["mask"].bit_count()):
        at = ROWS + 2 * row * (good["width"] + 1)
        for change in (1, 2, 512, 65535 - count):
            damaged = bytearray(payload)
            struct.pack_into("<H", damaged, at, struct.unpack_from("<H", payload, at)[0] + change & 0xFFFF)
            with pytest.raises(CorruptError, match="frequencies"):
                decoded(bytes(damaged), F32, base)


def test_another_bitmap_of_units_is_refused_or_gives_bytes(victim: tuple[bytes, bytes, bytes]) -> None:
    payload, base, raw = victim
    at = streams_at(payload) - 1
    assert payload[at] == 0b1101
    for bitmap in range(256):
        damaged = payload[:at] + bytes([bitmap]) + payload[at + 1 :]
        if bitmap & 15 == 0b1101:  # the rest stands for no units
            assert decoded(damaged, F32, base) == raw
        else:
            with suppress(CorruptError):
                assert len(decoded(damaged, F32, base)) == len(raw)


def test_bits_that_mean_nothing_are_ignored(victim: tuple[bytes, bytes, bytes]) -> None:
    payload, base, raw = victim
    good = header(payload)
    damaged = np.frombuffer(payload, np.uint8).copy()
    damaged[-PAD:] = 0xFF
    damaged[streams_at(payload)] |= 0xFF >> (good["token_bits"] - 1) % 8 + 1
    damaged[-PAD - 1] |= 0xFF00 >> -good["field_bits"] % 8 & 0xFF
    assert decoded(damaged.tobytes(), F32, base) == raw


@given(
    tokens=st.binary(max_size=300),
    fields=st.binary(max_size=600),
    dtype=st.sampled_from(DTYPES),
    count=st.sampled_from([1, 16, 256, 1040]),
    data=st.data(),
)
@settings(max_examples=200)
def test_arbitrary_streams_give_corrupt_error_or_bytes(
    tokens: bytes, fields: bytes, dtype: DType, count: int, data: st.DataObject
) -> None:
    """Headers that fit, so that the streams themselves are reached."""
    raw_bytes = count * dtype.width
    words = raw_bytes // dtype.word
    fit = data.draw(fits(dtype, noise(dtype, 16, 1)))
    rows: NDArray[np.uint16] = np.zeros(8 * dtype.word - fit.low + 1, "<u2")
    np.add.at(rows, np.random.default_rng(data.draw(st.integers(0, 999))).integers(0, rows.size, 512), 1)
    head = struct.pack(
        FORM, fit.low, fit.planes, 9, fit.last, fit.shift, 0, fit.top, 1, 0, rows.size - 1, 8 * len(tokens),
        8 * len(fields),
    )  # fmt: skip
    body = bytes(8) + rows.tobytes() + tokens + bytes(fit.planes * -(-words // 16) * 16) + fields + bytes(PAD)
    with suppress(CorruptError):
        assert len(decoded(head + body, dtype, bytes(raw_bytes))) == raw_bytes
