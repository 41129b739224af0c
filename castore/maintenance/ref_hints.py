"""What a damaged ref may have been: other places that say where it was last. It is for a person to decide."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

from castore.copies import directories, opened
from castore.errors import CastoreError
from castore.repo import Repository


def hints(repo: Repository, what: str, name: str) -> str:
    """The end of a line on a branch or tag, with what its reflog, the audit log and copies say; "" for nothing.

    what: as in "branch 'main'".
    """
    is_branch = what.startswith("branch ")
    ref = f"refs/heads/{name}" if is_branch else f"refs/tags/{name}"
    found: dict[str, list[str]] = {}
    for source, commit_id in _said(repo, ref, name, is_branch):
        if _has(repo, commit_id):
            found.setdefault(commit_id, []).append(source)
    if not found:
        return ""
    listed = ", ".join(f"{commit_id} by {' and '.join(sources)}" for commit_id, sources in found.items())
    return f"; it was last at {listed}"


def _said(repo: Repository, ref: str, name: str, is_branch: bool) -> Iterator[tuple[str, str]]:
    with contextlib.suppress(CastoreError):
        for entry in [one for one in repo.refs.reflog.read(ref) if _has(repo, one.new)][-1:] if is_branch else ():
            yield "its reflog", entry.new
    with contextlib.suppress(CastoreError):
        entries = [one.event for one in repo.audit.read() if one.event.subject == ref and one.event.new]
        if entries:
            yield "the audit log", entries[-1].new or ""
    with contextlib.suppress(CastoreError):
        for directory in directories(repo):
            with contextlib.suppress(CastoreError), opened(repo, directory) as copies:
                commit_id = copies.refs.branch(name) if is_branch else copies.refs.tag(name)
                if commit_id is not None:
                    yield f"the copy in {directory}", commit_id


def _has(repo: Repository, commit_id: str) -> bool:
    return repo.chunks.access.index.get(bytes.fromhex(commit_id)) is not None
