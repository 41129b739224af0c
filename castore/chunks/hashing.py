"""The hash that names chunks and objects: chosen once, when the store is made."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import xxhash

from castore.errors import UnsupportedStoreError

checksum = xxhash.xxh3_64_intdigest  # of payloads: finds damage, names nothing


@dataclass(frozen=True, slots=True)
class Hash:
    """A hash by its name in castore.toml; `size` in bytes."""

    name: str
    size: int
    digest: Callable[[bytes | bytearray | memoryview], bytes]


def by_name(name: str) -> Hash:
    """The hash of a store's setting. Raises UnsupportedStoreError for one that this version does not know."""
    if name == "xxh3-128":
        return Hash(name, 16, xxhash.xxh3_128_digest)
    if name == "blake3":
        import blake3

        return Hash(name, 32, lambda data: blake3.blake3(data).digest())
    raise UnsupportedStoreError(
        f"unknown hash {name!r}: castore knows xxh3-128 and blake3; a newer castore may know it"
    )
