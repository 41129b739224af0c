"""Files that say something of commits, a line each: which are pinned, and of which the state was dropped.

Such a file is written whole, as a ref is: after a crash it says what it said before, or all that was to be added. Its
first line is a checksum of the others, so that a bit that flips, or an end that is lost, does not change what is kept.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from castore import _fs, limits
from castore.chunks.hashing import checksum
from castore.errors import CorruptError, UsageError
from castore.history import ref_files
from castore.history.line_text import TIME, escaped, format_time, parse_time, unescaped

NAMES = ("dropped", "pins", "tiers", "accessed", "verified", "lost")
_CHECK = re.compile(rb"check ([0-9a-f]{16})\n")
_LINE = re.compile(rf"(?P<commit>[0-9a-f]+) {TIME}(?P<texts>(?:\t[^\t]*)+)")


@dataclass(frozen=True, slots=True)
class Mark:
    """commit: its full id. time: when the mark was made, with a UTC offset. texts: at least one."""

    commit: str
    time: datetime
    texts: tuple[str, ...]


def encode(mark: Mark) -> bytes:
    """The mark's line, newline included. The first text is cut where the line would be too long, the others never.

    Raises UsageError when these alone are.
    """
    head = f"{mark.commit} {format_time(mark.time)}\t".encode()
    rest = "".join(f"\t{escaped(text, limits.MAX_MARK_LINE_BYTES)}" for text in mark.texts[1:]).encode() + b"\n"
    room = limits.MAX_MARK_LINE_BYTES - len(head) - len(rest)
    if room < 0:
        raise UsageError(
            f"{len(mark.texts) - 1} patterns of components are more than a commit's mark has room for; use wildcards"
        )
    return head + escaped(mark.texts[0], room).encode() + rest


def decode(line: bytes, id_hex_length: int) -> Mark | None:
    """The mark of a line without its newline, or None where the line is damaged."""
    try:
        found = _LINE.fullmatch(line.decode("utf-8"))
    except UnicodeDecodeError:
        return None
    if found is None or len(found["commit"]) != id_hex_length or len(line) >= limits.MAX_MARK_LINE_BYTES:
        return None
    time = parse_time(found)
    texts = tuple(text for one in found["texts"][1:].split("\t") if (text := unescaped(one)) is not None)
    if time is None or len(texts) != found["texts"].count("\t"):
        return None
    return Mark(found["commit"], time, texts)


def empty(root: Path) -> list[str]:
    """The names of the files in a store that have no byte."""
    return [name for name in NAMES if (root / name).is_file() and not (root / name).stat().st_size]


def remove_empty(root: Path) -> None:
    """Before files get checksums, remove those with no byte: from then on such a one has lost all that it said.

    Call with the store's lock held.
    """
    for name in empty(root):
        _fs.remove(root / name)
        _fs.sync_dir(root)


def with_check(lines: bytes) -> bytes:
    """Lines, after the line that vouches for them."""
    return b"check %016x\n%s" % (checksum(lines), lines)


def split_check(data: bytes) -> tuple[bytes, bool]:
    """The lines of a file, and whether its first one vouches for them. One that older versions wrote has no such line,
    and is believed."""
    found = _CHECK.match(data)
    if found is None:
        return data, not data.startswith(b"check ")
    lines = data[found.end() :]
    return lines, int(found[1], 16) == checksum(lines)


class MarkFile:
    """One such file of a store. At most one mark a commit, sorted by id."""

    def __init__(self, root: Path, name: str, id_hex_length: int) -> None:
        """root: the store's own directory. name: of the file in it. id_hex_length: hex digits of a commit id."""
        self._root = root
        self._name = name
        self._id_hex_length = id_hex_length
        self._known: tuple[tuple[int, int, int], bytes] | None = None

    def read(self) -> dict[str, Mark]:
        """The marks by commit; damaged lines are left out, and of several for one commit the first counts.

        Raises CorruptError for what is no file of ours.
        """
        found: dict[str, Mark] = {}
        for _, mark in self._lines():
            if mark is not None:
                found.setdefault(mark.commit, mark)
        return found

    def read_whole(self) -> dict[str, Mark]:
        """The same; raises CorruptError for damaged lines too, where a partial list would mislead."""
        if problem := self.problem():
            raise CorruptError(problem)
        return self.read()

    def problem(self) -> str:
        """What is wrong with the file, in a line; "" for nothing."""
        path = self._root / self._name
        if lines := self.damaged_lines():
            return (
                f"{path} has damaged lines: {', '.join(map(str, lines[:10]))}; mend or delete them, and the first line"
            )
        if not self.is_as_written():
            return f"{path} is damaged, or was changed by hand: look at it, and if all is right delete its first line"
        return ""

    def is_as_written(self) -> bool:
        """Whether the checksum of the file is right, or it is of before there was one."""
        return split_check(self.content())[1]

    def get(self, commit_id: str) -> Mark | None:
        """The mark of one commit, without reading the others'."""
        data, name = self.content(), commit_id.encode()
        start = 0 if data.startswith(name) else data.find(b"\n" + name) + 1
        while data.startswith(name, start):
            end = data.find(b"\n", start)
            mark = decode(data[start:] if end < 0 else data[start:end], self._id_hex_length)
            start = data.find(b"\n" + name, start) + 1
            if mark is not None or start == 0:
                return mark
        return None

    def damaged_lines(self) -> list[int]:
        """The numbers, from 1, of the lines that are no mark."""
        return [number for number, mark in self._lines() if mark is None]

    def update(self, added: Iterable[Mark] = (), removed: Iterable[str] = ()) -> None:
        """Add or replace marks, and remove those of the commits `removed`, durably. Call with the store's lock held."""
        before = self.read()
        after = {**before, **{mark.commit: mark for mark in added}}
        for commit_id in removed:
            after.pop(commit_id, None)
        if after != before:
            self._write(after)

    def forget(self, commits: Iterable[str]) -> None:
        """Remove the marks of those of some commits that have one. Call with the store's lock held."""
        known = [one for one in commits if self.get(one) is not None]
        if known:
            self.update(removed=known)

    def content(self) -> bytes:
        """The file's bytes; they tell one state of it from another. Kept while the file is the same."""
        path = self._root / self._name
        try:
            found = path.lstat()
        except FileNotFoundError:
            return b""
        version = (found.st_ino, found.st_mtime_ns, found.st_size)
        if self._known is None or self._known[0] != version:
            data = ref_files.read_small(self._root, self._name, limits.MAX_MARKS_BYTES + 1) or b""
            if len(data) > limits.MAX_MARKS_BYTES:
                raise CorruptError(f"{path} is larger than castore writes it; restore it from a copy")
            self._known = version, data
        return self._known[1]

    def _lines(self) -> Iterator[tuple[int, Mark | None]]:
        data = self.content()
        lines, _ = split_check(data)
        first = 1 if lines is data else 2
        for number, line in enumerate(lines.removesuffix(b"\n").split(b"\n") if lines else (), first):
            yield number, decode(line, self._id_hex_length)

    def _write(self, marks: Mapping[str, Mark]) -> None:
        data = b"".join(encode(marks[commit_id]) for commit_id in sorted(marks))
        if len(data) > limits.MAX_MARKS_BYTES:
            raise UsageError(f"{self._root / self._name} would take {len(data)} bytes, more than castore reads")
        _fs.replace(self._root / self._name, with_check(data))
        self._known = None
