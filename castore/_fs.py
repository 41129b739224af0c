"""The only code that creates, writes, syncs, renames, locks or deletes the files of a store.

Everything that must survive a power cut goes through here, so that one test harness can record each operation,
make it fail, or replay what a crash would have left. An OSError becomes a StorageError that names the file and,
for a full disk, says so. A failed fsync is never retried: the kernel may have dropped the dirty pages already
(https://wiki.postgresql.org/wiki/Fsync_Errors), so the write is abandoned and the error raised.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import re
import stat
import threading
import time
from collections.abc import Callable, Collection, Iterator
from pathlib import Path

from castore.errors import CastoreError, CorruptError, LockTimeoutError, StorageError

_DIRECT = getattr(os, "O_DIRECT", 0)  # 0 where the system has none
_SHARED_DIR = stat.S_ISGID | stat.S_IRWXG

_ADVICE = {
    errno.ENOSPC: "the disk is full; free some space and try again, what was committed before is unharmed",
    errno.EDQUOT: "the disk quota is used up; free some space and try again, what was committed before is unharmed",
    errno.EROFS: "the file system is read-only",
    errno.EACCES: "permission denied; the store belongs to another user or is read-only",
    errno.EPERM: "operation not permitted; the store belongs to another user or is read-only",
    errno.EMFILE: "too many open files; raise `ulimit -n`",
}


@contextlib.contextmanager
def storage_errors(action: str, path: Path) -> Iterator[None]:
    """Turn an OSError of the body into a StorageError: `cannot ACTION PATH: why`. FileNotFoundError passes."""
    try:
        yield
    except (FileNotFoundError, FileExistsError):
        raise
    except OSError as error:
        why = _ADVICE.get(error.errno or 0, error.strerror or str(error))
        raise StorageError(f"cannot {action} {path}: {why}") from error


def is_shared(directory: Path) -> bool:
    """Whether a directory belongs to a group, as `share` makes it: what is created in it then does too.

    Else that is private to its owner. The modes are all that says so: a store that is shared is one to the file system.
    """
    return os.stat(directory).st_mode & _SHARED_DIR == _SHARED_DIR


def file_mode(directory: Path) -> int:
    """The mode of a file that is created in a directory."""
    return 0o660 if is_shared(directory) else 0o600


def _open(path: Path, flags: int) -> int:
    """Open a file, and where that creates it give it its mode, whatever the umask."""
    mode = file_mode(path.parent)
    fd = os.open(path, flags | os.O_CLOEXEC, mode)
    found = os.fstat(fd)
    if mode != 0o600 and stat.S_IMODE(found.st_mode) != mode and found.st_uid == os.geteuid():
        os.fchmod(fd, mode)
    return fd


def settle_mode(path: Path) -> None:
    """Give a file that a library has made the mode that it would have from us."""
    with storage_errors("share", path):
        mode = file_mode(path.parent)
        found = os.stat(path)
        if stat.S_IMODE(found.st_mode) != mode and found.st_uid == os.geteuid():
            os.chmod(path, mode)


class File:
    """A file being written. Positional writes may come from several threads at once."""

    def __init__(self, path: Path, fd: int) -> None:
        self.path = path
        self._fd = fd

    @classmethod
    def create(cls, path: Path) -> File:
        """Create `path`, which must not exist, for those who its directory is for: see `is_shared`."""
        with storage_errors("create", path):
            return cls(path, _open(path, os.O_CREAT | os.O_EXCL | os.O_RDWR))

    def fileno(self) -> int:
        return self._fd

    def write_at(self, offset: int, *parts: bytes | bytearray | memoryview) -> None:
        """Write all of the parts, one behind the other, from `offset` on; short writes are continued."""
        views = [memoryview(part).cast("B") for part in parts]
        with storage_errors("write", self.path):
            while views := [view for view in views if view]:
                try:
                    written = os.pwritev(self._fd, views, offset)
                except OSError as error:
                    if error.errno in (errno.EINVAL, errno.EFAULT) and self.is_direct:
                        # A file system that only says that it can, or a driver's memory that the disk may not read.
                        self.pass_cache(False)
                        continue
                    raise
                if written == 0:
                    raise OSError(errno.EIO, "the disk accepted no bytes")
                offset += written
                for number, view in enumerate(views):
                    views[number] = view[written:]
                    written = max(written - len(view), 0)

    def pass_cache(self, wanted: bool) -> None:
        """Write past the page cache from now on, or no more: see `is_direct`.

        Past it, offsets, lengths and addresses must be multiples of what the disk asks for, at most a page. A file
        system that cannot do so goes on as before.
        """
        flags = fcntl.fcntl(self._fd, fcntl.F_GETFL) & ~_DIRECT
        with storage_errors("write", self.path):
            try:
                fcntl.fcntl(self._fd, fcntl.F_SETFL, flags | _DIRECT if wanted else flags)
            except OSError as error:
                if error.errno != errno.EINVAL:
                    raise

    @property
    def is_direct(self) -> bool:
        """Whether writes go past the page cache."""
        return bool(fcntl.fcntl(self._fd, fcntl.F_GETFL) & _DIRECT)

    def sync_data(self) -> None:
        """Put what was written so far on stable storage, so that a later `sync` has less to wait for."""
        with storage_errors("sync", self.path):
            os.fdatasync(self._fd)

    def sync(self) -> None:
        """Put the file's bytes and size on stable storage."""
        with storage_errors("sync", self.path):
            os.fsync(self._fd)

    def lock(self) -> bool:
        """Hold the file's lock for as long as it is open: who finds it unlocked knows that its writer is gone.

        False when somebody did so, and deleted the file, between its creation and this call.
        """
        fcntl.flock(self._fd, fcntl.LOCK_EX)
        return os.fstat(self._fd).st_nlink > 0

    def close(self) -> None:
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1


