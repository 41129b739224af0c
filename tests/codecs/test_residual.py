"""Codec 5, which castore only reads: the decoder against its reference, hard words, and payloads that lie."""

from __future__ import annotations

import struct
from contextlib import suppress

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from castore import codecs
from castore.codecs import residual
from castore.dtypes import BY_CODE, DType, by_name
from castore.errors import CorruptError
from castore.kernels import residual as kernels
from castore.kernels import residual_reference as reference
from castore.kernels.reference import Words
from tests.codecs import residual_payloads
from tests.codecs.words import kind, mantissa, noise, pairs, trained

CODEC = codecs.by_id(codecs.RESIDUAL)
SUPPORTED = [dtype for dtype in BY_CODE.values() if residual.supports(dtype)]
FLOATS = [by_name(name) for name in ("float16", "bfloat16", "float32")]
F32 = by_name("float32")
HEADER, TABLES = 10, 26  # where the states and the tables of a payload begin


@pytest.mark.parametrize("count", [16, 256, 2048])
@pytest.mark.parametrize("dtype", FLOATS, ids=lambda dtype: dtype.name)
def test_the_compiled_decoder_reads_what_the_reference_writes(dtype: DType, count: int) -> None:
    for name, (words, base) in pairs(dtype, count).items():
        coded, _ = residual_payloads.encode(words, base, dtype)
        out = base.copy()
        assert kernels.decode(coded, mantissa(dtype), out), name
        assert np.array_equal(out, words), name
        contexts = reference.context(base, coded.top, mantissa(dtype))
        stream = coded.stream[: -kernels.PAD_BYTES].tobytes()
        y = reference.decode(contexts, coded.frequencies, coded.states.tolist(), stream, coded.bits, words.dtype)
        assert y is not None, name
        assert np.array_equal(reference.restored(y, base), words), name


def test_the_farthest_difference_wraps_to_no_residual_at_all() -> None:
    for dtype in FLOATS:
        words, base = pairs(dtype, 16)["farthest apart"]
        assert not reference.residuals(words, base).any()
        assert (reference.bit_lengths(reference.residuals(words, base)) == 8 * dtype.word).all()


def decoded(payload: codecs.Buffer, dtype: DType, base: bytes) -> bytes:
    out = bytearray(base)
    CODEC.decode(payload, dtype, memoryview(out))
    return bytes(out)


def payload_of(words: Words, base: Words, dtype: DType) -> bytes:
    return residual_payloads.payload(words.tobytes(), dtype, base.tobytes())


@pytest.mark.parametrize("count", [0, 2, 254, 256, 258, 510, 512, 1300])
@pytest.mark.parametrize("dtype", SUPPORTED, ids=lambda dtype: dtype.name)
def test_every_pattern_of_bits_comes_back(dtype: DType, count: int) -> None:
    for name, (words, base) in pairs(dtype, count).items():
        assert decoded(payload_of(words, base, dtype), dtype, base.tobytes()) == words.tobytes(), name


