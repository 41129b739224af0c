"""How much is done at once to make a commit small: all that does, or only what costs little."""

from __future__ import annotations

from castore.errors import UsageError

FULL, FAST = EFFORTS = ("full", "fast")


def worthwhile(effort: str) -> float:
    """What of a chunk's raw size a codec has to get below to be used. Raises UsageError for what is no effort."""
    if effort not in EFFORTS:
        raise UsageError(f"effort is 'full' or 'fast', not {effort!r}")
    from castore.codecs.choice import FAST_WORTHWHILE, STANDALONE_WORTHWHILE  # which reading history has no use for

    return FAST_WORTHWHILE if effort == FAST else STANDALONE_WORTHWHILE
