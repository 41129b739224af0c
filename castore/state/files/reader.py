"""A committed file as a file object, and the states that `.pt` and `.safetensors` files hold."""

from __future__ import annotations

import bisect
import io
import itertools
import math
from collections import OrderedDict
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from castore import limits
from castore.dtypes import by_name
from castore.errors import CastoreError, CorruptError, StateError
from castore.objects.nodes import File, Tensor, Value
from castore.state.files.layout import ForeignContent
from castore.state.files.safetensors import PREFIX, Entry, parse_header

if TYPE_CHECKING:
    import torch

ReadSegment = Callable[[Tensor | Value, int, int], bytes]  # (tensor, first byte, nbytes) -> exactly these bytes

_PIECE_BYTES = 8 * limits.MIB  # what one call of ReadSegment is asked for at most
_SMALL_READ_BYTES = 64 * 1024  # below this a read is served from a block, above it goes straight to the segments
_BLOCK_BYTES = 256 * 1024
_BLOCKS = 4  # torch goes back and forth between the zip directory and the records


class SegmentFile(io.RawIOBase):
    """A read-only, seekable file over a committed File; holds at most 1 MiB of it.

    Large reads (torch reads a storage in one) go from the segments into the caller's buffer. Small ones, such as zip
    headers and small tensors, are served from blocks that never reach into a large segment, whose chunks would
    otherwise be decoded twice.
    """

    def __init__(self, node: File, read_segment: ReadSegment) -> None:
        super().__init__()
        self._size = node.size
        self._read_segment = read_segment
        self._segments = [segment for _, segment in node.segments]
        self._starts = list(itertools.accumulate(map(segment_bytes, self._segments), initial=0))
        self._at = 0
        self._blocks: OrderedDict[int, bytearray] = OrderedDict()  # by offset
        self.failure: CastoreError | None = None  # torch replaces what a read raised by an error of its own
        if self._starts[-1] != node.size:
            raise CorruptError(f"a file of {node.size} bytes has segments of {self._starts[-1]}; run `castore fsck`")

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def tell(self) -> int:
        return self._at

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        origin = {io.SEEK_SET: 0, io.SEEK_CUR: self._at, io.SEEK_END: self._size}[whence]
        if origin + offset < 0:
            raise ValueError("seek to before the start of the file")
        self._at = origin + offset
        return self._at

    def readinto(self, buffer: Any) -> int:
        """As for any raw file. Raises what `read_segment` raises."""
        out = memoryview(buffer).cast("B")
        nbytes = max(0, min(len(out), self._size - self._at))
        try:
            if nbytes < _SMALL_READ_BYTES:
                self._read_small(out[:nbytes])
            else:
                self._read_through(self._at, out[:nbytes])
        except CastoreError as error:
            self.failure = error
            raise
        self._at += nbytes
        return nbytes

    def _read_small(self, out: memoryview) -> None:
        done = 0
        while done < len(out):
            start, block = self._block(self._at + done)
            piece = block[self._at + done - start : self._at + len(out) - start]
            out[done : done + len(piece)] = piece
            done += len(piece)

    def _block(self, at: int) -> tuple[int, bytearray]:
        """A cached block that holds the byte at `at`, read if need be; and where it starts."""
        for start, block in self._blocks.items():
            if start <= at < start + len(block):
                self._blocks.move_to_end(start)
                return start, block
        fresh = bytearray(self._block_bytes(at))
        self._read_through(at, memoryview(fresh))
        self._blocks[at] = fresh
        if len(self._blocks) > _BLOCKS:
            self._blocks.popitem(last=False)
        return at, fresh

    def _block_bytes(self, at: int) -> int:
        index = bisect.bisect_right(self._starts, at) - 1
        end = self._starts[index + 1]
        while index + 2 < len(self._starts) and self._starts[index + 2] - self._starts[index + 1] < _SMALL_READ_BYTES:
            index += 1
            end = self._starts[index + 1]
            if end - at >= _BLOCK_BYTES:
                break
        return min(end - at, _BLOCK_BYTES)

    def _read_through(self, at: int, out: memoryview) -> None:
        """Fill `out` from the segments at `at`."""
        index = bisect.bisect_right(self._starts, at) - 1
        while out:
            first_byte = at - self._starts[index]
            nbytes = min(len(out), self._starts[index + 1] - at, _PIECE_BYTES)
            if nbytes:
                out[:nbytes] = self._read_segment(self._segments[index], first_byte, nbytes)
                out, at = out[nbytes:], at + nbytes
            index += at >= self._starts[index + 1]


def segment_bytes(segment: Tensor | Value) -> int:
    """The length of a segment. Raises CorruptError for an unknown dtype."""
    if isinstance(segment, Tensor):
        return math.prod(segment.shape) * by_name(segment.dtype).width
    return len(segment.value) if isinstance(segment.value, bytes) else 0


def load_pt(file: io.IOBase) -> Any:
    """The state that a `.pt` holds, with `weights_only` semantics, on the CPU.

    Raises StateError for what torch can't or won't load, and what a SegmentFile's reads raise.
    """
    import torch

    try:
        return torch.load(file, map_location="cpu", weights_only=True)  # type: ignore[arg-type]
    except CastoreError:
        raise
    except Exception as error:  # torch raises nearly anything: RuntimeError, UnpicklingError, KeyError, EOFError ...
        if isinstance(file, SegmentFile) and file.failure is not None:
            raise file.failure from None
        why = " ".join(str(error).split())
        refused = "Unsupported " in why or "weights_only" in why or "WeightsUnpickler" in why
        reason = "it holds Python objects that weights_only refuses" if refused else f"torch says {why[:200]!r}"
        raise StateError(
            f"cannot load the state of this .pt: {reason}; `castore checkout` gives the file back"
        ) from error


def load_safetensors(node: File, read_segment: ReadSegment) -> dict[str, torch.Tensor]:
    """The tensors of a safetensors file by name, in its header's order, on the CPU. Its metadata is ignored.

    node: of format "safetensors". Raises CorruptError when its segments and its header disagree.
    """
    import torch

    file = SegmentFile(node, read_segment)
    try:
        (header_bytes,) = PREFIX.unpack(file.read(PREFIX.size) or b"")
        if header_bytes > min(limits.MAX_SAFETENSORS_HEADER_BYTES, node.size):
            raise ForeignContent("header larger than the file")
        entries = parse_header(file.read(header_bytes) or b"")
    except (ForeignContent, ValueError) as error:
        raise CorruptError(f"a committed safetensors file can't be read: {error}; run `castore fsck`") from None
    state: dict[str, torch.Tensor] = {}
    for entry in entries:
        data = torch.empty(entry.end - entry.start, dtype=torch.uint8)
        _fill(file, PREFIX.size + header_bytes + entry.start, data.numpy().data)
        state[entry.name] = _typed(data, entry)
    return state


def _fill(file: SegmentFile, at: int, out: memoryview) -> None:
    file.seek(at)
    if file.readinto(out) != len(out):
        raise CorruptError("a committed safetensors file ends before its last tensor; run `castore fsck`")


def _typed(data: torch.Tensor, entry: Entry) -> torch.Tensor:
    import torch

    dtype = getattr(torch, entry.dtype.name, None)
    if dtype is None:
        raise StateError(
            f"this torch has no dtype {entry.dtype.name}, which tensor {entry.name!r} has; "
            "use a newer torch, or `castore checkout` to get the file back"
        )
    return data.view(dtype).reshape(entry.shape)
