"""From chunks back to bytes: into memory that is waiting, or piece by piece out of one segment."""

from __future__ import annotations

import bisect
import math
from collections.abc import Iterator, Sequence

from castore import dtypes
from castore.chunks.decode import Wanted
from castore.errors import CastoreError, CorruptError, DroppedError
from castore.limits import MAX_CHUNK_BYTES, MIB
from castore.objects import nodes
from castore.repo import Repository

_LOOKUP_CHUNKS = 1024  # ids looked up in one go


def raw_bytes(entry: nodes.Tensor) -> int:
    """The size of a tensor's data."""
    return math.prod(entry.shape) * dtypes.by_name(entry.dtype).width


def chunk_ids(repo: Repository, entry: nodes.Tensor) -> list[bytes]:
    """A tensor's chunk ids, in order."""
    size = repo.hash.size
    return [entry.chunks[start : start + size] for start in range(0, len(entry.chunks), size)]


def check_present(root: nodes.Node, above: nodes.Path = ()) -> None:
    """Refuse a tree of which retention dropped a part. Raises DroppedError that names the first tensor of it.

    above: the path of `root` itself.
    """
    for path, entry in nodes.tensors(root, above):
        _check_present(path, entry)


def _check_present(path: nodes.Path, entry: nodes.Tensor) -> None:
    if entry.dropped:
        raise DroppedError(f"{'.'.join(path)} is gone: {entry.dropped}; load what is left with only (--only)")


def check_sizes(root: nodes.Node, id_size: int) -> None:
    """Refuse a tree that claims more bytes than its chunks can hold, before memory is allocated for it.

    Raises DroppedError too, where retention dropped a part of it.
    """
    for path, entry in nodes.tensors(root):
        _check_present(path, entry)
        if raw_bytes(entry) > len(entry.chunks) // id_size * MAX_CHUNK_BYTES:
            raise CorruptError(f"{'.'.join(path)} claims more bytes than its chunks can hold; run `castore fsck`")


def fill(repo: Repository, sinks: Sequence[tuple[nodes.Tensor, memoryview]], paths: Sequence[nodes.Path]) -> None:
    """Decode every tensor's chunks into its memory, all verified. Raises CorruptError that names the tensor's path."""
    repo.progress.start("Loading", sum(len(memory) for _, memory in sinks), "bytes")
    try:
        repo.chunks.read(_wanted(repo, sinks, paths), repo.progress)
    except CorruptError as error:
        raise _named(repo, error, sinks, paths) from error
    repo.progress.finish()


def _wanted(
    repo: Repository, sinks: Sequence[tuple[nodes.Tensor, memoryview]], paths: Sequence[nodes.Path]
) -> Iterator[Wanted]:
    """Every chunk with its part of the memory; a tensor's chunks must fill it exactly."""
    pending: list[tuple[bytes, int]] = []  # id, number of the sink
    for number, (entry, _) in enumerate(sinks):
        pending.extend((chunk_id, number) for chunk_id in chunk_ids(repo, entry))
    filled = [0] * len(sinks)
    for start in range(0, len(pending), _LOOKUP_CHUNKS):
        part = pending[start : start + _LOOKUP_CHUNKS]
        for (chunk_id, number), place in zip(part, repo.chunks.places([one for one, _ in part]), strict=True):
            memory, begin = sinks[number][1], filled[number]
            filled[number] = end = begin + place.raw_length
            if end > len(memory):
                raise CorruptError(
                    f"{'.'.join(paths[number])}: its chunks hold more bytes than it has; run `castore fsck`"
                )
            yield Wanted(chunk_id, place, memory[begin:end])
    for number, (_, memory) in enumerate(sinks):
        if filled[number] != len(memory):
            raise CorruptError(f"{'.'.join(paths[number])}: its chunks hold too few bytes; run `castore fsck`")


def _named(
    repo: Repository,
    error: CorruptError,
    sinks: Sequence[tuple[nodes.Tensor, memoryview]],
    paths: Sequence[nodes.Path],
) -> CastoreError:
    """The same error, with the path of a tensor that holds the chunk it speaks of."""
    text = str(error)
    for path, (entry, _) in zip(paths, sinks, strict=True):
        if any(chunk_id.hex() in text for chunk_id in chunk_ids(repo, entry)):
            return type(error)(f"{'.'.join(path)} cannot be loaded: {text}")
    return error


class SegmentReader:
    """Random access to the data of one segment, chunk by chunk; the newest chunk is kept."""

    def __init__(self, repo: Repository, entry: nodes.Tensor) -> None:
        self._repo = repo
        self._ids = chunk_ids(repo, entry)
        self._places = repo.chunks.places(self._ids) if self._ids else []
        self._starts = [0]
        for place in self._places:
            self._starts.append(self._starts[-1] + place.raw_length)
        if self._starts[-1] != raw_bytes(entry):
            raise CorruptError("a file's chunks do not add up to its size; run `castore fsck`")
        self._kept: tuple[int, memoryview] = (-1, memoryview(b""))

    def read(self, offset: int, length: int) -> bytes:
        """Bytes [offset, offset + length) of the segment."""
        out = bytearray(length)
        self.read_into(offset, memoryview(out))
        return bytes(out)

    def read_into(self, offset: int, out: memoryview) -> None:
        """Fill `out` from `offset`: whole chunks are decoded in place, over all threads."""
        wanted: list[Wanted] = []
        end = offset + len(out)
        first = bisect.bisect_right(self._starts, offset) - 1
        for number in range(first, len(self._ids)):
            start, stop = self._starts[number], self._starts[number + 1]
            if start >= end:
                break
            if start >= offset and stop <= end:
                wanted.append(Wanted(self._ids[number], self._places[number], out[start - offset : stop - offset]))
                continue
            low, high = max(start, offset), min(stop, end)
            out[low - offset : high - offset] = self._chunk(number)[low - start : high - start]
        if len(wanted) == 1:
            self._repo.chunks.decoder.decode(wanted)
        elif wanted:
            self._repo.chunks.read(wanted, self._repo.progress)

    def _chunk(self, number: int) -> memoryview:
        if self._kept[0] != number:
            raw = memoryview(bytearray(self._places[number].raw_length))
            self._repo.chunks.decoder.decode([Wanted(self._ids[number], self._places[number], raw)])
            self._kept = (number, raw)
        return self._kept[1]


def stream(
    repo: Repository, entry: nodes.Tensor | nodes.Value, piece_bytes: int = 16 * MIB
) -> Iterator[memoryview | bytes]:
    """A segment's data in order, in pieces that use one buffer again and again."""
    if isinstance(entry, nodes.Value):
        yield entry.value if isinstance(entry.value, bytes) else b""
        return
    reader = SegmentReader(repo, entry)
    size = raw_bytes(entry)
    buffer = memoryview(bytearray(min(piece_bytes, size)))
    for offset in range(0, size, piece_bytes):
        piece = buffer[: min(piece_bytes, size - offset)]
        reader.read_into(offset, piece)
        yield piece
