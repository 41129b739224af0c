"""What the index says of all records and packs, in one pass: what repack plans on."""

from __future__ import annotations

from dataclasses import dataclass, field

from castore import codecs, limits
from castore.chunks import pack
from castore.codecs.choice import TINY_BYTES
from castore.errors import CorruptError
from castore.repo import Repository


@dataclass(slots=True)
class RecordSurvey:
    """bases: of each delta. resting: standalone records that say that a delta did not pay; uncoded: numbers
    stored as they are that don't. derived: deltas to several
    chunks; copies: those to one of another length. sizes: of the packs; unused: packs with bytes that no record of the
    index has. deepest: the depth of the deepest record. About 300 bytes of memory a record."""

    bases: dict[bytes, tuple[bytes, ...]] = field(default_factory=dict)
    resting: set[bytes] = field(default_factory=set)
    uncoded: set[bytes] = field(default_factory=set)
    derived: list[bytes] = field(default_factory=list)
    copies: list[bytes] = field(default_factory=list)
    sizes: dict[bytes, int] = field(default_factory=dict)
    unused: list[bytes] = field(default_factory=list)
    deepest: int = 0


def survey_records(repo: Repository) -> RecordSurvey:
    """Read the whole index."""
    index, fmt = repo.chunks.access.index, repo.chunks.files.format
    found = RecordSurvey(sizes=index.packs())
    around = len(fmt.header) + fmt.trailer_bytes
    used = dict.fromkeys(found.sizes, around)
    predicted: dict[bytes, int] = {}
    for record_id, place in index.items():
        count = len(place.bases)
        if place.pack in used:
            used[place.pack] += place.length + fmt.record_header_bytes(count) + fmt.entry_bytes(count)
        if not count:
            if place.generation:
                found.resting.add(record_id)
            elif place.codec == codecs.RAW and place.kind == pack.CHUNK and place.raw_length >= TINY_BYTES:
                found.uncoded.add(record_id)
            continue
        found.bases[record_id] = place.bases
        if count > 1:
            found.derived.append(record_id)
        elif place.codec == codecs.PREDICTED:
            predicted[record_id] = place.raw_length
    for record_id, raw_length in predicted.items():
        base = index.get(found.bases[record_id][0])
        if base is not None and base.raw_length != raw_length:
            found.copies.append(record_id)
    found.unused = [pack_id for pack_id, size in found.sizes.items() if used[pack_id] < size]
    found.deepest = _deepest(found.bases)
    return found


def _deepest(bases: dict[bytes, tuple[bytes, ...]]) -> int:
    """The depth of the deepest record. Raises CorruptError when there is no such thing."""
    found: dict[bytes, int] = {}

    def depth(record_id: bytes, above: int) -> int:
        if record_id not in bases:
            return 0
        if record_id not in found:
            if above > limits.MAX_DEPTH:
                raise CorruptError("deltas form a circle or a chain beyond all bounds; run `castore fsck`")
            found[record_id] = 1 + max(depth(base, above + 1) for base in bases[record_id])
        return found[record_id]

    return max((depth(record_id, 0) for record_id in bases), default=0)
