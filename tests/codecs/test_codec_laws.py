"""decode(encode(x)) == x, for every codec, dtype and base; and no damaged payload does worse than CorruptError."""

from __future__ import annotations

from contextlib import suppress

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from castore import codecs
from castore.codecs import choice
from castore.codecs.base import FromBases
from castore.dtypes import BY_CODE, DType, by_name
from castore.errors import CorruptError
from tests.codecs.hostile import CODECS, WRITTEN, honest, takes
from tests.codecs.words import pairs

DTYPES = list(BY_CODE.values())
FLOATS = [dtype for dtype in DTYPES if dtype.exponent]

any_dtype = st.sampled_from(DTYPES)
any_codec = st.sampled_from(CODECS)
any_codec_and_dtype = st.sampled_from([(codec, dtype) for dtype in DTYPES for codec in CODECS if takes(codec, dtype)])


@st.composite
def chunks(draw: st.DrawFn, dtype: DType, most_elements: int = 300) -> bytes:
    """Bytes of a chunk: free bits, few distinct bytes, or one element repeated."""
    size = dtype.width * draw(st.integers(0, most_elements))
    kind = draw(st.sampled_from(["free", "few", "repeated"]))
    if kind == "repeated":
        return draw(st.binary(min_size=dtype.width, max_size=dtype.width)) * (size // dtype.width)
    noise = np.random.default_rng(draw(st.integers(0, 2**32))).integers(0, 256 if kind == "free" else 3, size)
    return noise.astype(np.uint8).tobytes()


@st.composite
def chunk_pairs(draw: st.DrawFn, dtype: DType) -> tuple[bytes, bytes]:
    """A chunk and a base of the same length: unrelated, equal, or a few bytes away."""
    raw = draw(chunks(dtype))
    base = bytearray(raw)
    if draw(st.booleans()):
        base = bytearray(np.random.default_rng(draw(st.integers(0, 99))).bytes(len(raw)))
    elif raw:
        for at in draw(st.lists(st.integers(0, len(raw) - 1), max_size=5)):
            base[at] ^= draw(st.integers(1, 255))
    return raw, bytes(base)


def decode(codec_id: int, payload: codecs.Buffer, dtype: DType, size: int, base: bytes | None) -> bytes:
    codec = codecs.by_id(codec_id)
    out = bytearray(base) if codec.is_delta and base is not None else bytearray(b"\xa5" * size)
    codec.decode(payload, dtype, memoryview(out))
    return bytes(out)


@given(st.data(), any_codec_and_dtype)
def test_decode_undoes_encode(data: st.DataObject, codec_and_dtype: tuple[int, DType]) -> None:
    codec_id, dtype = codec_and_dtype
    raw, base = data.draw(chunk_pairs(dtype))
    assert decode(codec_id, honest(codec_id, raw, dtype, base), dtype, len(raw), base) == raw


@given(st.data(), any_dtype)
def test_decode_undoes_choose_and_no_payload_exceeds_the_raw_bytes(data: st.DataObject, dtype: DType) -> None:
    raw, base = data.draw(chunk_pairs(dtype))
    encoded = choice.choose(raw, dtype, data.draw(st.sampled_from([base, None, base[:-1]])))
    assert len(encoded.payload) <= len(raw)
    assert encoded.is_delta == codecs.by_id(encoded.codec_id).is_delta
    assert decode(encoded.codec_id, encoded.payload, dtype, len(raw), base) == raw


@pytest.mark.usefixtures("warm")
@pytest.mark.parametrize("dtype", DTYPES, ids=lambda dtype: dtype.name)
def test_chunks_of_usual_size_round_trip(dtype: DType) -> None:
    rng = np.random.default_rng(dtype.code)
    count = 40_003
    free = rng.bytes(count * dtype.width)
    near = (np.frombuffer(free, np.uint8) ^ (rng.random(len(free)) < 0.01)).tobytes()
    for raw in (free, bytes(len(free)), near, free[: dtype.width] * count):
        for base in (None, free, bytes(len(free))):
            encoded = choice.choose(raw, dtype, base)
            assert decode(encoded.codec_id, encoded.payload, dtype, len(raw), base) == raw
        for codec_id in (one for one in WRITTEN if takes(one, dtype)):
            payload = honest(codec_id, raw, dtype, free)
            assert decode(codec_id, payload, dtype, len(raw), free) == raw


@pytest.mark.usefixtures("warm")
@pytest.mark.parametrize("dtype", DTYPES, ids=lambda dtype: dtype.name)
def test_chunks_of_every_kind_survive_what_is_chosen_for_them(dtype: DType) -> None:
    for name, (words, base) in pairs(dtype, 17_003 * dtype.width // dtype.word).items():
        raw, old = words.tobytes(), base.tobytes()
        for other in (None, old):
            encoded = choice.choose(raw, dtype, other)
            assert len(encoded.payload) <= len(raw), name
            assert decode(encoded.codec_id, encoded.payload, dtype, len(raw), other) == raw, name


@given(st.data(), any_codec_and_dtype)
def test_a_damaged_payload_gives_corrupt_error_or_bytes(
    data: st.DataObject, codec_and_dtype: tuple[int, DType]
) -> None:
    codec_id, dtype = codec_and_dtype
    raw, base = data.draw(chunk_pairs(dtype))
    payload = bytearray(honest(codec_id, raw, dtype, base))
    for _ in range(data.draw(st.integers(0, 4))):
        if payload:
            payload[data.draw(st.integers(0, len(payload) - 1))] = data.draw(st.integers(0, 255))
    cut = data.draw(st.integers(0, len(payload)))
    damaged = bytes(payload[:cut]) + data.draw(st.binary(max_size=9))
    with suppress(CorruptError):
        assert len(decode(codec_id, damaged, dtype, len(raw), base)) == len(raw)


@given(st.binary(max_size=200), any_codec, any_dtype, st.integers(0, 64))
def test_arbitrary_bytes_give_corrupt_error_or_bytes(
    payload: bytes, codec_id: int, dtype: DType, elements: int
) -> None:
    size = elements * dtype.width
    with suppress(CorruptError):
        assert len(decode(codec_id, payload, dtype, size, bytes(size))) == size


@pytest.mark.parametrize("codec_id", CODECS)
def test_truncated_and_overlong_payloads_are_refused(codec_id: int) -> None:
    dtype = FLOATS[2]
    raw = np.random.default_rng(5).standard_normal(500).astype("<f4").tobytes()
    base = bytes(len(raw))
    payload = honest(codec_id, raw, dtype, base)
    for wrong in (payload[:-1], payload + b"\0", b"", payload[:3]):
        with pytest.raises(CorruptError):
            decode(codec_id, wrong, dtype, len(raw), base)


@pytest.mark.parametrize("codec_id", CODECS[2:])
def test_bytes_that_are_no_whole_words_are_refused(codec_id: int) -> None:
    codec = codecs.by_id(codec_id)
    with pytest.raises(ValueError, match=r"whole words|only read"):
        codec.encode(b"12345", FLOATS[2], b"12345" if codec.is_delta else None)
    with pytest.raises(CorruptError, match=r"whole words|of 5 bytes"):
        codec.decode(b"", FLOATS[2], memoryview(bytearray(5)))


def test_a_prediction_of_bytes_that_are_no_whole_words_is_refused() -> None:
    codec = codecs.by_id(codecs.PREDICTED)
    assert isinstance(codec, FromBases)
    with pytest.raises(CorruptError, match="no sense"):
        codec.decode_from(b"\4\0", by_name("bfloat16"), memoryview(bytearray(3)), [memoryview(bytes(6))])


def test_a_frame_that_promises_more_than_the_record_holds_is_refused_before_it_is_decoded() -> None:
    huge = bytes(codecs.by_id(codecs.ZSTD).encode(bytes(1 << 26), DTYPES[0], None))
    plane = b"\x03" + len(huge).to_bytes(4, "little") + huge
    for codec_id, payload in ((codecs.ZSTD, huge), (codecs.PLANES, plane)):
        with pytest.raises(CorruptError, match="not one of 64 bytes"):
            codecs.by_id(codec_id).decode(payload, DTYPES[0], memoryview(bytearray(64)))
