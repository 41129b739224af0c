"""One thread for each product of NumPy's, where there are threads of ours that make them."""

from __future__ import annotations

from contextlib import AbstractContextManager


def one_thread_each() -> AbstractContextManager[object]:
    """While the body runs, BLAS starts no threads of its own, in all of this process.

    Those that it starts wait for more work without rest, and take the processors from ours: repack took twice as long.
    """
    from threadpoolctl import threadpool_limits  # looks through all libraries that are loaded: 2 ms

    limits: AbstractContextManager[object] = threadpool_limits(1, user_api="blas")
    return limits
