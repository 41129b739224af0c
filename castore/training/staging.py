"""The one copy that a commit makes the loop wait for, and what of earlier copies is worth keeping.

Every chunk of a large tensor has two places in a segment. In one lies its anchor: the bytes of the record that its
deltas stand on (see `chunks.bases`), so that these are at hand when the next delta is taken. The other takes the next
copy. When a chunk is stored whole, its copy becomes the anchor, and the places change roles. The second places are
faulted in beside the loop, while the first commit is made. What no delta pays for (`roles.forgetful`) has one place.
"""

from __future__ import annotations

from collections.abc import Container, Sequence
from dataclasses import dataclass

import torch

from castore.objects import nodes
from castore.state.live.flattening import Flat
from castore.state.live.sources import BytesSource, TensorSource
from castore.state.roles import forgetful
from castore.training import arena, copying
from castore.training.arena import Segment
from castore.training.devices import Pending, Pin, device_of
from castore.training.job import Done, Known, Staged
from castore.training.packed import Packed
from castore.training.places import Lot
from castore.training.readying import Readying

LARGE_BYTES = 64 << 10  # smaller tensors are packed together: places of their own would cost more than they save


@dataclass(frozen=True, slots=True)
class Copied:
    """What a copy gave: for a job, and the bytes really copied. pending: those from devices were only begun."""

    staged: tuple[Staged, ...]
    known: tuple[Known, ...]
    segments: tuple[tuple[int, int], ...]
    copied_bytes: int
    pending: Pending


