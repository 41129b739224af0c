"""Records out of damaged packs into a new store, where each is decoded and held against its id."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path

from castore import _fs, codecs, dtypes, limits
from castore.chunks import pack
from castore.chunks.salvage import good_records
from castore.chunks.writer import PackWriter, move_in
from castore.errors import CorruptError
from castore.maintenance.decode_check import by_pack, undecodable
from castore.maintenance.repair import repair
from castore.maintenance.salvaging.sources import LooseFiles
from castore.objects import codec
from castore.repo import Repository

_MOST_ROUNDS = 8  # each takes out what was wrong and stood in the way of a good copy


def bring(files: Iterable[Path], target: Repository) -> int:
    """Copy all good records of packs into a new store, whose index then has those that decode to what they are called.

    Returns how many it has then. Raises StorageError for the target's disk.
    """
    loose = LooseFiles(files, target.hash)
    certain: set[tuple[bytes, tuple[bytes, ...]]] = set()
    target.progress.start("Reading packs", len(loose.paths), "packs")
    for pack_id in loose.ids():
        _copy(loose, pack_id, target, certain)
        loose.forget(pack_id)
        target.progress.advance(1)
    target.progress.finish()
    target.chunks.access.rebuild()
    for _ in range(_MOST_ROUNDS):
        bad = undecodable(target)
        if not bad:
            break
        repair(target, set(), by_pack(bad))
    _fs.remove_tree(target.path / "quarantine")
    return target.chunks.access.index.count()


def _copy(loose: LooseFiles, pack_id: bytes, target: Repository, certain: set[tuple[bytes, tuple[bytes, ...]]]) -> None:
    """Copy one pack. certain: what has been copied on the word of good footers, and is not needed twice; it grows.

    Without a footer what stands before a payload has no checksum: such a record may be called wrong, and another of
    its name is copied as well.
    """
    is_certain = loose.has_footer(pack_id)
    writer = PackWriter(target.chunks.incoming, target.hash)
    count = 0
    try:
        for entry, payload in good_records(loose, pack_id):
            if is_certain:
                if not certain.isdisjoint(((entry.id, ()), (entry.id, entry.bases))):
                    continue
                certain.add((entry.id, entry.bases))
            writer.append(entry if is_certain else _with_kind(entry, payload), payload)
            count += 1
        if not count:
            writer.discard()
            return
        sealed = writer.seal()
        with target.lock.held():
            move_in(sealed, target.chunks.packs)
    except BaseException:
        writer.discard()
        raise
    writer.close()


def _with_kind(entry: pack.Entry, payload: bytes) -> pack.Entry:
    """The entry with the kind that its bytes have: no id vouches for that, and a commit must be told from the rest."""
    kind = pack.CHUNK if entry.kind == pack.COMMIT else entry.kind
    if not entry.bases and entry.raw_length <= limits.MIB:
        raw = bytearray(entry.raw_length)
        try:
            codecs.by_id(entry.codec).decode(memoryview(payload), dtypes.by_code(entry.dtype), memoryview(raw))
            codec.decode(entry.id.hex(), bytes(raw))
            kind = pack.COMMIT
        except CorruptError:
            pass  # anything but a commit
    return replace(entry, kind=kind)
