"""Store's methods on branches, tags and reflogs."""

from __future__ import annotations

from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING

from castore.operations import branches
from castore.store.door import Door

if TYPE_CHECKING:
    from castore.history.reflog import ReflogEntry
    from castore.history.refs import Head


class RefNames(Door):
    """Names of commits."""

    def head(self) -> Head:
        """Where HEAD is: its branch (None: detached) and its commit (None: none yet)."""
        return self._repo.refs.head()

    def switch(self, branch: str) -> None:
        """Let HEAD follow another branch. Raises RevisionError when there is no such branch."""
        branches.switch(self._repo, branch, self._change(f"switch: to {branch}"))

    def branches(self) -> dict[str, str]:
        """Every branch and the id of its commit."""
        return self._repo.refs.branches()

    def branch(self, name: str, rev: str = "HEAD", force: bool = False) -> str:
        """Make a branch at a revision, or move it there with `force`; returns the commit's id.

        Raises RefNameError, RefExistsError, RevisionError, UsageError where that would move a protected branch back.
        """
        return branches.branch(self._repo, name, rev, force, self._change(f"branch: created from {rev}"))

    def delete_branch(self, name: str, force: bool = False) -> str:
        """Delete a branch and its reflog; returns the id that it was at. Raises RevisionError when there is none.

        Raises UsageError when HEAD follows it, when it is protected, or when it has commits that no other ref leads to
        and not `force`.
        """
        return branches.delete_branch(self._repo, name, force)

    def tags(self) -> dict[str, str]:
        """Every tag and the id of its commit."""
        return self._repo.refs.tags()

    def tag(self, name: str, rev: str = "HEAD", force: bool = False, sign: bool | str | Path = False) -> str:
        """Tag a commit, or move a tag with `force`; returns its id.

        sign: with the SSH key of castore.toml (True) or this one. Raises RefNameError, RefExistsError, RevisionError,
        UsageError (protected; no key; a store whose hash does not withstand forgery), SignatureError.
        """
        if sign is False:
            return branches.tag(self._repo, name, rev, force)
        from castore.operations.signatures import tag_signature

        def signed(commit_id: str) -> tuple[bytes, str]:
            return tag_signature(self._repo, name, commit_id, sign)

        return branches.tag(self._repo, name, rev, force, signed)

    def delete_tag(self, name: str) -> str:
        """Delete a tag; returns the id that it named. Raises RevisionError when there is none, UsageError."""
        return branches.delete_tag(self._repo, name)

    def reflog(self, ref: str = "HEAD") -> list[ReflogEntry]:
        """What a branch or HEAD was before, newest first."""
        return branches.reflog(self._repo, ref)

    def expire_reflog(self, ref: str | None, before: datetime) -> int:
        """Drop reflog entries older than `before`, of one ref or (None) of all; returns how many went."""
        return branches.expire_reflog(self._repo, ref, before)
