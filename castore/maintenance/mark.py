"""Mark: every record that history needs, from the refs down to the bases of deltas."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime

from castore.chunks import pack
from castore.errors import MissingError
from castore.history.drops import Drop
from castore.history.reflog import recent
from castore.maintenance.kept_part import kept_part
from castore.objects import references
from castore.objects.commit import Commit
from castore.repo import Repository

_BATCH = 4096


def logged(repo: Repository, expire_before: datetime) -> set[str]:
    """The commits that reflog entries name which have not expired. Those of protected branches never do."""
    protection = repo.protection()
    found: set[str | None] = set()
    for ref in repo.refs.reflog.refs():
        entries = repo.refs.reflog.read(ref)
        for entry in entries if protection.keeps_log(ref) else recent(entries, expire_before):
            found |= {entry.old, entry.new}
    return {one for one in found if one is not None}


class Marker:
    """The ids of all live records; about 100 bytes of memory for each. Marking again reads only what is new.

    Of a commit whose state was dropped only the commit itself is live, and what says how it came about; of one that
    lost components what is left too.
    """

    def __init__(self, repo: Repository, tolerant: bool = False) -> None:
        """tolerant: a chunk that is in no pack is noted in `lost`; it needs nothing now. Lost trees are not."""
        self._repo = repo
        self._tolerant = tolerant
        self._drops = repo.drops.read()
        self.lost: list[bytes] = []
        self._size = repo.hash.size
        self.live: set[bytes] = set()
        self.commits: set[str] = set()
        # Gone through, each kind by itself: an id seen as a root was read as something else, and what was marked for a
        # state without some of its components was not gone through.
        self._roots: set[bytes] = set()
        self._segments: set[bytes] = set()
        self._lists: set[bytes] = set()

    def mark(self, commits: Iterable[str], collect: bool = False) -> list[bytes]:
        """Mark these commits, their ancestors and all that they need.

        Returns what was not marked before, if `collect`: a list of everything costs memory for every record.

        Raises CorruptError, MissingError: nothing may be deleted on the word of a broken history.
        """
        collected: list[bytes] = []
        open_commits = list(commits)
        while open_commits:
            commit_id = open_commits.pop()
            if commit_id in self.commits:
                continue
            commit = self._repo.commit(commit_id)
            self.commits.add(commit_id)
            fresh: list[bytes] = []
            self._add(bytes.fromhex(commit_id), fresh)
            if commit.provenance is not None:
                self._add(bytes.fromhex(commit.provenance), fresh)
            self._state(commit, self._drops.get(commit_id), fresh)
            open_commits.extend(commit.parents)
            self._bases(fresh)
            if collect:
                collected += fresh
            self._repo.progress.advance(1)
        return collected

    def mark_again(self) -> list[bytes]:
        """Mark what was not, since its state was dropped, and is needed now: the same commit was made once more.

        Call with the store's lock held. Returns what was not marked before.
        """
        before, self._drops = self._drops, self._repo.drops.read()
        fresh: list[bytes] = []
        for commit_id in before.keys() & self.commits:
            if self._drops.get(commit_id) != before[commit_id]:
                self._state(self._repo.commit(commit_id), self._drops.get(commit_id), fresh)
        self._bases(fresh)
        return fresh

    def _state(self, commit: Commit, drop: Drop | None, fresh: list[bytes]) -> None:
        if drop is None:
            self._tree(bytes.fromhex(commit.tree), fresh)
        elif drop.components:
            objects, chunks = kept_part(self._repo, commit, drop)
            for record_id in objects:
                self._add(record_id, fresh)
            self._chunks(chunks, fresh)

    def _add(self, record_id: bytes, fresh: list[bytes]) -> bool:
        if record_id in self.live:
            return False
        self.live.add(record_id)
        fresh.append(record_id)
        return True

    def _tree(self, tree_id: bytes, fresh: list[bytes]) -> None:
        self._add(tree_id, fresh)
        if tree_id in self._roots:
            return
        self._roots.add(tree_id)
        get = self._repo.chunks.object
        pending = [references.of_node(get(tree_id, pack.TREE), self._size)]
        while pending:
            found = pending.pop()
            self._chunks(bytes(found.chunks), fresh)
            for list_id in found.lists:
                self._add(list_id, fresh)
                if list_id not in self._lists:
                    self._lists.add(list_id)
                    self._chunks(get(list_id, pack.CHUNK_LIST), fresh)
            for segment_id in found.segments:
                self._add(segment_id, fresh)
                if segment_id not in self._segments:
                    self._segments.add(segment_id)
                    pending.append(references.of_segment(get(segment_id, pack.TREE), self._size))

    def _chunks(self, ids: bytes, fresh: list[bytes]) -> None:
        for start in range(0, len(ids), self._size):
            self._add(ids[start : start + self._size], fresh)

    def _bases(self, fresh: list[bytes]) -> None:
        """Deltas need their bases, which need theirs: `fresh` grows while it is gone through."""
        done = 0
        while done < len(fresh):
            batch = fresh[done : done + _BATCH]
            done += len(batch)
            places = self._repo.chunks.access.use(lambda index, ids=batch: index.get_many(ids))  # type: ignore[misc]
            for record_id, place in zip(batch, places, strict=True):
                if place is None:
                    self._miss(record_id)
                else:
                    for base in place.bases:
                        self._add(base, fresh)

    def _miss(self, record_id: bytes) -> None:
        if not self._tolerant:
            raise MissingError(f"record {record_id.hex()} is in no pack; run `castore fsck` to see what it affects")
        self.lost.append(record_id)
