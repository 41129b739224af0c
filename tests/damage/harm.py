"""One thing that befalls one file of a store, and what castore then says of it."""

from __future__ import annotations

import random
import re
import shutil
import sys
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

from castore.chunks.parallel import Item, Pool, Result
from castore.errors import CastoreError
from castore.maintenance.fsck import fsck
from castore.maintenance.reports import FsckReport
from castore.operations.load import load_here
from castore.repo import Repository
from castore.testing.states import equal_states
from tests.damage.everything import Everything


@dataclass(frozen=True, slots=True)
class Harm:
    """bit: which one of the file is flipped, from 0 on; size: to how many bytes it is cut. One of the two."""

    file: str
    bit: int | None = None
    size: int | None = None

    def __str__(self) -> str:
        return f"{self.file}: " + (f"bit {self.bit}" if self.bit is not None else f"cut to {self.size} bytes")

    def on(self, content: bytes) -> bytes:
        """What becomes of the file's bytes."""
        if self.bit is None:
            return content[: self.size]
        data = bytearray(content)
        data[self.bit // 8] ^= 1 << self.bit % 8
        return bytes(data)

    def do(self, root: Path) -> None:
        path = root / self.file
        data = self.on(path.read_bytes())
        with path.open("r+b") as file:  # in place: the index is trusted only as the file that it was
            file.write(data)
            file.truncate()


def all_harms(store: Everything, file: str) -> list[Harm]:
    """Every bit of a file flipped, and every length that it can be cut to."""
    size = (store.path / file).stat().st_size
    return [*(Harm(file, bit=bit) for bit in range(8 * size)), *(Harm(file, size=cut) for cut in range(size))]


@dataclass(slots=True)
class Seen:
    """What came of it. report: fsck's, or the error with which the store did not open. lost: commit -> the paths
    that can't be loaded. wrong: what loads as something else, a line each."""

    report: FsckReport | CastoreError
    lost: dict[str, tuple[str, ...]]
    wrong: list[str]

    @property
    def found(self) -> bool:
        return isinstance(self.report, CastoreError) or not self.report.ok


class Bench:
    """Harms a store again and again, and mends it in between."""

    def __init__(self, store: Everything, spare: Path) -> None:
        """spare: a free path, for what is as it was."""
        self.store = store
        self._spare = spare
        shutil.copytree(store.path, spare)
        self._index = _version(store.path)

    def see(self, harm: Harm) -> Seen:
        """What castore says of the store, and gives back, with that harm alone."""
        harm.do(self.store.path)
        try:
            return self._see()
        finally:
            self._mend(harm.file)

    def mend_all(self) -> None:
        """After another process did a harm to the index."""
        self._index = ()
        self._mend("index/data.mdb")

    def _see(self) -> Seen:
        try:
            repo = Repository(self.store.path)
        except CastoreError as error:
            return Seen(error, {}, [])
        repo.chunks.pool = _Inline()  # so little is decoded that handing it to threads takes longer
        try:
            lost, wrong = {}, []
            for commit in self.store.states:
                missing = self._missing(repo, commit, wrong)
                if missing:
                    lost[commit] = missing
            return Seen(fsck(repo, read_data=True, repair=False), lost, wrong)
        finally:
            repo.close()

    def _missing(self, repo: Repository, commit: str, wrong: list[str]) -> tuple[str, ...]:
        paths, expected = self.store.paths[commit], self.store.states[commit]
        try:
            repo.provenance(repo.commit(commit))
            if not equal_states(load_here(repo, commit, paths, None), expected):
                wrong.append(f"{commit} loads as something else")
            return ()
        except CastoreError:
            pass
        return tuple(path for path in paths if not self._loads(repo, commit, path)) or ("",)

    def _loads(self, repo: Repository, commit: str, path: str) -> bool:
        try:
            load_here(repo, commit, [path], None)
        except CastoreError:
            return False
        return True

    def _mend(self, file: str) -> None:
        path, good = self.store.path / file, self._spare / file
        if _version(self.store.path) != self._index:
            shutil.rmtree(self.store.path / "index")
            shutil.copytree(self._spare / "index", self.store.path / "index")
            self._index = _version(self.store.path)
        if path.exists() and path.stat().st_size:
            with path.open("r+b") as opened:
                opened.write(good.read_bytes())
        else:
            path.write_bytes(good.read_bytes())


class _Inline(Pool):
    """A pool that does the work at once."""

    def map(self, work: Callable[[Item], Result], items: Iterable[Item]) -> Iterator[Result]:
        return map(work, items)


def _version(root: Path) -> tuple[int, ...]:
    """What tells that an index was made anew, or written to."""
    try:
        data, boot = (root / "index/data.mdb").stat(), (root / "index/boot").stat()
    except FileNotFoundError:
        return ()
    return data.st_ino, data.st_mtime_ns, boot.st_ino, boot.st_size


def complaint(harm: Harm, seen: Seen, store: Everything) -> str | None:
    """What castore does not keep of its promise, a line; None where it keeps it."""
    if seen.wrong:
        return f"{harm}: {seen.wrong[0]}"
    if harm.file.startswith("index/"):
        return f"{harm}: {next(iter(seen.lost))} does not load" if seen.lost and not seen.found else None
    if not seen.found:
        return None if outside(harm, store) else f"{harm}: not found"
    if isinstance(seen.report, CastoreError):
        return None
    for commit, paths in seen.lost.items():
        named = [error for error in seen.report.errors if commit in error.commits]
        if not named:
            return f"{harm}: {commit} does not load, and is not named"
        told = {path for error in named for path in error.paths}
        whole = any(not error.paths for error in named)
        if not whole and not set(paths) <= told:
            return f"{harm}: {paths} of {commit} do not load, and only {told} are named"
    for error in seen.report.errors:
        for one in error.commits:
            meant = one in store.states and (not error.paths or set(error.paths) & set(store.paths[one]))
            if error.record and meant and one not in seen.lost:
                return f"{harm}: {one} is named, and loads"
    return None


def outside(harm: Harm, store: Everything) -> str:
    """Why fsck need not find a harm, as docs/durability.md says; "" for one that it must find."""
    if harm.file.startswith("index/"):
        return "the index is made anew"
    if harm.file in ("events", "maintenance"):
        return "nothing is decided by it"
    before = (store.path / harm.file).read_bytes()
    after = harm.on(before)
    if harm.file.startswith("logs/") or harm.file == "audit":
        return _in_a_log(harm, before, after)
    if harm.file == "castore.toml":
        return _in_settings(before, after)
    if harm.file.startswith("signatures/") and harm.size is None and _SIGNATURE.fullmatch(after):
        return "`castore verify` tells good signatures"
    return ""


_SIGNATURE = re.compile(rb"-----BEGIN SSH SIGNATURE-----\n[A-Za-z0-9+/=\n]+-----END SSH SIGNATURE-----\n")


def _in_a_log(harm: Harm, before: bytes, after: bytes) -> str:
    if harm.bit is None:
        return "as a crash leaves it"
    at = harm.bit // 8
    if not after.endswith(b"\n") or after[at : at + 2] == b"\x18\n":
        return "as a crash leaves it"
    line = before[before.rfind(b"\n", 0, at) + 1 :].split(b"\n")[0]
    if harm.file.startswith("logs/") and len(line.split(b" ")[0]) != 16:
        return "a line of an older version"
    return ""


def _in_settings(before: bytes, after: bytes) -> str:
    try:
        old, new = (tomllib.loads(one.decode()) for one in (before, after))
    except ValueError:
        return ""
    same = all(old[key] == new.get(key) for key in ("format_version", "required_features"))
    same = same and new.get("hash", "xxh3-128") == old["hash"]  # a key that is not known is ignored
    return "what a person may set" if same else ""


def sampled(harms: list[Harm], count: int, seed: int) -> Iterator[Harm]:
    """So many of them, spread evenly, at places that the seed says."""
    chance = random.Random(seed)
    share = len(harms) / count
    if share <= 1:
        yield from harms
        return
    for number in range(count):
        yield harms[int((number + chance.random()) * share)]
