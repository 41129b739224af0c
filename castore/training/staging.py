"""The one copy that a commit makes the loop wait for, and what of earlier copies is worth keeping.

Every chunk of a large tensor has two places in a segment. In one lies its anchor: the bytes of the record that its
deltas stand on (see `chunks.bases`), so that these are at hand when the next delta is taken. The other takes the next
copy. When a chunk is stored whole, its copy becomes the anchor, and the places change roles. The second places are
faulted in beside the loop, while the first commit is made. What no delta pays for (`roles.forgetful`) has one place.
"""

from __future__ import annotations

import threading
from collections.abc import Container, Sequence
from dataclasses import dataclass

import numpy as np

from castore.objects import nodes
from castore.state.live.flattening import Flat
from castore.state.live.sources import BytesSource, TensorSource
from castore.state.roles import forgetful
from castore.training import arena, copying, devices
from castore.training.arena import Segment
from castore.training.job import INLINE, Done, Known, Staged
from castore.training.places import Lot

LARGE_BYTES = 64 << 10  # smaller tensors travel with the job: a place of their own would cost more than it saves


@dataclass(frozen=True, slots=True)
class Copied:
    """What a copy gave: for a job, and the bytes that were really copied."""

    staged: tuple[Staged, ...]
    inline: bytes
    known: tuple[Known, ...]
    segments: tuple[tuple[int, int], ...]
    copied_bytes: int


class Staging:
    """Copies states. Whoever uses a copy must be done with it before the next one is taken."""

    def __init__(self, chunk_elements: int, keep_anchors: bool) -> None:
        """keep_anchors: whether there are second places; without them bases are decoded from the store."""
        self._chunk_elements = chunk_elements
        self._keep_anchors = keep_anchors
        self._lots: dict[nodes.Path, Lot] = {}
        self._segments: dict[int, Segment] = {}
        self._next_segment = 0
        self._current: list[Lot | None] = []
        self._fresh: tuple[Segment, int] | None = None  # a new segment, and where its second places begin
        self._faulting: threading.Thread | None = None

    @property
    def segments(self) -> dict[int, Segment]:
        """The memory, by number."""
        return self._segments

    def copy(self, flat: Flat) -> Copied:
        """Copy all tensors of a flattened state. Raises StorageError when there is no memory for them."""
        self._join()
        self._lay_out(flat.root, [source for source in flat.sources if _is_large(source)])
        staged: list[Staged] = []
        self._current = []
        small: list[TensorSource] = []
        small_bytes = copied = 0
        used = set()
        for source in flat.sources:
            lot = self._lots.get(source.path) if _is_large(source) else None
            self._current.append(lot)
            if lot is None:
                chunk_bytes = self._chunk_elements * source.width
                staged.append(_inline(source, small_bytes, chunk_bytes))
                small.append(source)
                small_bytes += source.nbytes
                continue
            copied += self._update(lot, source)
            if (device := devices.device_of(source)) is not None:
                used.add(device)
            offsets = tuple(lot.at(chunk, which) for chunk, which in enumerate(lot.last))
            staged.append(Staged(source.path, source.entry, lot.nbytes, lot.chunk_bytes, lot.segment.number, offsets))
        if self._fresh is not None:
            self._fault_in(*self._fresh)
            self._fresh = None
        inline = copying.together(small)
        devices.settle(used)  # copies from them were only begun
        sizes = tuple((number, segment.nbytes) for number, segment in self._segments.items())
        known = tuple(known for lot in self._lots.values() for known in lot.anchors())
        return Copied(tuple(staged), inline, known, sizes, copied + len(inline))

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
        self._join()
        self._lots.clear()
        self._current.clear()
        for number in list(self._segments):
            self._give_back(number)

    # Memory

    def _give_back(self, number: int) -> None:
        segment = self._segments.pop(number)
        devices.unpin(segment)
        segment.close()

    def _fault_in(self, segment: Segment, first: int) -> None:
        """Have the system give memory to a segment from a byte on, where it holds nothing yet, beside the loop."""

        def work() -> None:
            np.frombuffer(segment.view, np.uint8, offset=first)[:: arena.PAGE_BYTES] = 0

        self._faulting = threading.Thread(target=work, name="castore-fault-in", daemon=True)
        self._faulting.start()

    def _join(self) -> None:
        if self._faulting is not None:
            self._faulting.join()
            self._faulting = None

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
            self._give_back(number)
        self._add(new, forgetful(root) if self._keep_anchors else frozenset(wanted))

    def _add(self, sources: Sequence[TensorSource], single: Container[nodes.Path]) -> None:
        """New places: first ones for all, behind them second ones for all but `single`."""
        sizes = [-(-source.nbytes // arena.PAGE_BYTES) * arena.PAGE_BYTES for source in sources]
        second = sum(sizes)
        twice = sum(size for source, size in zip(sources, sizes, strict=True) if source.path not in single)
        segment = arena.create(self._next_segment, second + twice)
        if any(devices.device_of(source) is not None for source in sources):
            devices.pin(segment)
        if twice and not segment.pinned:
            self._fresh = segment, second
        self._next_segment += 1
        self._segments[segment.number] = segment
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


def _inline(source: TensorSource, start: int, chunk_bytes: int) -> Staged:
    offsets = tuple(range(start, start + source.nbytes, chunk_bytes))
    return Staged(source.path, source.entry, source.nbytes, chunk_bytes, INLINE, offsets)