def open_regular(path: Path) -> int:
    """A descriptor of a file of the store, for reading. Raises FileNotFoundError, StorageError, CorruptError.

    Symbolic links, devices and pipes are refused: castore makes none, and one that somebody else put there could lead
    out of the store or block for ever.
    """
    with storage_errors("read", path):
        try:
            fd = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
        except NotADirectoryError as error:
            raise FileNotFoundError(*error.args) from None
        except OSError as error:
            if error.errno == errno.ELOOP:
                raise foreign(path, "a symbolic link") from error
            if error.errno == errno.ENXIO:
                raise foreign(path, "a socket") from error
            raise
    if stat.S_ISREG(os.fstat(fd).st_mode):
        return fd
    os.close(fd)
    raise foreign(path, "not a regular file")


def foreign(path: Path, what: str) -> CorruptError:
    """The error for what stands in a store where castore puts something else."""
    return CorruptError(f"{path} is {what}, which castore never makes; find out who did, then delete it")


def refuse_links(directory: Path, names: Collection[str]) -> None:
    """Refuse a directory in which a symbolic link stands at one of some names. Raises CorruptError, StorageError.

    Through one that a stranger put there, deletions and renames of ours would reach out of the store.
    """
    with contextlib.suppress(FileNotFoundError), storage_errors("list", directory), os.scandir(directory) as entries:
        for entry in entries:
            if entry.is_symlink() and entry.name in names:
                raise foreign(directory / entry.name, "a symbolic link")


def sync_dir(path: Path) -> None:
    """Put a directory's entries (creations, renames, deletions) on stable storage."""
    with storage_errors("sync", path):
        fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            os.fsync(fd)
        finally:
            os.close(fd)


def sync_dirs(path: Path, leave_out: Collection[str]) -> None:
    """`sync_dir` for a directory and all below it, but for those named in `leave_out` directly below it."""
    for entry in path.iterdir():
        if entry.name not in leave_out and entry.is_dir() and not entry.is_symlink():
            sync_dirs(entry, ())
    sync_dir(path)


def make_dir(path: Path, private: bool = False) -> None:
    """Create a directory and make its entry durable: shared if its parent is and not `private`. It may be there."""
    try:
        with storage_errors("create", path):
            shared = not private and is_shared(path.parent)
            os.mkdir(path, 0o770 if shared else 0o700)
    except FileExistsError:
        if not path.is_dir():
            raise StorageError(f"cannot create {path}: a file of that name is in the way") from None
        if any(path.iterdir()):
            return  # an empty one may be what a crash left between its creation and the sync of its entry
    if shared and not is_shared(path):  # the umask took its part
        with storage_errors("share", path):
            os.chmod(path, _SHARED_DIR | 0o700)
    sync_dir(path.parent)


