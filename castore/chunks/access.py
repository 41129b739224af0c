"""The way to the index: opened, checked against this boot of the machine, rebuilt when it can't be trusted."""

from __future__ import annotations

import os
from collections.abc import Callable, Collection
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

from castore import _fs
from castore.chunks.environment import IndexDamagedError
from castore.chunks.index import Index
from castore.chunks.index_check import agrees
from castore.chunks.reader import PackFiles
from castore.chunks.rebuild import add_packs
from castore.errors import CastoreError
from castore.progress import Progress

if TYPE_CHECKING:
    from tempfile import TemporaryDirectory

Answer = TypeVar("Answer")

_MARK_BYTES = 256  # of `index/boot`, more than it ever has


class IndexAccess:
    """Holds the index of a store, and replaces it when it turns out to be missing, damaged or from another boot.

    The index is never synced (a commit would pay for it), so after the machine went down any of its pages may be old
    or garbage. `index/boot` names the boot under which it was made; under another one it is made again.

    A store from elsewhere cannot know this machine's boot, so LMDB, which believes what it maps, never sees the index
    that came with it. Nor does it see that of a store which another user owns and we may only read.
    """

    def __init__(self, store: Path, files: PackFiles, lock: _fs.Lock, progress: Progress) -> None:
        self._directory = store / "index"
        self._files = files
        self._lock = lock
        self._progress = progress
        self._hash_size = files.format.hash_size
        self.read_only = not os.access(store, os.W_OK)
        self.mends = True  # fsck reports what is wrong with it instead
        self._agreed: tuple[int, int] | None = None  # the index that was compared with the packs, and is right
        self._temporary: TemporaryDirectory[str] | None = None
        self.index = self._open()

    def use(self, work: Callable[[Index], Answer]) -> Answer:
        """`work` with the index; once more with a new one if it is damaged or was replaced by another process."""
        try:
            return work(self.index)
        except IndexDamagedError:
            self.rebuild()
            return work(self.index)

    def _open(self) -> Index:
        if self._is_trusted():
            try:
                return Index(self._directory, self._hash_size, self.read_only)
            except IndexDamagedError:
                pass  # rebuilt below: that is the index's whole promise
        return self._rebuilt()

    def _is_trusted(self) -> bool:
        """Whether the files were made here, and by somebody who is to be trusted: LMDB believes what it maps."""
        try:
            with os.fdopen(_fs.open_regular(self._directory / "boot"), "rb") as file:
                written = file.read(_MARK_BYTES).decode("ascii", "replace").strip()
            with os.fdopen(_fs.open_regular(self._directory / "data.mdb"), "rb") as file:
                owner = os.fstat(file.fileno()).st_uid
        except (OSError, CastoreError):
            return False
        return written == self._mark() and (not self.read_only or owner in (0, os.geteuid()))

    def _mark(self) -> str:
        """Where and when the index is good: under this boot, and in this directory, since a copy of a store may have
        caught the index and the packs at different moments."""
        found = self._directory.parent.stat()
        return f"{_fs.boot_id() or 'synced'} {found.st_dev} {found.st_ino}"

    def rebuild(self) -> list[str]:
        """Throw the index away and make it from the packs; returns a line for each pack that could not be read."""
        self.index.close()
        damaged: list[str] = []
        self.index = self._rebuilt(damaged, force=True)
        return damaged

    def _rebuilt(self, damaged: list[str] | None = None, force: bool = False) -> Index:
        if self.read_only:
            from tempfile import TemporaryDirectory  # 10 ms of imports that `castore log` has no use for

            self._temporary = TemporaryDirectory(prefix="castore-index-")
            return self._fill(Path(self._temporary.name), damaged)
        with self._lock.held():
            if not force and self._is_trusted():  # another process was faster
                try:
                    return Index(self._directory, self._hash_size)
                except IndexDamagedError:
                    pass
            self.remove_abandoned()
            beside = self._directory.with_name(f"index.{os.getpid()}.tmp")
            _fs.make_dir(beside)
            self._fill(beside, damaged).close()
            _fs.replace(beside / "boot", f"{self._mark()}\n".encode())
            _fs.remove_tree(self._directory)
            _fs.rename(beside, self._directory)
            _fs.sync_dir(self._directory.parent)
            return Index(self._directory, self._hash_size)

    def remove_abandoned(self) -> None:
        """Delete what processes left that died while they made an index, with the lock held. Call with it held, too."""
        for abandoned in self._directory.parent.glob("index.*.tmp"):
            _fs.remove_tree(abandoned)

    def _fill(self, directory: Path, damaged: list[str] | None) -> Index:
        index = Index(directory, self._hash_size)
        found = add_packs(index, self._files, self._files.ids(), self._progress)
        if damaged is not None:
            damaged.extend(found)
        index.update(swept=True)  # whoever counted on what the old index said has to look again
        self.after_update(index)
        return index

    def after_update(self, index: Index) -> None:
        """Where no boot id tells that the machine went down, the index is synced instead."""
        if _fs.boot_id() is None:
            index.sync()

    def refresh(self) -> None:
        """Call with the store's lock held, before an update: follow another's rebuild, or make up for a loss."""
        if not self.read_only and self.index.is_replaced():
            self.index.close()
            self.index = self._open()

    def follow(self) -> None:
        """For who reads: go on with another's index where that has taken the place of this one."""
        if not self.read_only and self.index.is_replaced():
            with self._lock.held():
                self.refresh()

    def still(self) -> AbstractContextManager[None]:
        """While the body runs no record moves, if it can be helped: a store that can't be written can't be locked."""
        return nullcontext() if self.read_only else self._lock.held()

    def look_again(self) -> bool:
        """A record is missing: follow another's rebuild, take in packs that the index lacks. True: look again."""
        if self.read_only:
            return False
        with self._lock.held():
            replaced = self.index.is_replaced()
            self.refresh()
            known = self.index.packs()
            missing = [pack_id for pack_id in self._files.ids() if pack_id not in known]
            if missing:
                add_packs(self.index, self._files, missing, self._progress)
                self.after_update(self.index)
            return replaced or bool(missing)

    def mend(self, missing: Collection[bytes] = ()) -> bool:
        """Records can't be decoded, or are `missing`: make the index anew if what it says is not what packs say.

        True: look again. What an index was found to agree with is not compared again.
        """
        if not self.mends:
            return False
        before = self.index
        with nullcontext() if self.read_only else self._lock.held():
            if self.index is not before:
                return True  # another thread did it
            try:
                version = (self.index.epoch(), self.index.count())
                if version == self._agreed or agrees(self.index, self._files, missing):
                    self._agreed = version
                    return False
            except IndexDamagedError:
                pass
            self._progress.note("the index was damaged, and is made anew from the packs")
            self.rebuild()
            self._agreed = (self.index.epoch(), self.index.count())
            return True

    def close(self) -> None:
        self.index.close()
        if self._temporary is not None:
            self._temporary.cleanup()
