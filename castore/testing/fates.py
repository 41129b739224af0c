"""What may become, when the power goes, of what was not synced: the answers that `disk.Disk` asks for."""

from __future__ import annotations

from random import Random

from castore.testing.disk import PAGE_BYTES, Fate, Writes, written


class Everything:
    """All of it reached the disk, as after a kill."""

    def parts(self, count: int) -> int:
        return count

    def content(self, durable: bytes, writes: Writes) -> bytes:
        return written(durable, writes)


class OnlySynced:
    """Nothing of it did."""

    def parts(self, count: int) -> int:
        return 0

    def content(self, durable: bytes, writes: Writes) -> bytes:
        return durable


class OnlyNames:
    """Names did, bytes did not: what was created or renamed without an fsync is empty."""

    def parts(self, count: int) -> int:
        return count

    def content(self, durable: bytes, writes: Writes) -> bytes:
        return durable


class OnlyBytes:
    """Bytes did, names did not."""

    def parts(self, count: int) -> int:
        return 0

    def content(self, durable: bytes, writes: Writes) -> bytes:
        return written(durable, writes)


class Torn:
    """All but an end of each file's last write."""

    def __init__(self, random: Random) -> None:
        self._random = random

    def parts(self, count: int) -> int:
        return count

    def content(self, durable: bytes, writes: Writes) -> bytes:
        if not writes:
            return durable
        offset, data = writes[-1]
        if data is None:
            return written(durable, writes[:-1])
        return written(durable, [*writes[:-1], (offset, data[: self._random.randrange(len(data) + 1)])])


class AnySubset:
    """Each change of a name, and each write or a part of it, by chance."""

    def __init__(self, random: Random) -> None:
        self._random = random

    def parts(self, count: int) -> int:
        return self._random.randint(0, count)

    def content(self, durable: bytes, writes: Writes) -> bytes:
        return written(durable, [part for offset, data in writes for part in self._write(offset, data)])

    def _write(self, offset: int, data: bytes | None) -> Writes:
        if data is None:
            return [(offset, None)] if self._random.random() < 0.5 else []
        match self._random.randrange(5):
            case 0:
                return []
            case 1:
                return [(offset, data)]
            case 2:
                return [(offset, data[: self._random.randrange(len(data) + 1)])]
            case 3:
                return [(offset, bytes(len(data)))]  # the file grew, and nothing else
        pages: Writes = [(offset, bytes(len(data)))]
        at = 0
        while at < len(data):
            end = at + PAGE_BYTES - (offset + at) % PAGE_BYTES
            if self._random.random() < 0.5:
                pages.append((offset + at, data[at:end]))
            at = end
        return pages


def of(kind: str, random: Random) -> Fate:
    """The fate that a kind of cut stands for."""
    match kind:
        case "killed" | "everything":
            return Everything()
        case "synced":
            return OnlySynced()
        case "names":
            return OnlyNames()
        case "bytes":
            return OnlyBytes()
        case "torn":
            return Torn(random)
        case "subset":
            return AnySubset(random)
    raise ValueError(f"no kind of cut is called {kind!r}")