def share(directory: Path, group: int) -> None:
    """Let a directory belong to a group, and with it all that is created in it from then on."""
    with storage_errors("share", directory):
        os.chown(directory, -1, group)
        os.chmod(directory, _SHARED_DIR | 0o700)


def make_dirs(path: Path, top: Path, private: bool = False) -> None:
    """Create every missing directory from below `top` (which exists) down to `path`, as `make_dir` does."""
    missing = []
    while path != top and not (path.is_dir() and any(path.iterdir())):
        missing.append(path)
        path = path.parent
    for directory in reversed(missing):
        make_dir(directory, private)


def rename(source: Path, target: Path) -> None:
    """Rename within one file system, replacing `target`; durable once `sync_dir(target.parent)` has returned."""
    with storage_errors("rename", source):
        os.replace(source, target)


def link(source: Path, target: Path) -> None:
    """Give a file a second name, which must be free; durable once `sync_dir(target.parent)` has returned."""
    with storage_errors("link", target):
        os.link(source, target, follow_symlinks=False)


def remove(path: Path) -> None:
    """Delete a file; durable once `sync_dir(path.parent)` has returned. It may be gone already."""
    with contextlib.suppress(FileNotFoundError), storage_errors("delete", path):
        os.unlink(path)


def remove_dir(path: Path) -> None:
    """Delete an empty directory; one that is missing or not empty is left alone."""
    with contextlib.suppress(OSError):
        os.rmdir(path)


def remove_tree(path: Path) -> None:
    """Delete a directory of derived files (the index) and all that is in it; also a file of its name."""
    if not path.is_dir() or path.is_symlink():
        remove(path)
        return
    for entry in path.iterdir():
        remove_tree(entry) if entry.is_dir() and not entry.is_symlink() else remove(entry)
    with storage_errors("delete", path):
        os.rmdir(path)


def replace(path: Path, data: bytes) -> None:
    """Write a small file whole: beside itself, fsync, rename, fsync of the directory. Old or new, never between."""
    beside = path.with_name(f".{path.name}.{os.getpid()}.{time.monotonic_ns():x}.tmp")
    file = File.create(beside)
    try:
        file.write_at(0, data)
        file.sync()
        file.close()
        rename(beside, path)
    except BaseException:
        file.close()
        remove(beside)
        raise
    sync_dir(path.parent)


def append(path: Path, line: bytes, durable: bool = True) -> None:
    """Append to a log in one write and make it durable; the file is created when it is missing.

    durable: False for what may be lost with the machine, and must not wait for the disk.
    """
    fresh = durable and not path.exists()
    with storage_errors("append to", path):
        # A link that somebody put there could lead out of the store, and a pipe block for ever.
        fd = _open(path, os.O_CREAT | os.O_WRONLY | os.O_APPEND | os.O_NOFOLLOW | os.O_NONBLOCK)
        try:
            if os.write(fd, line) != len(line):
                raise OSError(errno.EIO, "the disk accepted only a part of the line")
            if durable:
                os.fsync(fd)
        finally:
            os.close(fd)
    if fresh:
        sync_dir(path.parent)


@contextlib.contextmanager
def alone(path: Path) -> Iterator[bool]:
    """Whether nobody else is in a body of this kind on `path`, an empty file that is made if need be; waits for no one.

    flock, as in `Lock`: the kernel lets go of it when its holder dies.
    """
    with storage_errors("lock", path):
        fd = _open(path, os.O_CREAT | os.O_RDWR | os.O_NOFOLLOW)
    try:
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            yield False
            return
        try:
            yield True
        finally:
            fcntl.flock(fd, fcntl.LOCK_UN)
    finally:
        os.close(fd)


def remove_abandoned(path: Path) -> bool:
    """Delete a file of `incoming/` whose writer is gone: nobody holds its lock. Returns whether it was deleted.

    It is deleted with its lock held: a writer that has created the file but not yet locked it finds it gone.
    What is no regular file was never a pack of ours, and is left alone.
    """
    try:
        fd = open_regular(path)
    except (FileNotFoundError, CorruptError):
        return False
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        remove(path)
    except BlockingIOError:
        return False
    finally:
        os.close(fd)
    return True


