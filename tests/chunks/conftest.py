"""A codec of several bases, for the tests that need one."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from castore import codecs
from tests.chunks import xor_of_bases


@pytest.fixture(scope="module", autouse=True)
def codec_of_several_bases() -> Iterator[xor_of_bases.XorOfBases]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(codecs._MODULES, xor_of_bases.ID, "tests.chunks.xor_of_bases")
        codec = codecs.by_id(xor_of_bases.ID)
        assert isinstance(codec, xor_of_bases.XorOfBases)
        yield codec
    codecs.by_id.cache_clear()
