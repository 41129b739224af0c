"""Memory of large tensors that are loaded is advised to be of large pages, and no memory beside it is."""

from __future__ import annotations

import ctypes
import mmap
import re
from pathlib import Path

import pytest
import torch

from castore.limits import MIB
from castore.objects import nodes
from castore.state.live.allocation import allocate
from castore.state.live.huge_pages import HUGE_BYTES, advise


def has_huge_pages() -> bool:
    try:
        return "[never]" not in Path("/sys/kernel/mm/transparent_hugepage/enabled").read_text()
    except FileNotFoundError:
        return False


def advised(address: int) -> bool:
    """Whether the mapping with this address was advised so: "hg" among its flags (proc(5), smaps)."""
    inside = False
    for line in Path("/proc/self/smaps").read_text().splitlines():
        bounds = re.match(r"([0-9a-f]+)-([0-9a-f]+) ", line)
        if bounds is not None:
            inside = int(bounds[1], 16) <= address < int(bounds[2], 16)
        elif inside and line.startswith("VmFlags:"):
            return "hg" in line.split()
    return False


def test_large_tensors_are_advised_in_all_of_their_whole_large_pages() -> None:
    memory = allocate(nodes.Tensor("tensor", "float32", (16 * MIB + 1,), chunks=bytes(16 * 65)), ("w",))
    assert isinstance(memory, torch.Tensor)
    start, end = memory.data_ptr(), memory.data_ptr() + memory.nbytes
    for address in range(-(-start // HUGE_BYTES) * HUGE_BYTES, end - HUGE_BYTES + 1, HUGE_BYTES):
        assert advised(address) == has_huge_pages()


@pytest.mark.parametrize(
    ("offset", "nbytes", "pages"),
    [
        (0, 8 * MIB, range(4)),
        (1, 8 * MIB, range(1, 4)),
        (0, 8 * MIB - 1, range(3)),
        (HUGE_BYTES - 4, 4 * MIB + 8, range(1, 3)),
        (0, 4 * MIB - 1, range(0)),  # too little to be worth it
        (0, 0, range(0)),
    ],
)
def test_whole_large_pages_are_advised_and_nothing_beside_them(offset: int, nbytes: int, pages: range) -> None:
    mapped = mmap.mmap(-1, 16 * MIB, mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
    held = ctypes.c_char.from_buffer(mapped)
    start = -(-ctypes.addressof(held) // HUGE_BYTES) * HUGE_BYTES + HUGE_BYTES
    advise(start + offset, nbytes)
    found = [page for page in range(-1, 5) if advised(start + page * HUGE_BYTES)]
    assert found == (list(pages) if has_huge_pages() else [])
    del held
    mapped.close()
