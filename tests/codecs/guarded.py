"""Memory between pages that nobody may touch: who reads or writes one byte too far is killed by the system."""

from __future__ import annotations

import ctypes
import mmap
from typing import Any

import numpy as np
from numpy.typing import NDArray

_PAGE = mmap.PAGESIZE
_NOTHING = 0  # PROT_NONE
_libc = ctypes.CDLL(None, use_errno=True)
FILLER = 0xC3


class Guarded:
    """Room for `size` bytes at most, which borders on a forbidden page on either side."""

    def __init__(self, size: int) -> None:
        self._pages = -(-size // _PAGE) or 1
        self._map = mmap.mmap(-1, (self._pages + 2) * _PAGE)
        start = ctypes.addressof(ctypes.c_char.from_buffer(self._map))
        for at in (0, (self._pages + 1) * _PAGE):
            if _libc.mprotect(ctypes.c_void_p(start + at), ctypes.c_size_t(_PAGE), _NOTHING):
                raise OSError(ctypes.get_errno(), "mprotect")
        self._room = memoryview(self._map)[_PAGE : (self._pages + 1) * _PAGE]
        self.size = self._room.nbytes

    def take(self, size: int, at_end: bool) -> memoryview:
        """The last, or the first, `size` bytes; all others become FILLER."""
        self._room[:] = bytes([FILLER]) * self.size
        return self._room[self.size - size :] if at_end else self._room[:size]

    def holds(self, data: bytes, at_end: bool) -> bool:
        """Whether the room is as `take` made it, but for `data` where its bytes were."""
        rest = bytes([FILLER]) * (self.size - len(data))
        return self._room == (rest + data if at_end else data + rest)


class GuardedScratch:
    """Stands in for `castore.kernels.scratch.array`: every array is exactly as long as it was asked for."""

    def __init__(self, at_end: bool) -> None:
        self._at_end = at_end
        self._rooms: dict[tuple[str, str], Guarded] = {}

    def __call__(self, name: str, size: int, dtype: Any) -> NDArray[Any]:
        kind = np.dtype(dtype)
        key, needed = (name, kind.str), size * kind.itemsize
        room = self._rooms.get(key)
        if room is None or room.size < needed:
            room = self._rooms[key] = Guarded(2 * needed)
        return np.frombuffer(room.take(needed, self._at_end), kind)
