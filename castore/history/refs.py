"""Refs: the names of commits. Branches move, tags stay, HEAD says which branch is meant when none is named.

Reading needs no lock. What changes a ref is called with the store's lock held (`with refs.lock.held(): ...`), so that
a compare-and-swap is one and several refs can change with what they depend on. The rename of a ref's file is the moment
at which history changes: everything it needs is durable before, nothing that matters comes after.
"""

from __future__ import annotations

import contextlib
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from castore import _fs, limits
from castore.errors import CorruptError, RefConflictError, RefExistsError, RevisionError, UsageError
from castore.history import ref_files
from castore.history.audit import AuditLog
from castore.history.audit_line import Event
from castore.history.names import check_name, check_unique, is_valid_name
from castore.history.reflog import Change, Reflog, ReflogEntry

_BRANCHES = "refs/heads"
_TAGS = "refs/tags"
_SYMBOLIC = "ref: refs/heads/"
_MAX_FILE_BYTES = len(_SYMBOLIC) + limits.MAX_REF_NAME_BYTES + 1


@dataclass(frozen=True, slots=True)
class Head:
    """Where HEAD is. branch: the branch it follows, None when detached. commit: its id, None before the first."""

    branch: str | None
    commit: str | None


class Refs:
    """The refs of a store. Names are without `refs/heads/` or `refs/tags/`; ids are full, in lowercase hex.

    Every method that takes a name raises RefNameError for one that is not valid, and every one that reads a ref raises
    CorruptError when its file holds something else than a commit id.
    """

    def __init__(
        self, root: Path, id_hex_length: int, lock: _fs.Lock, audited: bool = True, checked: bool = True
    ) -> None:
        """root: the store's own directory. id_hex_length: hex digits of a commit id. lock: the store's.

        audited: whether the audit log gets an entry of each change. checked: whether lines of reflogs get a checksum.
        """
        self.id_hex_length = id_hex_length
        self.lock = lock
        self.reflog = Reflog(root, id_hex_length, checked)
        self.audit = AuditLog(root, audited, self.by_full_name)
        self._root = root
        self._id = re.compile(rf"[0-9a-f]{{{id_hex_length}}}")

    def initialise(self, branch: str = "main") -> None:
        """Make the directories and a HEAD that follows `branch`, in a store that has none. Call with the lock held."""
        check_name(branch)
        for directory in (_BRANCHES, _TAGS, f"logs/{_BRANCHES}"):
            _fs.make_dirs(self._root / directory, self._root)
        ref_files.write(self._root, "HEAD", f"{_SYMBOLIC}{branch}\n".encode())

    def head(self) -> Head:
        """Where HEAD is. Raises CorruptError when its file is missing or damaged."""
        text = self._text("HEAD")
        if text is not None and text.startswith(_SYMBOLIC) and is_valid_name(text[len(_SYMBOLIC) :]):
            branch = text[len(_SYMBOLIC) :]
            return Head(branch, self.branch(branch))
        if text is not None and self._id.fullmatch(text):
            return Head(None, text)
        what = "is missing" if text is None else "is damaged"
        raise CorruptError(
            f"{self._root / 'HEAD'} {what}; write the line `{_SYMBOLIC}BRANCH` into it, e.g. with `main`"
        )

    def branch(self, name: str) -> str | None:
        """The commit a branch is at, or None where there is no such branch."""
        return self._read(_BRANCHES, name)

    def tag(self, name: str) -> str | None:
        """The commit a tag names, or None where there is no such tag."""
        return self._read(_TAGS, name)

    def branches(self) -> dict[str, str]:
        """Every branch and its commit, by name. One damaged ref fails the whole: a partial list would mislead gc."""
        return dict(self._read_all(_BRANCHES))

    def tags(self) -> dict[str, str]:
        """Every tag and its commit, by name. One damaged ref fails the whole."""
        return dict(self._read_all(_TAGS))

    def by_full_name(self) -> dict[str, str]:
        """Every branch and tag and its commit, by its full name. Damaged refs are left out: fsck names them."""
        found = {}
        for directory in (_BRANCHES, _TAGS):
            for name in self._names(directory):
                with contextlib.suppress(CorruptError):
                    commit = self._read(directory, name)
                    if commit is not None:
                        found[f"{directory}/{name}"] = commit
        return found

    def branch_names(self) -> list[str]:
        """The branches' names, sorted, without reading what they hold (so that fsck can look at each)."""
        return self._names(_BRANCHES)

    def tag_names(self) -> list[str]:
        """The tags' names, sorted, without reading what they hold."""
        return self._names(_TAGS)

    def update_branch(self, name: str, new: str, expected: str | None, change: Change) -> None:
        """Move a branch from `expected` (None: create it) to `new`. Call with the store's lock held.

        The change is logged for the branch, and for HEAD where HEAD follows it. Raises RefConflictError when the branch
        is not at `expected`, RefExistsError when a new branch would clash with another's name.
        """
        self._check_id(new)
        self.expect_branch(name, expected)
        present = expected
        if present is None:
            check_unique(name, self.branch_names())
        entry = ReflogEntry(present, new, change.author, change.time, change.message)
        self.audit.append(Event(change.action, f"{_BRANCHES}/{name}", present, new, change.detail))
        logs = ["HEAD"] if self.head().branch == name else []
        for ref in (f"{_BRANCHES}/{name}", *logs):
            self.reflog.append(ref, entry)
        self._write(f"{_BRANCHES}/{name}", new)

    def expect_branch(self, name: str, expected: str | None) -> None:
        """Raise RefConflictError unless a branch is at `expected` (None: it is not there). With the lock held."""
        present = self.branch(name)
        if present != expected:
            raise self._conflict(name, expected, present)

    def delete_branch(self, name: str, expected: str) -> None:
        """Delete a branch that is at `expected`, and its log. Call with the store's lock held.

        Raises RefConflictError when it is elsewhere or gone. A HEAD that follows it is left without commits.
        """
        present = self.branch(name)
        if present != expected:
            raise self._conflict(name, expected, present)
        self.audit.append(Event("delete", f"{_BRANCHES}/{name}", present))
        ref_files.delete(self._root, f"{_BRANCHES}/{name}", keep=_BRANCHES)
        self.reflog.delete(f"{_BRANCHES}/{name}")

    def create_tag(self, name: str, commit: str, detail: str = "") -> None:
        """Name a commit. Call with the store's lock held. Raises RefExistsError when the name is taken.

        detail: what the audit log says beside that.
        """
        self._check_id(commit)
        present = self.tag(name)
        if present is not None:
            raise RefExistsError(f"tag {name!r} exists already, at {present}; delete it first, or choose another name")
        check_unique(name, self.tag_names())
        self.audit.append(Event("tag", f"{_TAGS}/{name}", None, commit, detail))
        self._write(f"{_TAGS}/{name}", commit)

    def move_tag(self, name: str, commit: str, expected: str, detail: str = "") -> None:
        """Let a tag that names `expected` name another commit. Call with the lock held. Raises RefConflictError."""
        self._check_id(commit)
        self._check_tag(name, expected)
        self.audit.append(Event("tag", f"{_TAGS}/{name}", expected, commit, detail))
        self._write(f"{_TAGS}/{name}", commit)

    def delete_tag(self, name: str, expected: str) -> None:
        """Delete a tag that names `expected`. Call with the store's lock held. Raises RefConflictError otherwise."""
        self._check_tag(name, expected)
        self.audit.append(Event("delete", f"{_TAGS}/{name}", expected))
        ref_files.delete(self._root, f"{_TAGS}/{name}", keep=_TAGS)

    def set_head(self, change: Change, *, branch: str | None = None, commit: str | None = None) -> None:
        """Let HEAD follow a branch, which need not exist yet, or name a commit. Call with the store's lock held.

        The change is logged where HEAD has a commit afterwards. A damaged HEAD is replaced. Raises UsageError unless
        exactly one of `branch` and `commit` is given.
        """
        if (branch is None) == (commit is None):
            raise UsageError("HEAD follows a branch or names a commit; give one of them")
        try:
            old = self.head().commit
        except CorruptError:
            old = None  # setting HEAD is how a damaged one is repaired
        if branch is not None:
            new, text = self.branch(branch), f"{_SYMBOLIC}{branch}"
        else:
            new = text = self._check_id(commit or "")
        self.audit.append(Event(change.action, "HEAD", old, new, change.detail))
        if new is not None:
            self.reflog.append("HEAD", ReflogEntry(old, new, change.author, change.time, change.message))
        self._write("HEAD", text)

    def remove_leftovers(self) -> None:
        """Remove what crashed writes left beside the refs, the logs and the store's other small files.

        Call with the store's lock held.
        """
        for directory in (_BRANCHES, _TAGS, "logs"):
            ref_files.remove_leftovers(self._root / directory)
        for path in self._root.glob(".*.tmp"):
            if ref_files.is_leftover(path.name):
                _fs.remove(path)

    def _text(self, ref: str) -> str | None:
        data = ref_files.read_small(self._root, ref, _MAX_FILE_BYTES + 1)
        if data is None:
            return None
        return data.decode("utf-8", "replace").removesuffix("\n")

    def _read(self, directory: str, name: str) -> str | None:
        check_name(name)
        text = self._text(f"{directory}/{name}")
        if text is None or self._id.fullmatch(text):
            return text
        repair = "delete it"
        if directory == _BRANCHES:
            repair += f", or write into it the newest id that {self._root / 'logs' / directory / name} has for it"
        raise CorruptError(
            f"{self._root / directory / name} does not hold a commit id of {self.id_hex_length} hex digits; {repair}"
        )

    def _names(self, directory: str) -> list[str]:
        return sorted(filter(is_valid_name, ref_files.list_names(self._root / directory)))

    def _read_all(self, directory: str) -> Iterator[tuple[str, str]]:
        for name in self._names(directory):
            commit = self._read(directory, name)
            if commit is not None:  # None: deleted since it was listed
                yield name, commit

    def _write(self, ref: str, text: str) -> None:
        ref_files.write(self._root, ref, f"{text}\n".encode())

    def _check_id(self, commit: str) -> str:
        if not self._id.fullmatch(commit):
            raise RevisionError(f"{commit[:80]!r} is not a full commit id of {self.id_hex_length} hex digits")
        return commit

    def _check_tag(self, name: str, expected: str) -> None:
        present = self.tag(name)
        if present != expected:
            now = "was deleted by another process" if present is None else f"is at {present}, not at {expected}"
            raise RefConflictError(f"tag {name!r} {now}; look at it and try again")

    def _conflict(self, name: str, expected: str | None, present: str | None) -> RefConflictError:
        if present is None:
            return RefConflictError(
                f"branch {name!r} was deleted by another process (it was at {expected}); create it again"
            )
        last = next(iter(reversed(self.reflog.read(f"{_BRANCHES}/{name}"))), None)
        who = f" by {last.author!r} ({last.message[:60]!r})" if last is not None and last.new == present else ""
        was = "created" if expected is None else f"moved from {expected}"
        return RefConflictError(
            f"branch {name!r} was {was} meanwhile{who} and is now at {present}; commit again on top of that"
        )
