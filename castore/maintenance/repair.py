"""fsck --repair: what is damaged goes out of service, what is good is kept, and the index is made anew.

In what order things reach the disk: the damaged pack's second name in `quarantine/`, a new pack with its good records,
the index, the end of the damaged pack's first name. A crash in between leaves a store that reads as before or after,
and the next repair goes on.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from castore import _fs
from castore.chunks.index import Index, Place
from castore.chunks.salvage import good_records
from castore.chunks.writer import PackWriter, SealedPack, move_in, pack_path
from castore.history.audit_line import Event
from castore.repo import Repository


def repair(repo: Repository, bad_packs: set[bytes], bad_in: Mapping[bytes, set[bytes]]) -> list[str]:
    """Replace damaged packs by new ones with their good records, and rebuild the index. Returns what was done.

    bad_in: damaged records, by the pack that they are in.

    The damaged packs are kept in `quarantine/`. History is not touched: a commit that lost a chunk stays, and says so
    when it is loaded; committing the same state again writes the chunk again.
    """
    done = []
    repo.require_features()
    with repo.lock.held():
        access = repo.chunks.access
        records = sum(map(len, bad_in.values()))
        repo.audit.append(Event("repair", detail=f"{len(bad_packs)} packs and {records} records were damaged"))
        access.refresh()
        replaced: dict[bytes, SealedPack | None] = {}
        for pack_id in sorted((bad_packs | bad_in.keys()) & set(repo.chunks.files.ids())):
            replaced[pack_id], kept = _replace(repo, pack_id, bad_in.get(pack_id, set()))
            done.append(f"moved pack {pack_id.hex()} to quarantine and kept {kept} of its records")
        access.use(lambda index: _follow(index, replaced))
        for pack_id, new in replaced.items():
            repo.chunks.files.forget(pack_id)
            if new is None or new.id != pack_id:  # the same where only what is around the records was damaged
                path = pack_path(repo.chunks.packs, pack_id)
                _fs.remove(path)
                _fs.sync_dir(path.parent)
        damaged = access.rebuild()
    done.extend(damaged)
    done.append(f"rebuilt the index: {access.index.count()} records")
    return done


def _replace(repo: Repository, pack_id: bytes, bad_records: set[bytes]) -> tuple[SealedPack | None, int]:
    """Copy a pack's good records to a new one, if there are any; how many. The damaged one gets its second name."""
    source = pack_path(repo.chunks.packs, pack_id)
    quarantine = repo.path / "quarantine"
    _fs.make_dir(quarantine)
    _fs.link(source, _free_name(quarantine, source.name))
    _fs.sync_dir(quarantine)
    writer = PackWriter(repo.chunks.incoming, repo.hash)
    kept = 0
    try:
        for entry, payload in good_records(repo.chunks.files, pack_id):
            if entry.id not in bad_records:
                writer.append(entry, payload)
                kept += 1
        if not kept:
            writer.discard()
            return None, 0
        sealed = writer.seal()
        move_in(sealed, repo.chunks.packs)
    except BaseException:
        writer.discard()
        raise
    writer.close()
    return sealed, kept


def _follow(index: Index, replaced: Mapping[bytes, SealedPack | None]) -> None:
    """Let the index name the new packs instead of the damaged ones, which are still there."""
    places = {old: {e.id: Place.of(new.id, e) for e in new.entries} if new else {} for old, new in replaced.items()}
    records: list[tuple[bytes, Place]] = []
    gone: list[bytes] = []
    for record_id, place in index.items():
        if place.pack in places:
            moved = places[place.pack].get(record_id)
            records.append((record_id, moved)) if moved is not None else gone.append(record_id)
    new_packs = [(new.id, new.size) for new in replaced.values() if new is not None]
    gone_packs = replaced.keys() - {new_id for new_id, _ in new_packs}
    index.update(packs=new_packs, records=records, gone_packs=gone_packs, gone_records=gone, swept=True)


def _free_name(directory: Path, name: str) -> Path:
    number = 0
    while (directory / (name if not number else f"{name}.{number}")).exists():
        number += 1
    return directory / (name if not number else f"{name}.{number}")