class Staging:
    """Copies states. Whoever uses a copy must be done with it before the next one is taken."""

    def __init__(self, chunk_elements: int, keep_anchors: bool) -> None:
        """keep_anchors: whether there are second places; without them bases are decoded from the store."""
        self._chunk_elements = chunk_elements
        self._keep_anchors = keep_anchors
        self._lots: dict[nodes.Path, Lot] = {}
        self._segments: dict[int, Segment] = {}
        self._packed = Packed(self._segment)
        self._next_segment = 0
        self._current: list[Lot | None] = []
        # A new segment, where its second places begin, and the device that will copy there
        self._fresh: tuple[Segment, int, torch.device | None] | None = None
        self._readying = Readying()

    @property
    def segments(self) -> dict[int, Segment]:
        """The memory, by number."""
        small = self._packed.segment
        return self._segments if small is None else {**self._segments, small.number: small}

    def copy(self, flat: Flat) -> Copied:
        """Copy all tensors of a flattened state. The state must not change until what is pending of it is done.

        Raises StorageError when there is no memory for them.
        """
        self._readying.join()
        self._lay_out(flat.root, [source for source in flat.sources if _is_large(source)])
        self._current = [self._lots.get(source.path) if _is_large(source) else None for source in flat.sources]
        pairs = list(zip(flat.sources, self._current, strict=True))
        small = [source for source, lot in pairs if lot is None]
        packed = self._packed.copy(small)
        copied = sum(source.nbytes for source in small)
        copied += sum(self._update(lot, source) for source, lot in pairs if lot is not None)
        pending = Pending({device for source in flat.sources if (device := device_of(source)) is not None})
        if self._fresh is not None:
            self._readying.begin(*self._fresh)
            self._fresh = None
        where = iter(packed[1] if packed is not None else ())
        number = packed[0].number if packed is not None else 0
        staged = tuple(
            self._packed_at(source, number, next(where)) if lot is None else _placed(lot) for source, lot in pairs
        )
        sizes = tuple((segment.number, segment.nbytes) for segment in self.segments.values())
        known = tuple(known for lot in self._lots.values() for known in lot.anchors())
        return Copied(staged, known, sizes, copied, pending)

    def committed(self, done: Done) -> None:
        """The newest copy was committed: where chunks were stored whole, it takes over as the anchor."""
        for lot, ids in zip(self._current, done.chunks, strict=True):
            if lot is None or len(lot.places) < 2:
                continue
            lot.known = None
            size = len(ids) // len(lot.last)
            for chunk, which in enumerate(lot.last):
                chunk_id = ids[chunk * size : (chunk + 1) * size]
                if chunk_id in done.anchors:
                    lot.anchor[chunk], lot.held[chunk] = chunk_id, which

    def close(self) -> None:
        """Give all memory back."""
        try:
            self._readying.join()
        finally:
            self._lots.clear()
            self._current.clear()
            for segment in self._segments.values():
                segment.close()
            self._segments.clear()
            self._packed.close()

    # Memory

    def _segment(self, nbytes: int) -> Segment:
        self._next_segment += 1
        return arena.create(self._next_segment, nbytes)

    def _lay_out(self, root: nodes.Node, sources: Sequence[TensorSource]) -> None:
        """Give every source its places. Tensors of which nothing changed keep theirs."""
        wanted = {source.path: source for source in sources}
        for path in [path for path, lot in self._lots.items() if not lot.fits(wanted.get(path))]:
            del self._lots[path]
        new = [source for source in sources if source.path not in self._lots]
        if not new:
            return
        used = {lot.segment.number for lot in self._lots.values()}
        kept = sum(lot.nbytes * len(lot.places) for lot in self._lots.values())
        held = sum(segment.nbytes for segment in self._segments.values())
        if held - kept > max(kept, 64 << 20):  # more is left over from what is gone than is in use: begin anew
            self._lots.clear()
            used, new = set(), list(sources)
        for number in [number for number in self._segments if number not in used]:
            self._segments.pop(number).close()
        self._add(new, forgetful(root) if self._keep_anchors else frozenset(wanted))

    def _add(self, sources: Sequence[TensorSource], single: Container[nodes.Path]) -> None:
        """New places: first ones for all, behind them second ones for all but `single`."""
        sizes = [-(-source.nbytes // arena.PAGE_BYTES) * arena.PAGE_BYTES for source in sources]
        second = sum(sizes)
        twice = sum(size for source, size in zip(sources, sizes, strict=True) if source.path not in single)
        segment = self._segment(second + twice)
        self._segments[segment.number] = segment
        device = next((found for source in sources if (found := device_of(source)) is not None), None)
        if device is not None:
            segment.pins.append(Pin(segment, 0, second, device))
        if twice:
            self._fresh = segment, second, device
        first = 0
        for source, size in zip(sources, sizes, strict=True):
            chunk_bytes = self._chunk_elements * source.width
            count = -(-source.nbytes // chunk_bytes)
            places = (first,) if source.path in single else (first, second)
            first, second = first + size, second + size * (len(places) - 1)
            state = ([0] * count, [0] * count, [b""] * count)
            entry = source.entry
            self._lots[source.path] = Lot(entry.dtype, entry.shape, source.nbytes, chunk_bytes, segment, places, *state)

    # Copying

    def _packed_at(self, source: TensorSource, segment: int, start: int) -> Staged:
        chunk_bytes = self._chunk_elements * source.width
        return Staged(source.nbytes, chunk_bytes, segment, tuple(range(start, start + source.nbytes, chunk_bytes)))

    def _update(self, lot: Lot, source: TensorSource) -> int:
        """Copy a tensor to where no anchor lies, unless its newest copy is the same; returns the bytes copied."""
        seen = copying.identity(source)
        if seen is not None and seen == lot.seen and copying.is_same(source, lot):
            return 0
        lot.seen = seen
        if len(lot.places) > 1:
            lot.last = [1 - lot.held[chunk] if lot.anchor[chunk] else last for chunk, last in enumerate(lot.last)]
        copying.copy(source, lot)
        return lot.nbytes


def _is_large(source: TensorSource) -> bool:
    # Long bytes are rarely of the same length twice (a loader's state): places would be laid out anew each time.
    return source.nbytes >= LARGE_BYTES and not isinstance(source, BytesSource)


def _placed(lot: Lot) -> Staged:
    offsets = tuple(lot.at(chunk, which) for chunk, which in enumerate(lot.last))
    return Staged(lot.nbytes, lot.chunk_bytes, lot.segment.number, offsets)
