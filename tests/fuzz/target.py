"""What a fuzzer drives."""

from __future__ import annotations

from collections.abc import Sequence
from random import Random
from typing import Protocol

from castore import limits

MIB = 1 << 20
LMDB_BYTES = 2 * limits.INDEX_MAP_BYTES


class Target(Protocol):
    """One format, and what reads it.

    growth_bytes: how much memory an execution may take. mapped_bytes: address space beside it that is never filled.
    """

    growth_bytes: int
    mapped_bytes: int

    def seeds(self) -> Sequence[bytes]:
        """Valid inputs, made by castore itself or by the libraries whose files it reads; the same ones each time."""
        ...

    def mutated(self, data: bytes, rng: Random) -> bytes:
        """An input like `data`, with checksums and hashes made right again after most changes."""
        ...

    def run(self, data: bytes) -> bool:
        """Read the input. True: it was taken, and what came out is right; False: it was not what it should be, and a
        reader may say so in another way than by an error.

        Raises CastoreError for what is refused. Any other exception is a defect.
        """
        ...
