"""What a record needs: its bases, theirs, and in what order they are decoded."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

from castore import limits
from castore.chunks.index import Place
from castore.errors import CorruptError


class TangledError(CorruptError):
    """Records that stand on each other. Where somebody moves them between two look-ups it may only seem so."""


_TOO_DEEP = "deltas form a circle or a chain beyond all bounds; run `castore fsck`"


def closure(records: Mapping[bytes, Place], places: Callable[[Sequence[bytes]], list[Place]]) -> dict[bytes, Place]:
    """`records` and every base below them, by id, looked up with `places` level by level.

    Raises TangledError when there are too many levels, and what `places` raises when a base is in no pack.
    """
    needed = dict(records)
    level: Mapping[bytes, Place] = records
    for _ in range(limits.MAX_DEPTH + 1):
        bases = {base: None for place in level.values() if place.bases for base in place.bases}
        missing = [base for base in bases if base not in needed]
        if not missing:
            return needed
        level = dict(zip(missing, places(missing), strict=True))
        needed.update(level)
    raise TangledError(f"a chunk's {_TOO_DEEP}")


def depths(needed: Mapping[bytes, Place]) -> dict[bytes, int]:
    """The depth of every record of a closure, in an order in which each comes after its bases, and soon after them.

    Raises TangledError when bases form a circle, or lie more than MAX_DEPTH deep.
    """
    found: dict[bytes, int] = {}
    for record_id, place in needed.items():
        if not place.bases:
            found.setdefault(record_id, 0)
        elif record_id not in found and _visit(record_id, 0, needed, found) > limits.MAX_DEPTH:
            raise TangledError(f"chunk {record_id.hex()}: its {_TOO_DEEP}")
    return found


def _visit(record_id: bytes, above: int, needed: Mapping[bytes, Place], found: dict[bytes, int]) -> int:
    """The depth of a record, which is put behind those of its bases; anything beyond MAX_DEPTH when it has none.

    above: how many records lead here, which is also what ends a walk around a circle.
    """
    depth = 0
    for base in needed[record_id].bases:
        below = found.get(base)
        if below is None:
            below = _visit(base, above + 1, needed, found) if above < limits.MAX_DEPTH else limits.MAX_DEPTH
        depth = max(depth, 1 + below)
        if depth > limits.MAX_DEPTH:
            return depth
    found[record_id] = depth
    return depth
