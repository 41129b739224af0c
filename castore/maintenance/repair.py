"""fsck --repair: what is damaged goes out of service, what is good is kept, and the index is made anew."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from castore import _fs
from castore.chunks.index import Place
from castore.chunks.salvage import intact_records
from castore.chunks.writer import PackWriter, move_in, pack_path
from castore.repo import Repository


def repair(repo: Repository, bad_packs: set[bytes], bad_records: set[bytes]) -> list[str]:
    """Replace damaged packs by new ones with their good records, and rebuild the index. Returns what was done.

    The damaged packs are kept in `quarantine/`. History is not touched: a commit that lost a chunk stays, and says so
    when it is loaded; committing the same state again writes the chunk again.
    """
    done = []
    with repo.lock.held():
        in_packs = {place.pack for one, place in _located(repo, bad_records)}
        on_disk = set(repo.chunks.files.ids())
        for pack_id in sorted((bad_packs | in_packs) & on_disk):
            done.append(_replace(repo, pack_id, bad_records))
        damaged = repo.chunks.access.rebuild()
    done.extend(damaged)
    done.append(f"rebuilt the index: {repo.chunks.access.index.count()} records")
    return done


def _located(repo: Repository, records: set[bytes]) -> Iterator[tuple[bytes, Place]]:
    ids = sorted(records)
    places = repo.chunks.access.use(lambda index: index.get_many(ids))
    return ((one, place) for one, place in zip(ids, places, strict=True) if place is not None)


def _replace(repo: Repository, pack_id: bytes, bad_records: set[bytes]) -> str:
    """Call with the lock held. The damaged pack gets a second name in quarantine, then the new one takes its place."""
    source = pack_path(repo.chunks.packs, pack_id)
    quarantine = repo.path / "quarantine"
    _fs.make_dir(quarantine)
    target = _free_name(quarantine, source.name)
    _fs.link(source, target)
    _fs.sync_dir(quarantine)
    writer = PackWriter(repo.chunks.incoming, repo.hash)
    new_id = b""
    kept = 0
    try:
        for entry, payload in intact_records(repo.chunks.files, pack_id):
            if entry.id not in bad_records:
                writer.append(entry, payload)
                kept += 1
        if kept:
            sealed = writer.seal()
            new_id = sealed.id
            repo.chunks.files.forget(pack_id)
            move_in(sealed, repo.chunks.packs)
            writer.close()
        else:
            writer.discard()
    except BaseException:
        writer.discard()
        raise
    repo.chunks.files.forget(pack_id)
    if new_id != pack_id:  # the same where every record is good and only what is around them was damaged
        _fs.remove(source)
        _fs.sync_dir(source.parent)
    return f"moved {source.name} to quarantine and kept {kept} of its records"


def _free_name(directory: Path, name: str) -> Path:
    number = 0
    while (directory / (name if not number else f"{name}.{number}")).exists():
        number += 1
    return directory / (name if not number else f"{name}.{number}")
