"""The one copy that a commit makes the loop wait for, and what of earlier copies is worth keeping.

Every chunk of a large tensor has two places in a segment. In one lies its anchor: the bytes of the record that its
deltas stand on (see `chunks.bases`), so that these are at hand when the next delta is taken. The other takes the next
copy. When a chunk is stored whole, its copy becomes the anchor, and the places change roles. What no delta pays for
(`roles.forgetful`) has one place.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch

from castore.state.live.flattening import Flat
from castore.state.live.sources import TensorSource
from castore.training import copying
from castore.training.arena import Segment
from castore.training.crew import Crew
from castore.training.devices import Pending, device_of
from castore.training.job import Done, Known, Staged
from castore.training.layout import Key, Layout, is_large, keys
from castore.training.packed import Packed
from castore.training.places import Lot


@dataclass(frozen=True, slots=True)
class Copied:
    """What a copy gave: for a job, and the bytes really copied. pending: what of it was only begun."""

    staged: tuple[Staged, ...]
    known: tuple[Known, ...]
    segments: tuple[tuple[int, int], ...]
    copied_bytes: int
    pending: _Begun


@dataclass(frozen=True, slots=True)
class _Begun:
    """Copies that were begun, in memory and from devices."""

    crew: Crew
    devices: Pending

    def wait(self) -> None:
        """Return when they are done. From any thread."""
        self.crew.finish()
        self.devices.wait()


class Staging:
    """Copies states. Whoever uses a copy must be done with it before the next one is taken."""

    def __init__(self, chunk_elements: int, keep_anchors: bool) -> None:
        """keep_anchors: whether there are second places; without them bases are decoded from the store."""
        self._chunk_elements = chunk_elements
        self._layout = Layout(chunk_elements, keep_anchors)
        self._packed = Packed(self._layout.create)
        self._crew = Crew()
        self._early: dict[Key, tuple[TensorSource, Lot, int]] = {}  # copies begun, and their bytes
        self._current: list[Lot | None] = []

    @property
    def segments(self) -> dict[int, Segment]:
        """The memory, by number."""
        small = self._packed.segment
        return self._layout.segments if small is None else {**self._layout.segments, small.number: small}

    def expect(self, nbytes: int, device: torch.device | None) -> None:
        """Begin to make memory ready before the first copy: see `Layout.expect`. Raises StorageError."""
        self._layout.expect(nbytes, device)

    def beginning(self, all_of_it: bool = True) -> Callable[[TensorSource], None]:
        """What is to be told of each tensor of a state that is still looked through: copies of those that have their
        places can begin at once, and are made meanwhile. all_of_it: else some may not be wanted.

        Raises StorageError when there is no memory for the copies.
        """
        self._layout.ready()
        self._settle()  # what was begun of a state that was then refused: nothing may come after new copies
        self._early.clear()
        return self._begin if all_of_it else lambda _source: None

    def copy(self, flat: Flat) -> Copied:
        """Copy all tensors of a flattened state. The state must not change until what is pending of it is done.

        Raises StorageError when there is no memory for them.
        """
        self._layout.ready()
        known_by = keys(flat.sources)
        large = {key: source for key, source in zip(known_by, flat.sources, strict=True) if key is not None}
        self._layout.fit(flat.root, large, self._settle)
        lots = self._layout.lots
        self._current = [None if key is None else lots[key] for key in known_by]
        copied = sum(self._update_once(key, lots[key], source) for key, source in large.items())
        self._early.clear()
        pairs = list(zip(flat.sources, self._current, strict=True))
        small = [source for source, lot in pairs if lot is None]
        number, offsets = self._packed.copy(small)
        copied += sum(source.nbytes for source in small)
        devices = {device for source in flat.sources if (device := device_of(source)) is not None}
        self._layout.get_ready()
        where = iter(offsets)
        staged = tuple(
            self._packed_at(source, number, next(where)) if lot is None else _placed(lot) for source, lot in pairs
        )
        sizes = tuple((segment.number, segment.nbytes) for segment in self.segments.values())
        known = tuple(known for lot in lots.values() for known in lot.anchors())
        return Copied(staged, known, sizes, copied, _Begun(self._crew, Pending(devices)))

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
        """Give all memory back. Raises StorageError where some could not be made ready, after that."""
        self._settle()
        self._crew.close()
        self._early.clear()
        self._current.clear()
        self._packed.close()
        self._layout.close()

    def _begin(self, source: TensorSource) -> None:
        key = source.path, 0
        lot = self._layout.lots.get(key) if is_large(source) else None
        if lot is not None and key not in self._early and lot.fits(source):
            self._early[key] = source, lot, self._update(lot, source)

    def _settle(self) -> None:
        """Wait for copies that were begun and may not be wanted any more."""
        self._crew.finish()
        for device in {device_of(source) for source, _, _ in self._early.values()} - {None}:
            torch.cuda.synchronize(device)

    def _update_once(self, key: Key, lot: Lot, source: TensorSource) -> int:
        begun_of, begun_to, copied = self._early.get(key, (None, None, 0))
        return copied if begun_of is source and begun_to is lot else self._update(lot, source)

    def _update(self, lot: Lot, source: TensorSource) -> int:
        """Copy a tensor to where no anchor lies, unless its newest copy is the same; returns the bytes copied."""
        seen = copying.identity(source)
        if seen is not None and seen == lot.seen and copying.is_same(source, lot):
            return 0
        lot.seen = seen
        if len(lot.places) > 1:
            lot.last = [1 - lot.held[chunk] if lot.anchor[chunk] else last for chunk, last in enumerate(lot.last)]
        copying.copy(source, lot, self._crew)
        return lot.nbytes

    def _packed_at(self, source: TensorSource, segment: int, start: int) -> Staged:
        chunk_bytes = self._chunk_elements * source.width
        return Staged(source.nbytes, chunk_bytes, segment, tuple(range(start, start + source.nbytes, chunk_bytes)))


def _placed(lot: Lot) -> Staged:
    offsets = tuple(lot.at(chunk, which) for chunk, which in enumerate(lot.last))
    return Staged(lot.nbytes, lot.chunk_bytes, lot.segment.number, offsets)
