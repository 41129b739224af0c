"""Large pages for memory that is about to be filled: faulting it in takes longer than what it is filled with."""

from __future__ import annotations

import ctypes
import functools
import sys
from collections.abc import Callable

from castore.limits import MIB

HUGE_BYTES = 2 * MIB  # on x86-64, and on ARM with pages of 4 KiB
_LEAST_BYTES = 2 * HUGE_BYTES  # as NumPy for its own arrays: less may have no whole one in it
_MADV_HUGEPAGE = 14  # asm-generic/mman-common.h


def advise(address: int, nbytes: int) -> None:
    """Let the system use large pages for the whole ones in that memory, where it can. They are what is faulted in,
    and no more: nothing outside of [address, address + nbytes) is touched.

    A process that loads so takes half of the time for it. PyTorch leaves it to an environment variable
    (THP_MEM_ALLOC_ENABLE), NumPy does it by itself (NUMPY_MADVISE_HUGEPAGE).
    """
    madvise = _madvise()
    if madvise is None or nbytes < _LEAST_BYTES:
        return
    first = -(-address // HUGE_BYTES) * HUGE_BYTES
    end = (address + nbytes) // HUGE_BYTES * HUGE_BYTES
    madvise(first, end - first, _MADV_HUGEPAGE)  # advice: where the kernel has none of them, nothing changes


@functools.cache
def _madvise() -> Callable[[int, int, int], int] | None:
    """madvise(2) of the C library; None where it has no such advice."""
    if sys.platform != "linux":
        return None
    found = ctypes.CDLL(None).madvise
    found.argtypes = (ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int)
    found.restype = ctypes.c_int
    call: Callable[[int, int, int], int] = found
    return call
