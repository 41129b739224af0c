"""The hash that names chunks and objects: chosen once, when the store is made."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import xxhash

from castore.errors import UnsupportedStoreError

checksum = xxhash.xxh3_64_intdigest  # of payloads: finds damage, names nothing
_XXH3 = "xxh3-128"
_XXH3_MID_BYTES = 240  # up to which the two hashes are made in other ways


@dataclass(frozen=True, slots=True)
class Hash:
    """A hash by its name in castore.toml; `size` in bytes."""

    name: str
    size: int
    digest: Callable[[bytes | bytearray | memoryview], bytes]

    def checksum_of(self, record_id: bytes, raw: bytes | bytearray | memoryview) -> int:
        """`checksum(raw)`, of bytes whose digest is known.

        XXH3's 128-bit hash of more than 240 bytes ends in its 64-bit hash, so that they need not be read once more
        (https://github.com/Cyan4973/xxHash/blob/dev/doc/xxhash_spec.md, "XXH3 Algorithm (for larger inputs)").
        """
        if self.name == _XXH3 and len(raw) > _XXH3_MID_BYTES:
            return int.from_bytes(record_id[8:], "big")
        return checksum(raw)


def by_name(name: str) -> Hash:
    """The hash of a store's setting. Raises UnsupportedStoreError for one that this version does not know."""
    if name == _XXH3:
        return Hash(name, 16, xxhash.xxh3_128_digest)
    if name == "blake3":
        import blake3

        return Hash(name, 32, lambda data: blake3.blake3(data).digest())
    raise UnsupportedStoreError(
        f"unknown hash {name!r}: castore knows xxh3-128 and blake3; a newer castore may know it"
    )
