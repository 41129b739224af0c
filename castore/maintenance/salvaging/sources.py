"""A damaged store as a directory of files: nothing in it is trusted, and nothing in it is written."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterable, Iterator
from pathlib import Path

from castore import config, repo
from castore.chunks import hashing, pack
from castore.chunks.hashing import Hash
from castore.chunks.reader import PackFiles
from castore.chunks.salvage import intact_records
from castore.errors import CastoreError, CorruptError, StorageError, StoreNotFoundError, UsageError

_BLOCK_BYTES = 4096
_HASHES = {16: "xxh3-128", 32: "blake3"}


def store_in(directory: Path) -> Path:
    """What there is of a store in a directory: its `.castore`, else itself. Raises StoreNotFoundError."""
    if not directory.is_dir():
        raise StoreNotFoundError(f"{directory} is no directory: name the one that holds the damaged store")
    inside = directory / repo.NAME
    return inside if inside.is_dir() else directory


def pack_files(root: Path) -> Iterator[Path]:
    """All files below a directory that are packs, or are called so: in service or not, under whatever name."""
    for directory, names, files in os.walk(root):
        if Path(directory) == root:
            names[:] = [name for name in names if name != "index"]
        for name in sorted(files):
            path = Path(directory, name)
            if not path.is_symlink() and path.is_file() and (".pack" in name or _begins_as_pack(path)):
                yield path


def _begins_as_pack(path: Path) -> bool:
    return _head(path).startswith(pack.MAGIC)


def _head(path: Path) -> bytes:
    try:
        with path.open("rb") as file:
            return file.read(pack.HEADER_BYTES)
    except OSError:
        return b""


def settings_of(root: Path) -> config.Config | None:
    """What castore.toml says; None where that can't be read."""
    try:
        return config.read(root)
    except CastoreError:
        return None


def hash_of(files: Iterable[Path], settings: config.Config | None) -> Hash:
    """The hash that names records, by the headers of packs, else by castore.toml, else by trial. Raises UsageError."""
    listed = list(files)
    heads = [head for path in listed if len(head := _head(path)) == pack.HEADER_BYTES]
    sizes = Counter(head[10] for head in heads if head.startswith(pack.MAGIC) and head[10] in _HASHES)
    if sizes:
        return hashing.by_name(_HASHES[sizes.most_common(1)[0][0]])
    if settings is not None:
        return hashing.by_name(settings.hash)
    for name in _HASHES.values():
        loose = LooseFiles(listed, hashing.by_name(name))
        if any(True for one in loose.ids() for _ in intact_records(loose, one)):
            return hashing.by_name(name)
    raise UsageError("there is no record in any of its files: this is no store, or nothing of it is left")


class LooseFiles(PackFiles):
    """Packs by their numbers, wherever they lie and whatever they are called. What a disk refuses to read is zeros."""

    def __init__(self, paths: Iterable[Path], hash_: Hash) -> None:
        super().__init__(Path(), hash_)
        self.paths = {number.to_bytes(hash_.size, "big"): path for number, path in enumerate(paths)}

    def ids(self) -> Iterator[bytes]:
        return iter(self.paths)

    def _path(self, pack_id: bytes) -> Path:
        return self.paths[pack_id]

    def _is_named(self, pack_id: bytes, footer_hash: bytes) -> bool:
        return True

    def read_into(self, pack_id: bytes, offset: int, out: memoryview) -> None:
        try:
            super().read_into(pack_id, offset, out)
        except StorageError:
            for start in range(0, len(out), _BLOCK_BYTES):
                block = out[start : start + _BLOCK_BYTES]
                try:
                    super().read_into(pack_id, offset + start, block)
                except StorageError:
                    block[:] = bytes(len(block))

    def has_footer(self, pack_id: bytes) -> bool:
        """Whether the footer is good, so that what it says of records is."""
        try:
            self.footer(pack_id)
        except CorruptError:
            return False
        return True
