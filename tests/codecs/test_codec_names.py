"""A codec's name is known before its module is loaded."""

from __future__ import annotations

import pytest

from castore import codecs
from castore.errors import CorruptError


def test_the_name_that_stats_show_is_the_codecs_own() -> None:
    for codec_id in codecs.known_ids():
        assert codecs.name_of(codec_id) == codecs.by_id(codec_id).name


def test_a_codec_that_this_version_lacks_has_no_name() -> None:
    with pytest.raises(CorruptError, match="unknown codec 255"):
        codecs.name_of(255)
