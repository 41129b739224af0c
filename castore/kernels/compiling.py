"""Says so before a kernel is compiled for the first time on a machine.

Numba keeps compiled kernels in its disk cache; what is loaded from there is not announced.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Callable
from typing import Any, Literal

Listener = Callable[[str], None]

on_compile: Listener | None = None
"""Called with one line of text before each compilation, from the thread that compiles; set it at the program's rim."""

_lock = threading.RLock()
# Who forks waits for a thread that compiles: the child would wait for it for ever.
os.register_at_fork(before=_lock.acquire, after_in_parent=_lock.release, after_in_child=_lock.release)

# Most of the time that a kernel takes to compile can go into code that never runs: wrappers for callers that there are
# not, reference counts of arrays that no kernel makes, errors that none raises. For the same reason kernels take arrays
# apart by indices, not by slices, `view`, `min` or assignments to a part: each of these is a function that Numba has to
# compile as well, and a shape that might not fit brings along what formats the message.
_TOLD: dict[str, Any] = {"nogil": True, "error_model": "numpy", "no_cfunc_wrapper": True, "_nrt": False}

Lookup = Callable[[str, int], tuple[Any, tuple[Any, ...]]]


class Kernels:
    """Compiled functions by name and word width, made ready when first asked for.

    lookup: (name, width) -> (the dispatcher, the types of its arguments); importing it may load Numba.
    """

    def __init__(self, lookup: Lookup) -> None:
        self._lookup = lookup
        self._ready: dict[tuple[str, int], Any] = {}

    def __call__(self, name: str, width: int) -> Any:
        """The kernel `name` for words of `width` bytes; 0 where it has none."""
        ready = self._ready.get((name, width))
        if ready is None:
            ready, signature = self._lookup(name, width)
            compile_kernel(ready, signature)
            self._ready[name, width] = ready
        return ready


def kernel(function: Callable[..., Any]) -> Any:
    """A function that Python calls; compiled by `Kernels`, and kept on disk where there is a place for it."""
    try:
        return _compiled(function, cache=True)
    except RuntimeError:  # Numba found no directory that it may write: compile in every process rather than fail
        return _compiled(function)


def helper(function: Callable[..., Any]) -> Any:
    """A function that kernels call: compiled once for all of them, and once more with each."""
    return _compiled(function, no_cpython_wrapper=True)


def step(function: Callable[..., Any]) -> Any:
    """A helper of a few instructions, which becomes a part of its callers' loops."""
    return _compiled(function, no_cpython_wrapper=True, forceinline=True)


def _compiled(function: Callable[..., Any], **told: bool) -> Any:
    import numba

    njit: Any = numba.njit  # its types leave out some of what it takes
    return njit(**_TOLD, **told)(function)


def array_type(kind: Any, dims: int = 1, writable: bool = False, layout: Literal["C", "A"] = "C") -> Any:
    """The most permissive type of an argument: aligned or not, read-only or not, all arrays convert to it without
    another compilation. kind: Numba's type of an element."""
    from numba import types

    return types.Array(kind, dims, layout, readonly=not writable, aligned=kind is types.uint8)


def compile_kernel(dispatcher: Any, signature: tuple[Any, ...]) -> None:
    """Compile `dispatcher` for `signature`, or load it from the cache, and let it be compiled for nothing else."""
    from numba.core import event

    # One at a time: two threads that need a kernel at once would both pay for it.
    with _lock:
        if signature in dispatcher.overloads:
            return
        name = f"{dispatcher.py_func.__name__} for {signature[0].dtype.bitwidth} bits"

        class Announce(event.Listener):
            def on_start(self, started: Any) -> None:
                if on_compile is not None and started.data["dispatcher"] is dispatcher:
                    on_compile(f"compiling kernel {name} (once per machine)")

            def on_end(self, ended: Any) -> None:
                pass

        with event.install_listener("numba:compile", Announce()):
            dispatcher.compile(signature)
