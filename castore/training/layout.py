"""Where the copies of a state's tensors lie: segments, in them one or two places for each large tensor.

The second places are made ready beside the loop, while the first commit is made (see `readying`).
"""

from __future__ import annotations

from collections.abc import Callable, Container, Mapping, Sequence

import torch

from castore.limits import PAGE_BYTES
from castore.objects import nodes
from castore.state.live.sources import BytesSource, TensorSource
from castore.state.roles import forgetful
from castore.training import arena
from castore.training.arena import Segment
from castore.training.devices import Pin, device_of
from castore.training.places import Lot
from castore.training.readying import Readying

LARGE_BYTES = 64 << 10  # smaller tensors are packed together: places of their own would cost more than they save
_SLACK_BYTES = 64 << 20  # may be left over from tensors that are gone

Key = tuple[nodes.Path, int]  # a tensor's path, and how many large tensors before it have the same


class Layout:
    """Gives places, and takes them back when the state changes."""

    def __init__(self, chunk_elements: int, keep_anchors: bool) -> None:
        """keep_anchors: whether there are second places."""
        self.lots: dict[Key, Lot] = {}
        self.segments: dict[int, Segment] = {}
        self._chunk_elements = chunk_elements
        self._keep_anchors = keep_anchors
        self._numbers = 0
        # A new segment, where its second places begin and end, and the device that will copy there
        self._fresh: tuple[Segment, int, int, torch.device | None] | None = None
        # Without a lot, how much of it first places are to take, and the device that will copy there
        self._expected: tuple[Segment, int, torch.device | None] | None = None
        self._readying = Readying()

    def ready(self) -> None:
        """Return when all places can be copied to. Raises StorageError."""
        self._readying.join()

    def get_ready(self) -> None:
        """Begin to make new second places ready."""
        if self._fresh is not None:
            self._readying.begin(*self._fresh)
            self._fresh = None

    def expect(self, nbytes: int, device: torch.device | None = None) -> None:
        """Begin to make memory ready for a first state whose first places take about so many bytes (`place_bytes`), or
        exactly so many if a device is to copy there, which has them locked as one. Raises StorageError."""
        size = nbytes * (2 if self._keep_anchors else 1) + _SLACK_BYTES  # what nobody writes to takes no memory
        segment = self.create(size)
        self._expected = segment, nbytes, device
        self._readying.begin(segment, 0, nbytes, device)

    def create(self, nbytes: int) -> Segment:
        """A segment with a number of its own, which is the caller's to keep and close. Raises StorageError."""
        self._numbers += 1
        return arena.create(self._numbers, nbytes)

    def fit(self, root: nodes.Node, wanted: Mapping[Key, TensorSource], settle: Callable[[], None]) -> None:
        """Give every tensor its places. Tensors of which nothing changed keep theirs.

        root: the state's node. settle: called before memory is given back. Raises StorageError.
        """
        for key in [key for key, lot in self.lots.items() if not lot.fits(wanted.get(key))]:
            del self.lots[key]
        new = {key: source for key, source in wanted.items() if key not in self.lots}
        if not new:
            return
        used = {lot.segment.number for lot in self.lots.values()}
        kept = sum(lot.nbytes * len(lot.places) for lot in self.lots.values())
        held = sum(segment.nbytes for segment in self.segments.values())
        if held - kept > max(kept, _SLACK_BYTES):  # more is left over from what is gone than is in use: begin anew
            self.lots.clear()
            used, new = set(), dict(wanted)
        for number in [number for number in self.segments if number not in used]:
            settle()
            self.segments.pop(number).close()
        self._add(new, forgetful(root) if self._keep_anchors else {path for path, _ in wanted})

    def close(self) -> None:
        """Give all memory back. Raises what failed of making it ready, after that."""
        try:
            self._readying.join()
        finally:
            self.lots.clear()
            for segment in self.segments.values():
                segment.close()
            self.segments.clear()
            self._drop_expected()

    def _add(self, wanted: Mapping[Key, TensorSource], single: Container[nodes.Path]) -> None:
        """New places: first ones for all, behind them second ones for all but `single`."""
        sizes = {key: place_bytes(source.nbytes) for key, source in wanted.items()}
        second = sum(sizes.values())
        twice = sum(size for (path, _), size in sizes.items() if path not in single)
        device = next((found for source in wanted.values() if (found := device_of(source)) is not None), None)
        segment = self._new(second, twice, device)
        self.segments[segment.number] = segment
        if device is not None and not segment.pins:
            segment.pins.append(Pin(segment, 0, second, device))
        if twice:
            self._fresh = segment, second, second + twice, device
        first = 0
        for key, source in wanted.items():
            chunk_bytes = self._chunk_elements * source.width
            count = -(-source.nbytes // chunk_bytes)
            places = (first,) if source.path in single else (first, second)
            first, second = first + sizes[key], second + sizes[key] * (len(places) - 1)
            state = ([0] * count, [0] * count, [b""] * count)
            entry = source.entry
            self.lots[key] = Lot(entry.dtype, entry.shape, source.nbytes, chunk_bytes, segment, places, *state)

    def _new(self, first: int, second: int, device: torch.device | None) -> Segment:
        """A segment for so many bytes of first and second places: the one that was expected to serve, if it does."""
        if self._expected is not None:
            expected, ready, for_device = self._expected
            # No place may lie across the end of what is locked: a device would refuse to copy there.
            serves = device == for_device and (device is None or ready == first)
            if serves and expected.nbytes >= first + second:
                self._expected = None
                expected.nbytes = first + second  # what was mapped beyond is nobody's
                return expected
        self._drop_expected()
        return self.create(first + second)

    def _drop_expected(self) -> None:
        expected, self._expected = self._expected, None
        if expected is not None:
            expected[0].close()


def keys(sources: Sequence[TensorSource]) -> list[Key | None]:
    """What the places of each large tensor are known by; None for small ones.

    A path alone would not do: a dict may have a key 1 and a key "1", of which paths know no difference.
    """
    met: dict[nodes.Path, int] = {}
    found: list[Key | None] = []
    for source in sources:
        if not is_large(source):
            found.append(None)
            continue
        before = met.get(source.path, 0)
        met[source.path] = before + 1
        found.append((source.path, before))
    return found


def is_large(source: TensorSource) -> bool:
    """Whether a tensor has places of its own."""
    # Long bytes are rarely of the same length twice (a loader's state): places would be laid out anew each time.
    return source.nbytes >= LARGE_BYTES and not isinstance(source, BytesSource)


def place_bytes(nbytes: int) -> int:
    """What a place for so many bytes takes: whole pages."""
    return -(-nbytes // PAGE_BYTES) * PAGE_BYTES
