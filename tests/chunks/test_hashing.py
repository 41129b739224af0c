"""The two hashes of a store."""

from __future__ import annotations

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from castore.chunks import hashing


@pytest.mark.parametrize("name", ["xxh3-128", "blake3"])
@given(data=st.one_of(st.binary(max_size=600), st.integers(600, 300_000).map(bytes)))
@example(data=bytes(range(240)))
@example(data=bytes(range(241)))
def test_a_known_id_gives_the_checksum_that_the_bytes_have(name: str, data: bytes) -> None:
    hash_ = hashing.by_name(name)
    assert hash_.checksum_of(hash_.digest(data), data) == hashing.checksum(data)
