"""Hypothesis' deadline is off here: the first example that needs a kernel compiles it."""

from __future__ import annotations

from hypothesis import settings

settings.register_profile("codecs", deadline=None)
settings.load_profile("codecs")