@given(
    dtype=st.sampled_from(FLOATS),
    count=st.one_of(st.sampled_from([0, 1, 255, 256, 257, 2100]), st.integers(0, 1500)),
    spread=st.integers(0, 32),
    changed=st.sets(st.integers(0, 20)),
    seed=st.integers(0, 2**32),
)
@settings(max_examples=50)
def test_decode_undoes_encode_where_only_some_blocks_changed(
    dtype: DType, count: int, spread: int, changed: set[int], seed: int
) -> None:
    base = noise(dtype, count, seed)
    moves = noise(dtype, count, seed + 1) & kind(dtype).type((1 << min(spread, 8 * dtype.word)) - 1)
    is_changed = np.isin(np.arange(count) // residual.BLOCK, sorted(changed))
    words = np.where(is_changed, base + moves, base).astype(kind(dtype))
    assert decoded(payload_of(words, base, dtype), dtype, base.tobytes()) == words.tobytes()


def test_blocks_that_did_not_change_cost_a_bit_each() -> None:
    base = noise(F32, 256 * 64, 5)
    assert len(payload_of(base, base, F32)) == TABLES + 64 // 8 + kernels.PAD_BYTES


@pytest.mark.parametrize("offset", [1, 2, 3])
def test_unaligned_chunks_are_decoded_the_same(offset: int) -> None:
    words, base = pairs(F32, 600)["near"]
    apart = memoryview(bytearray(bytes(offset) + base.tobytes()))[offset:]
    CODEC.decode(payload_of(words, base, F32), F32, apart)
    assert bytes(apart) == words.tobytes()


@pytest.mark.parametrize("dtype", FLOATS, ids=lambda dtype: dtype.name)
def test_it_is_not_written_any_more(dtype: DType) -> None:
    with pytest.raises(ValueError, match="residual is only read"):
        CODEC.encode(bytes(16), dtype, bytes(16))


@pytest.mark.parametrize("name", ["int32", "float64", "float8_e4m3fn", "bytes", "complex128"])
def test_other_dtypes_are_refused(name: str) -> None:
    with pytest.raises(CorruptError, match=name):
        decoded(bytes(64), by_name(name), bytes(16))


@pytest.fixture(scope="module")
def victim() -> tuple[bytes, bytes, bytes]:
    """(payload, base, raw) of float32: three blocks, the middle one unchanged, and 7 words more."""
    after, before = trained(3 * 256 + 7)
    after[256:512] = before[256:512]
    return payload_of(after, before, F32), before.tobytes(), after.tobytes()


def test_a_payload_cut_anywhere_is_refused(victim: tuple[bytes, bytes, bytes]) -> None:
    payload, base, _ = victim
    for cut in range(len(payload)):
        with pytest.raises(CorruptError):
            decoded(payload[:cut], F32, base)


def replaced(payload: bytes, offset: int, form: str, *values: int) -> bytes:
    new = bytearray(payload)
    struct.pack_into(form, new, offset, *values)
    return bytes(new)


def test_headers_that_do_not_fit_are_refused(victim: tuple[bytes, bytes, bytes]) -> None:
    payload, base, _ = victim
    _, tokens, tail, mask, bits = struct.unpack_from("<HBBHI", payload)
    wrong = [replaced(payload, 0, "<H", 256), replaced(payload, 0, "<H", 65535)]
    wrong += [replaced(payload, 2, "B", value) for value in range(256) if value != tokens]
    wrong += [replaced(payload, 3, "B", value) for value in range(256) if value != tail]
    wrong += [replaced(payload, 4, "<H", mask ^ 1 << k) for k in range(16)]
    wrong += [replaced(payload, 6, "<I", value) for value in (0, bits - 1, bits + 1, bits - 8, bits + 8, 2**32 - 1)]
    wrong += [replaced(payload, HEADER + 2 * lane, "<H", value) for lane in range(8) for value in (1024, 65535)]
    for damaged in wrong:
        with pytest.raises(CorruptError):
            decoded(damaged, F32, base)


@pytest.mark.parametrize("change", [-1000, -1, 1, 1000])
def test_streams_of_another_length_than_the_values_take_are_refused(
    victim: tuple[bytes, bytes, bytes], change: int
) -> None:
    """The payload's length agrees with the field, so that only decoding can tell."""
    payload, base, _ = victim
    (bits,) = struct.unpack_from("<I", payload, 6)
    start = len(payload) - kernels.stream_bytes(bits)
    new_stream = (payload[start:] + bytes(1000))[: kernels.stream_bytes(bits + change)]
    with pytest.raises(CorruptError, match="does not decode"):
        decoded(replaced(payload[:start], 6, "<I", bits + change) + new_stream, F32, base)


def test_frequencies_that_do_not_add_up_are_refused(victim: tuple[bytes, bytes, bytes]) -> None:
    payload, base, _ = victim
    tokens = payload[2]
    given = list(struct.unpack_from(f"<{tokens}H", payload, TABLES))
    most = given.index(max(given))
    for change in (-1, 1, 1024, -given[most]):
        new = [count + change * (i == most) for i, count in enumerate(given)]
        with pytest.raises(CorruptError, match="frequencies"):
            decoded(replaced(payload, TABLES, f"<{tokens}H", *new), F32, base)
    other = (most + 1) % tokens
    for moved in (given[other], -given[most]):  # a token without any, though the sum is right
        new = [count + moved * ((i == most) - (i == other)) for i, count in enumerate(given)]
        with pytest.raises(CorruptError, match="frequencies"):
            decoded(replaced(payload, TABLES, f"<{tokens}H", *new), F32, base)


def test_frequencies_that_lie_give_corrupt_error_or_bytes(victim: tuple[bytes, bytes, bytes]) -> None:
    payload, base, raw = victim
    tokens = payload[2]
    given = list(struct.unpack_from(f"<{tokens}H", payload, TABLES))
    rng = np.random.default_rng(9)
    for _ in range(50):
        new = replaced(payload, TABLES, f"<{tokens}H", *rng.permutation(given).tolist())
        with suppress(CorruptError):
            assert len(decoded(new, F32, base)) == len(raw)


def test_another_bitmap_of_blocks_is_refused_or_gives_bytes(victim: tuple[bytes, bytes, bytes]) -> None:
    payload, base, raw = victim
    at = TABLES + 2 * payload[2] * struct.unpack_from("<H", payload, 4)[0].bit_count()
    assert payload[at] == 0b101
    for bitmap in range(256):
        new = replaced(payload, at, "B", bitmap)
        if bitmap & 7 == 0b101:  # the rest stands for no blocks
            assert decoded(new, F32, base) == raw
        elif bitmap & 7:
            with suppress(CorruptError):
                assert len(decoded(new, F32, base)) == len(raw)
        else:
            assert decoded(new, F32, base)[: 3 * 1024] == base[: 3 * 1024]


def test_flipped_bits_give_corrupt_error_or_bytes(victim: tuple[bytes, bytes, bytes]) -> None:
    payload, base, raw = victim
    rng = np.random.default_rng(8)
    for _ in range(3000):
        damaged = bytearray(payload)
        for bit in rng.integers(0, 8 * len(payload), rng.integers(1, 6)).tolist():
            damaged[bit >> 3] ^= 1 << (bit & 7)
        with suppress(CorruptError):
            assert len(decoded(damaged, F32, base)) == len(raw)


@given(st.binary(max_size=400), st.sampled_from(SUPPORTED), st.sampled_from([0, 1, 256, 600]))
def test_arbitrary_streams_give_corrupt_error_or_bytes(stream: bytes, dtype: DType, count: int) -> None:
    """Headers that fit, so that the stream itself is reached."""
    blocks, tail = divmod(count, residual.BLOCK)
    tokens = 8 * dtype.word + 1
    head = struct.pack("<HBBHI", 100 % (1 << dtype.exponent), tokens, tail, 0, 8 * len(stream)) + bytes(16)
    body = b"\xff" * -(-blocks // 8) + bytes(tail * dtype.word) + stream + bytes(kernels.PAD_BYTES)
    with suppress(CorruptError):
        assert len(decoded(head + body, dtype, bytes(count * dtype.word))) == count * dtype.word
