"""Content-defined boundaries for bytes that we can't tell tensors in: an insertion moves one chunk, not all after it.

FastCDC (Xia et al., 2020) by the library `pyfastcdc`. The parameters are part of what makes the same file dedup between
versions, and are fixed: a change costs no correctness, only all the dedup against what was committed before.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

MIN_BYTES = 64 * 1024
AVERAGE_BYTES = 256 * 1024
MAX_BYTES = 1024 * 1024

_SEED = 0  # the gear table of the paper's reference code


def cut(read: Callable[[int, int], bytes], size: int) -> Iterator[tuple[int, int]]:
    """(offset, length) of each chunk of `size` bytes, in order; `read(offset, nbytes)` gives exactly these bytes.

    Every chunk but the last has MIN_BYTES to MAX_BYTES. Needs 2 MiB of memory whatever the size.
    """
    if size <= MIN_BYTES:
        if size:
            yield 0, size
        return
    from pyfastcdc import FastCDC  # 50 ms: only those who cut bytes pay for it

    chunker = FastCDC(AVERAGE_BYTES, min_size=MIN_BYTES, max_size=MAX_BYTES, normalized_chunking=1, seed=_SEED)
    for chunk in chunker.cut_stream(_Stream(read, size)):
        yield chunk.offset, chunk.length


class _Stream:
    """Positional reads as the stream that the library reads from."""

    def __init__(self, read: Callable[[int, int], bytes], size: int) -> None:
        self._read = read
        self._size = size
        self._at = 0

    def readinto(self, out: memoryview) -> int:
        nbytes = min(len(out), self._size - self._at)
        if nbytes:
            out[:nbytes] = self._read(self._at, nbytes)
            self._at += nbytes
        return nbytes
