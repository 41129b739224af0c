"""The one copy that a commit makes the loop wait for, and what of earlier copies is worth keeping.

Every chunk of a large tensor has two places in a segment. In one lies its anchor: the bytes of the record that its
deltas stand on (see `chunks.bases`), so that these are at hand when the next delta is taken. The other takes the next
copy. When a chunk is stored whole, its copy becomes the anchor, and the places change roles. The second places are
faulted in beside the loop, while the first commit is made.
"""

from __future__ import annotations

import threading
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from castore.objects import nodes
from castore.state.live.flattening import Flat
from castore.state.live.sources import BytesSource, TensorSource, TorchSource
from castore.training import arena
from castore.training.arena import Segment
from castore.training.job import INLINE, Done, Known, Staged

LARGE_BYTES = 64 << 10  # smaller tensors travel with the job: a place of their own would cost more than it saves


@dataclass(slots=True)
class _Lot:
    """A tensor's places. offset: of the first in its segment; the second lies `stride` bytes further.

    last: for each chunk, which place its newest copy is in. anchor: the id of what lies in `held`, which no copy may
    overwrite; b"" for none. seen: what the newest copy was taken of.
    """

    dtype: str
    shape: tuple[int, ...]
    nbytes: int
    chunk_bytes: int
    segment: Segment
    offset: int
    stride: int
    last: list[int]
    held: list[int]
    anchor: list[bytes]
    seen: tuple[int, int] | None = None

    def place(self, chunk: int, which: int) -> int:
        return self.offset + which * self.stride + chunk * self.chunk_bytes

    def length(self, chunk: int) -> int:
        return min(self.chunk_bytes, self.nbytes - chunk * self.chunk_bytes)


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
        self._places = 2 if keep_anchors else 1
        self._lots: dict[nodes.Path, _Lot] = {}
        self._segments: dict[int, Segment] = {}
        self._next_segment = 0
        self._current: list[_Lot | None] = []
        self._fresh: tuple[Segment, int] | None = None  # a new segment, and where its second places begin
        self._faulting: threading.Thread | None = None

    @property
    def segments(self) -> dict[int, Segment]:
        """The memory, by number."""
        return self._segments

    def copy(self, flat: Flat) -> Copied:
        """Copy all tensors of a flattened state. Raises StorageError when there is no memory for them."""
        self._join()
        self._lay_out([source for source in flat.sources if _is_large(source)])
        staged: list[Staged] = []
        self._current = []
        small = bytearray()
        copied = 0
        on_device = False
        for source in flat.sources:
            lot = self._lots.get(source.path) if _is_large(source) else None
            self._current.append(lot)
            if lot is None:
                chunk_bytes = self._chunk_elements * source.width
                staged.append(_inline(source, len(small), chunk_bytes))
                for first in range(0, source.numel, self._chunk_elements):
                    small += source.span(first, min(first + self._chunk_elements, source.numel))
                continue
            copied += self._update(lot, source)
            on_device = on_device or (isinstance(source, TorchSource) and source.tensor.device.type == "cuda")
            offsets = tuple(lot.place(chunk, which) for chunk, which in enumerate(lot.last))
            staged.append(Staged(source.path, source.entry, lot.nbytes, lot.chunk_bytes, lot.segment.number, offsets))
        if self._fresh is not None:
            self._fault_in(*self._fresh)
            self._fresh = None
        if on_device:
            torch.cuda.synchronize()  # copies from devices were only begun
        sizes = tuple((number, segment.nbytes) for number, segment in self._segments.items())
        return Copied(tuple(staged), bytes(small), tuple(self._known()), sizes, copied + len(small))

    def committed(self, done: Done) -> None:
        """The newest copy was committed: where chunks were stored whole, it takes over as the anchor."""
        if self._places < 2:
            return
        for lot, ids in zip(self._current, done.chunks, strict=True):
            if lot is None:
                continue
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
        for segment in self._segments.values():
            segment.close()
        self._segments.clear()

    def _known(self) -> list[Known]:
        return [
            Known(anchor, lot.segment.number, lot.place(chunk, lot.held[chunk]), lot.length(chunk))
            for lot in self._lots.values()
            for chunk, anchor in enumerate(lot.anchor)
            if anchor
        ]

    # Memory

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

    def _lay_out(self, sources: Sequence[TensorSource]) -> None:
        """Give every source its places. Tensors of which nothing changed keep theirs."""
        wanted = {source.path: source for source in sources}
        for path in [path for path, lot in self._lots.items() if not _fits(lot, wanted.get(path))]:
            del self._lots[path]
        new = [source for source in sources if source.path not in self._lots]
        if not new:
            return
        used = {lot.segment.number for lot in self._lots.values()}
        kept = sum(lot.nbytes for lot in self._lots.values())
        held = sum(segment.nbytes for segment in self._segments.values()) // self._places
        if held - kept > max(kept, 64 << 20):  # more is left over from what is gone than is in use: begin anew
            self._lots.clear()
            used, new = set(), list(sources)
        for number in [number for number in self._segments if number not in used]:
            self._segments.pop(number).close()
        self._add(new)

    def _add(self, sources: Sequence[TensorSource]) -> None:
        sizes = [-(-source.nbytes // arena.PAGE_BYTES) * arena.PAGE_BYTES for source in sources]
        stride = sum(sizes)
        segment = arena.create(self._next_segment, stride * self._places)
        if torch.cuda.is_available():
            _pin(segment)
        if self._places == 2:
            self._fresh = segment, stride
        self._next_segment += 1
        self._segments[segment.number] = segment
        offset = 0
        for source, size in zip(sources, sizes, strict=True):
            chunk_bytes = self._chunk_elements * source.width
            count = -(-source.nbytes // chunk_bytes)
            self._lots[source.path] = _Lot(
                source.entry.dtype,
                source.entry.shape,
                source.nbytes,
                chunk_bytes,
                segment,
                offset,
                stride,
                last=[0] * count,
                held=[0] * count,
                anchor=[b""] * count,
            )
            offset += size

    # Copying

    def _update(self, lot: _Lot, source: TensorSource) -> int:
        """Copy a tensor to where no anchor lies, unless its newest copy is the same; returns the bytes copied."""
        seen = _identity(source)
        if seen is not None and seen == lot.seen and self._is_same(lot, source):
            return 0
        lot.seen = seen
        for chunk, anchor in enumerate(lot.anchor):
            lot.last[chunk] = 1 - lot.held[chunk] if anchor else lot.last[chunk]
        for first, last, offset in _runs(lot):
            _copy(source, first, last, lot.segment, offset)
        return lot.nbytes

    def _is_same(self, lot: _Lot, source: TensorSource) -> bool:
        """Whether the newest copy still holds. torch's version counter only says that it may: writes through `.data`
        don't count."""
        whole = _bytes_of(source)
        if whole is None:
            return False
        held = torch.frombuffer(lot.segment.view, dtype=torch.uint8)
        for first, last, offset in _runs(lot):
            if not torch.equal(whole[first:last], held[offset : offset + last - first]):
                return False
        return True


def _is_large(source: TensorSource) -> bool:
    # Long bytes are rarely of the same length twice (a loader's state): places would be laid out anew each time.
    return source.nbytes >= LARGE_BYTES and not isinstance(source, BytesSource)


def _fits(lot: _Lot, source: TensorSource | None) -> bool:
    return source is not None and (lot.dtype, lot.shape) == (source.entry.dtype, source.entry.shape)


def _inline(source: TensorSource, start: int, chunk_bytes: int) -> Staged:
    offsets = tuple(range(start, start + source.nbytes, chunk_bytes))
    return Staged(source.path, source.entry, source.nbytes, chunk_bytes, INLINE, offsets)


def _runs(lot: _Lot) -> list[tuple[int, int, int]]:
    """(first byte, last byte, offset) of stretches of a tensor whose newest copies lie in the same place."""
    runs: list[tuple[int, int, int]] = []
    start = 0
    for chunk in range(1, len(lot.last) + 1):
        if chunk == len(lot.last) or lot.last[chunk] != lot.last[start]:
            first, last = start * lot.chunk_bytes, min(chunk * lot.chunk_bytes, lot.nbytes)
            runs.append((first, last, lot.place(start, lot.last[start])))
            start = chunk
    return runs


def _identity(source: TensorSource) -> tuple[int, int] | None:
    """What changes when a tensor is another one or was written to in the open; None where that can't be told."""
    if not isinstance(source, TorchSource) or source.tensor.device.type != "cpu" or source.tensor.is_inference():
        return None
    return source.tensor.data_ptr(), source.tensor._version


def _bytes_of(source: TensorSource) -> torch.Tensor | None:
    """All bytes of a tensor whose memory lies in order, as torch.uint8 [nbytes], on its device; else None."""
    if not isinstance(source, TorchSource):
        return None
    tensor = source.tensor
    if not tensor.is_contiguous() or tensor.is_conj() or tensor.is_neg():
        return None
    flat = tensor.detach().as_strided((tensor.numel(),), (1,), tensor.storage_offset())
    return flat.view(torch.uint8)


def _copy(source: TensorSource, first: int, last: int, segment: Segment, offset: int) -> None:
    """Copy bytes [first, last) of a tensor into a segment."""
    whole = _bytes_of(source)
    if whole is not None:
        out = torch.frombuffer(segment.view, dtype=torch.uint8, count=last - first, offset=offset)
        out.copy_(whole[first:last], non_blocking=True)
        return
    step = 1 << 20
    for start in range(first // source.width, last // source.width, step):
        stop = min(start + step, last // source.width)
        at = offset + start * source.width - first
        piece = np.frombuffer(source.span(start, stop), np.uint8)
        np.copyto(np.frombuffer(segment.view, np.uint8, len(piece), at), piece)


def _pin(segment: Segment) -> None:
    """Lock a segment's pages, so that devices copy into them directly."""
    pointer = torch.frombuffer(segment.view, dtype=torch.uint8).data_ptr()
    runtime: Any = torch.cuda.cudart()  # type: ignore[no-untyped-call]
    torch.cuda.check_error(runtime.cudaHostRegister(pointer, segment.nbytes, 0))
