"""What a disk may hold after the power went: a model of files whose writes reach it late, in any order, or never.

It is told the operations that `faults.record` lists, and promises no more than POSIX does, which is less than file
systems such as ext4 and XFS keep:

- The bytes of a file are there as of its last fsync. Each write since may be there, or not, or a part of it; or the
  file may have grown without it, and holds zeros.
- A name in a directory is there, or gone, as of the directory's last fsync. Each creation, rename, link and deletion
  since may be there or not, whatever became of those before it. An fsync of a file does not make its name durable.
- A rename is atomic: the old name or the new one. Between two directories both may be there, and never neither.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

from castore.testing.faults import Operation

PAGE_BYTES = 4096


Writes = list[tuple[int, bytes | None]]  # (offset, data); None: the file ends there


class Fate(Protocol):
    """What becomes of that which was not synced."""

    def parts(self, count: int) -> int:
        """How many of a change's `count` parts are there. A rename to another directory has two: to come, and to go."""
        ...

    def content(self, durable: bytes, writes: Writes) -> bytes:
        """What a file holds, of which `durable` was synced, after `writes`, or some of them."""
        ...


@dataclass(eq=False, slots=True)
class _File:
    durable: bytes = b""
    writes: Writes = field(default_factory=list)


@dataclass(eq=False, slots=True)
class _Directory:
    """durable: the names on the disk. now: those that programs see."""

    durable: dict[str, _Node] = field(default_factory=dict)
    now: dict[str, _Node] = field(default_factory=dict)


_Node = _File | _Directory


@dataclass(frozen=True, slots=True)
class _Entry:
    """A name of a directory is given to a file or directory, or (None) taken away."""

    directory: _Directory
    name: str
    node: _Node | None


@dataclass(frozen=True, slots=True)
class Left:
    """What is found after the cut. directories: parents first; files: their bytes. Paths are relative, with `/`."""

    directories: tuple[str, ...]
    files: Mapping[str, bytes]


class Disk:
    """All below one directory, which itself is durable. What is there at the beginning is, too."""

    def __init__(self, root: Path, leave_out: Iterable[str] = ()) -> None:
        """leave_out: names of files that are not looked at."""
        self._root = root.resolve()
        self._left_out = frozenset(leave_out)
        self._top = self._read(self._root)
        self._pending: list[list[_Entry]] = []  # each: all or nothing, unless it goes over two directories

    def _read(self, path: Path) -> _Directory:
        found: dict[str, _Node] = {}
        for entry in path.iterdir():
            if entry.is_dir():
                found[entry.name] = self._read(entry)
            elif entry.name not in self._left_out:
                found[entry.name] = _File(entry.read_bytes())
        return _Directory(dict(found), found)

    def apply(self, operation: Operation) -> None:
        """Carry out one operation; what would fail does nothing. Paths outside of the root are ignored."""
        place = self._place(operation.path)
        if place is None:
            if operation.name == "sync_dir" and operation.path == self._root:
                self._sync_directory(self._top)
            return
        directory, name = place
        node = directory.now.get(name)
        match operation.name:
            case "create" | "make_dir" if node is None:
                self._change(_Entry(directory, name, _File() if operation.name == "create" else _Directory()))
            case "write" | "append" if isinstance(node, _File):
                at = operation.offset if operation.name == "write" else len(written(node.durable, node.writes))
                node.writes.append((at, operation.data))
            case "resize" if isinstance(node, _File):
                node.writes.append((operation.offset, None))
            case "sync" if isinstance(node, _File):
                node.durable = written(node.durable, node.writes)
                node.writes = []
            case "sync_dir" if isinstance(node, _Directory):
                self._sync_directory(node)
            case "remove" if isinstance(node, _File):
                self._change(_Entry(directory, name, None))
            case "remove_dir" if isinstance(node, _Directory) and not node.now:
                self._change(_Entry(directory, name, None))
            case "rename" if node is not None and operation.other is not None:
                target = self._place(operation.other)
                if target is not None:
                    self._change(_Entry(*target, node), _Entry(directory, name, None))
            case "link" if node is None and operation.other is not None:
                source = self._place(operation.other)
                found = source and source[0].now.get(source[1])
                if found is not None:
                    self._change(_Entry(directory, name, found))

    def _place(self, path: Path) -> tuple[_Directory, str] | None:
        """The directory and the name that a path leads to."""
        try:
            *above, name = path.relative_to(self._root).parts
        except ValueError:  # outside, or the root itself
            return None
        directory: _Node | None = self._top
        for part in above:
            directory = directory.now.get(part) if isinstance(directory, _Directory) else None
        return (directory, name) if isinstance(directory, _Directory) else None

    def _change(self, *parts: _Entry) -> None:
        for part in parts:
            _enter(part.directory.now, part)
        self._pending.append(list(parts))

    def _sync_directory(self, directory: _Directory) -> None:
        kept: list[list[_Entry]] = []
        for change in self._pending:
            mine = [part for part in change if part.directory is directory]
            if any(part.node is None for part in mine):
                mine = change  # the old name of a rename never goes without the new one
            for part in mine:
                _enter(part.directory.durable, part)
                for earlier in kept:
                    earlier[:] = [one for one in earlier if (one.directory, one.name) != (part.directory, part.name)]
            kept.append([part for part in change if part not in mine])
        self._pending = [change for change in kept if change]

    def after_cut(self, fate: Fate) -> Left:
        """What the disk holds when the power goes now."""
        directories: dict[_Directory, dict[str, _Node]] = {}
        for change in self._pending:
            atomic = len({part.directory for part in change}) == 1
            parts = fate.parts(1) * len(change) if atomic else fate.parts(len(change))
            for part in change[:parts]:
                _enter(directories.setdefault(part.directory, dict(part.directory.durable)), part)
        contents: dict[_File, bytes] = {}
        paths: list[str] = []
        files: dict[str, bytes] = {}
        pending: list[tuple[str, _Directory]] = [("", self._top)]
        while pending:
            prefix, directory = pending.pop()
            for name, node in directories.get(directory, directory.durable).items():
                if isinstance(node, _Directory):
                    paths.append(prefix + name)
                    pending.append((f"{prefix}{name}/", node))
                else:
                    if node not in contents:
                        contents[node] = fate.content(node.durable, node.writes)
                    files[prefix + name] = contents[node]
        return Left(tuple(paths), files)


def _enter(names: dict[str, _Node], part: _Entry) -> None:
    if part.node is None:
        names.pop(part.name, None)
    else:
        names[part.name] = part.node


def written(content: bytes, writes: Writes) -> bytes:
    """A file's bytes after some writes."""
    found = bytearray(content)
    for offset, data in writes:
        found.extend(bytes(max(0, offset - len(found))))
        if data is None:
            del found[offset:]
            continue
        found[offset : offset + len(data)] = data
    return bytes(found)


def put(left: Left, root: Path) -> None:
    """Make the files and directories, below a directory that is there."""
    for path in left.directories:
        (root / path).mkdir(mode=0o700)
    for path, content in left.files.items():
        fd = os.open(root / path, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600)
        os.write(fd, content)
        os.close(fd)
