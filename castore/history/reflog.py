"""Reflogs: what HEAD and each branch were before, one appended line per change.

A line is written before its ref moves, so a crash in between leaves a line for a change that never happened, never a
change without a line; `values` knows. A crash in the middle of a line leaves it without its end: readers skip it, and
the next append cancels it first.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Sequence
from datetime import datetime
from pathlib import Path

from castore import _fs, limits
from castore.errors import RefNameError
from castore.history import ref_files
from castore.history.names import check_name, is_valid_name
from castore.history.reflog_line import CANCEL, Change, ReflogEntry, decode, encode

__all__ = ["Change", "Reflog", "ReflogEntry", "recent", "values"]

_BRANCHES = "refs/heads/"


def values(entries: Sequence[ReflogEntry], current: str | None) -> list[str | None]:
    """What a ref was, newest first, from its log (newest last) and its `current` value: `[N]` is `REF@{N}`.

    Changes that were logged and never made are passed over, except creations: those may as well be of a branch that was
    deleted since, and must be found again. Where entries are missing, the values on both sides of the gap are listed.
    Only the first can be None: the ref does not exist now.
    """
    found = [current]
    for entry in reversed(entries):
        if entry.new != found[-1]:
            if entry.old is not None and entry.old == found[-1]:
                continue  # its writer died between writing the line and moving the ref
            found.append(entry.new)
        if entry.old is not None:
            found.append(entry.old)
    return found


def recent(entries: Iterable[ReflogEntry], since: datetime) -> Iterator[ReflogEntry]:
    """The entries of a log, newest last, from the first one on that is not older than `since`.

    An entry is no older than those before it, whatever the clock said when it was written. Doubtful ones are among
    them: their times may be wrong.
    """
    is_recent = False
    for entry in entries:
        is_recent = is_recent or entry.time >= since
        if is_recent or entry.is_doubtful:
            yield entry


class Reflog:
    """The logs of a store. `ref` is `HEAD` or `refs/heads/NAME` throughout; other refs have no log, as in Git."""

    def __init__(self, root: Path, id_hex_length: int, checked: bool) -> None:
        """root: the store's own directory. id_hex_length: hex digits of a commit id in it.

        checked: new lines get a checksum, which older versions can't read.
        """
        self.checked = checked
        self._root = root
        self._id_hex_length = id_hex_length

    def refs(self) -> list[str]:
        """Every ref that has a log, HEAD first. A log may outlive its branch when a crash interrupts the deletion."""
        names = sorted(filter(is_valid_name, ref_files.list_names(self._root / "logs" / _BRANCHES)))
        head = ["HEAD"] if (self._root / "logs" / "HEAD").exists() else []
        return head + [_BRANCHES + name for name in names]

    def read(self, ref: str) -> list[ReflogEntry]:
        """The entries of a log, newest last; none where there is no log. Damaged and unfinished lines are skipped."""
        return [entry for _, _, entry in self._lines(ref) if entry is not None]

    def damaged_lines(self, ref: str) -> list[int]:
        """The numbers, from 1, of the lines that are neither an entry as it was written nor the trace of a crash."""
        return [number for number, _, entry in self._lines(ref) if entry is None or entry.is_doubtful]

    def append(self, ref: str, entry: ReflogEntry) -> None:
        """Add an entry, durably. Call with the store's lock held."""
        path = self._root / _log_name(ref)
        repair = CANCEL + b"\n" if self._is_torn(ref) else b""
        self._clear_way(path)
        _fs.make_dirs(path.parent, self._root)
        _fs.append(path, repair + encode(entry, self.checked))

    def delete(self, ref: str) -> None:
        """Delete a log. Call with the store's lock held."""
        ref_files.delete(self._root, _log_name(ref), keep="logs/refs/heads" if ref != "HEAD" else "logs")

    def expire(self, ref: str, before: datetime) -> int:
        """Drop the entries older than `before`, as `recent` has it, and lines that cannot be read.

        Call with the store's lock held.

        An entry that is doubtful stays: its time may be wrong. Returns how many entries and unreadable lines went.
        """
        lines = list(self._lines(ref))
        staying = {id(entry) for entry in recent((one for _, _, one in lines if one is not None), before)}
        kept = [line + b"\n" for _, line, entry in lines if id(entry) in staying]
        dropped = len(lines) - len(kept)
        if dropped:
            ref_files.write(self._root, _log_name(ref), b"".join(kept))
        return dropped

    def _lines(self, ref: str) -> Iterator[tuple[int, bytes, ReflogEntry | None]]:
        """Each line's number, bytes and entry (None: damaged). Lines that a crash cut short are left out."""
        file = ref_files.open_regular(self._root, _log_name(ref))
        if file is None:
            return
        with file, _fs.storage_errors("read", self._root / _log_name(ref)):
            number = 0
            while line := file.readline(limits.MAX_REFLOG_LINE_BYTES):
                number += 1
                too_long = False
                while not line.endswith(b"\n"):
                    rest = file.readline(limits.MAX_REFLOG_LINE_BYTES)
                    if not rest:
                        return  # the last line, without its end
                    too_long, line = True, rest
                if line.endswith(CANCEL + b"\n"):
                    continue
                yield number, line[:-1], None if too_long else decode(line[:-1], self._id_hex_length)

    def _is_torn(self, ref: str) -> bool:
        file = ref_files.open_regular(self._root, _log_name(ref))
        if file is None:
            return False
        with file, _fs.storage_errors("read", self._root / _log_name(ref)):
            if file.seek(0, os.SEEK_END) == 0:
                return False
            file.seek(-1, os.SEEK_END)
            return file.read(1) != b"\n"

    def _clear_way(self, path: Path) -> None:
        """Remove logs that stand where this one must: their branches are gone, else this one could not be made."""
        if path.is_dir():
            _fs.remove_tree(path)
        for parent in path.parents:
            if parent == self._root:
                return
            if parent.is_file():
                _fs.remove(parent)


def _log_name(ref: str) -> str:
    if ref == "HEAD":
        return "logs/HEAD"
    if not ref.startswith(_BRANCHES):
        raise RefNameError(f"{ref!r} has no reflog; HEAD and branches (refs/heads/NAME) do")
    check_name(ref[len(_BRANCHES) :])
    return f"logs/{ref}"