class Lock:
    """The store's lock, between processes and between threads: short critical sections only.

    flock is released by the kernel when its holder dies, so there are no stale locks to break. It is released by name,
    not by closing the file: a child forked meanwhile (a data loader's worker) keeps the file open for as long as it
    lives. A thread that holds the lock may take it again.

    What its holder changed can be seen before it is durable. So that nobody builds on what a power cut would take back,
    the file has a byte while the lock is held: who finds it there knows that a holder died, or that the disk refused
    something, in the midst of a change, and syncs the directories first.
    """

    def __init__(self, path: Path, timeout_s: float, recover: Callable[[], None] = lambda: None) -> None:
        """recover: puts on stable storage what a holder that died may have changed. Called with the lock held."""
        self.path = path
        self._timeout_s = timeout_s
        self._recover = recover
        self._thread = threading.local()

    @contextlib.contextmanager
    def held(self, within_s: float | None = None) -> Iterator[None]:
        """Hold the lock for the body. Raises LockTimeoutError after the store's bound, or after `within_s`."""
        if getattr(self._thread, "holds", False):
            yield
            return
        with storage_errors("lock", self.path):
            # What it truncates must be ours: a link that somebody put there could lead to any file of the user's.
            fd = _open(self.path, os.O_CREAT | os.O_RDWR | os.O_NOFOLLOW)
        try:
            self._acquire(fd, self._timeout_s if within_s is None else within_s)
            self._thread.holds = True
            with self._marked(fd):
                yield
        finally:
            self._thread.holds = False
            fcntl.flock(fd, fcntl.LOCK_UN)
            os.close(fd)

    @contextlib.contextmanager
    def _marked(self, fd: int) -> Iterator[None]:
        """Mark the file for the body. The mark stays if this process dies, or the disk refuses something."""
        if os.fstat(fd).st_size:
            self._recover()
        with storage_errors("lock", self.path):
            os.ftruncate(fd, 1)
        try:
            yield
        except CastoreError as error:
            if not isinstance(error, StorageError):
                self._unmark(fd)
            raise
        self._unmark(fd)

    @staticmethod
    def _unmark(fd: int) -> None:
        with contextlib.suppress(OSError):  # it costs the next holder some syncs, and what this one did is done
            os.ftruncate(fd, 0)

    def _acquire(self, fd: int, timeout_s: float) -> None:
        deadline = time.monotonic() + timeout_s
        pause_s = 0.0005
        while True:
            try:
                fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                if time.monotonic() > deadline:
                    raise LockTimeoutError(
                        f"another process held {self.path} for over {timeout_s:g} s; "
                        "see who it is with `fuser` or `lsof`, or wait and try again"
                    ) from None
                time.sleep(pause_s)
                pause_s = min(pause_s * 1.5, 0.02)
            else:
                return


def boot_id() -> str | None:
    """What tells one start of the operating system from another, or None where nothing does.

    Data that a process wrote but did not sync survives the process, not the machine: derived files that are never
    synced are trusted only under the boot that wrote them.
    """
    try:
        return Path("/proc/sys/kernel/random/boot_id").read_text("ascii").strip()
    except OSError:
        return None


NETWORK_FILE_SYSTEMS = frozenset(
    {
        "nfs",
        "nfs4",
        "cifs",
        "smb",
        "smb3",
        "smbfs",
        "afs",
        "9p",
        "ceph",
        "glusterfs",
        "lustre",
        "gpfs",
        "beegfs",
        "fuse.sshfs",
        "fuse.glusterfs",
    }
)
MOUNTS = Path("/proc/self/mountinfo")  # proc(5)


def network_file_system(path: Path) -> str | None:
    """The type of the network file system that `path` lies on, or None for a local one."""
    try:
        mounts = MOUNTS.read_text("utf-8", "surrogateescape").split("\n")
    except OSError:
        return None
    resolved = str(path.resolve())
    best, kind = "", None
    for line in mounts:
        fields = line.split(" ")
        if "-" not in fields[5:-1]:
            continue
        mount = re.sub(r"\\([0-7]{3})", lambda match: chr(int(match[1], 8)), fields[4])
        inside = resolved == mount or resolved.startswith(mount.rstrip("/") + "/")
        if inside and len(mount) >= len(best):
            best, kind = mount, fields[fields.index("-", 5) + 1]
    return kind if kind in NETWORK_FILE_SYSTEMS else None
