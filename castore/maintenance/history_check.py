"""Whether every ref and log leads to commits, and every commit to its tree and its chunks."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence

from castore.chunks import pack
from castore.chunks.closure import closure, depths
from castore.chunks.index import Place
from castore.errors import CorruptError, MissingError
from castore.history.drops import Drop
from castore.maintenance.kept_part import kept_part
from castore.maintenance.ref_hints import hints
from castore.maintenance.reports import FsckError
from castore.objects import references
from castore.objects.commit import Commit
from castore.repo import Repository


def check_history(repo: Repository) -> tuple[list[str], list[FsckError], dict[bytes, FsckError]]:
    """Walk from every ref. Returns the commits that can be read, what is wrong with refs, logs and commits, and the
    records that history needs and no pack has (or whose object is damaged)."""
    errors: list[FsckError] = []
    missing: dict[bytes, FsckError] = {}
    commits: list[str] = []
    pending, named = _tips(repo, errors)
    seen: set[str] = set()
    trees: set[bytes] = set()
    drops = _drops(repo)
    repo.progress.start("Checking history", None, "commits")
    while pending:
        commit_id, source = pending.pop()
        if commit_id in seen:
            continue
        seen.add(commit_id)
        try:
            commit = repo.commit(commit_id)
        except CorruptError as error:
            problem = f"{source} leads to commit {commit_id}, which cannot be read: {error}"
            if source in named:
                problem += hints(repo, source, named[source])
            errors.append(FsckError(problem, record=commit_id, commits=(commit_id,)))
            continue
        commits.append(commit_id)
        _check_provenance(repo, commit, trees, missing)
        _check_state(repo, commit, drops.get(commit_id), trees, missing)
        pending.extend((parent, f"commit {commit_id}") for parent in commit.parents)
        repo.progress.advance(1)
    repo.progress.finish()
    return commits, errors, missing


def _drops(repo: Repository) -> dict[str, Drop]:
    """What was dropped of which commit, as far as it can be read."""
    try:
        return repo.drops.read()
    except CorruptError:
        return {}  # told where the file is looked at


def _tips(repo: Repository, errors: list[FsckError]) -> tuple[list[tuple[str, str]], dict[str, str]]:
    """(commit id, what names it) of every ref and log, and refs' names by what they are called; what can't be read of a
    ref is an error."""
    found: list[tuple[str, str]] = []
    refs = repo.refs
    try:
        head = refs.head()
        if head.commit is not None:
            found.append((head.commit, "HEAD"))
    except CorruptError as error:
        errors.append(FsckError(str(error)))
    with contextlib.suppress(CorruptError):  # told where the file is looked at
        found.extend((pinned, "a pin") for pinned in repo.pins.readable())
    named = [(f"branch {name!r}", refs.branch, name) for name in refs.branch_names()]
    named += [(f"tag {name!r}", refs.tag, name) for name in refs.tag_names()]
    for what, read, name in named:
        try:
            commit = read(name)
        except CorruptError as error:
            errors.append(FsckError(f"{error}{hints(repo, what, name)}"))
        else:
            if commit is not None:
                found.append((commit, what))
    tips = [*_logged(repo), *found]  # the last are looked at first: a branch is a better name than its log
    return tips, {what: name for what, _, name in named}


def _logged(repo: Repository) -> Iterator[tuple[str, str]]:
    """What reflogs lead to and the store has: a log outlives what gc has taken."""
    reflog = repo.refs.reflog
    for ref in reflog.refs():
        with contextlib.suppress(CorruptError):  # told where the file is looked at
            ids = {one for entry in reflog.read(ref) for one in (entry.old, entry.new) if one is not None}
            listed = sorted(ids)
            places = repo.chunks.access.use(lambda index, ids=listed: index.get_many([*map(bytes.fromhex, ids)]))  # type: ignore[misc]
            there = [one for one, place in zip(listed, places, strict=True) if place is not None]
            yield from ((one, f"the reflog of {ref}") for one in there)


def _check_provenance(repo: Repository, commit: Commit, seen: set[bytes], missing: dict[bytes, FsckError]) -> None:
    if commit.provenance is None or (record_id := bytes.fromhex(commit.provenance)) in seen:
        return
    seen.add(record_id)
    try:
        repo.provenance(commit)
    except CorruptError as error:
        missing[record_id] = FsckError(str(error), record=commit.provenance)


def _check_state(
    repo: Repository, commit: Commit, drop: Drop | None, seen: set[bytes], missing: dict[bytes, FsckError]
) -> None:
    """That what a commit needs is there: the commit alone, where its state was dropped."""
    if drop is None:
        _check_tree(repo, bytes.fromhex(commit.tree), seen, missing)
    elif drop.components:
        try:
            _, chunks = kept_part(repo, commit, drop)
        except CorruptError as error:
            missing[bytes.fromhex(commit.tree)] = FsckError(str(error), record=commit.tree)
            return
        size = repo.hash.size
        _check_chains(repo, [chunks[i : i + size] for i in range(0, len(chunks), size)], missing)


def _check_tree(repo: Repository, tree_id: bytes, seen: set[bytes], missing: dict[bytes, FsckError]) -> None:
    size = repo.hash.size
    pending: list[tuple[bytes, bool]] = [(tree_id, True)]
    while pending:
        object_id, is_root = pending.pop()
        if object_id in seen:
            continue
        seen.add(object_id)
        try:
            data = repo.chunks.object(object_id, pack.TREE)
            found = (references.of_node if is_root else references.of_segment)(data, size)
            chunks = bytes(found.chunks) + b"".join(repo.chunks.object(one, pack.CHUNK_LIST) for one in found.lists)
        except CorruptError as error:
            missing[object_id] = FsckError(str(error), record=object_id.hex())
            continue
        pending.extend((segment, False) for segment in found.segments)
        ids = [one for i in range(0, len(chunks), size) if (one := chunks[i : i + size]) not in seen]
        seen.update(ids)
        _check_chains(repo, ids, missing)


def _check_chains(repo: Repository, ids: list[bytes], missing: dict[bytes, FsckError]) -> None:
    """Each chunk and each base below it must be in the index."""
    try:
        depths(repo.chunks.decoder.closure(dict(zip(ids, repo.chunks.places(ids), strict=True))))
        return
    except CorruptError:
        pass  # at least one: which ones is told below
    for chunk_id in ids:
        problem = _chain_problem(repo, chunk_id)
        if problem:
            missing[chunk_id] = FsckError(problem, record=chunk_id.hex())


def _chain_problem(repo: Repository, chunk_id: bytes) -> str:
    index = repo.chunks.access.index
    place = index.get(chunk_id)
    if place is None:
        return "a chunk is in no pack"

    def places(ids: Sequence[bytes]) -> list[Place]:
        found = index.get_many(ids)
        if None in found:
            base = ids[found.index(None)]
            raise MissingError(f"a chunk's delta needs the base {base.hex()}, which is in no pack")
        return [one for one in found if one is not None]

    try:
        depths(closure({chunk_id: place}, places))
    except CorruptError as error:
        return str(error)
    return ""
