"""Pointer files: what lies where a framework wants a checkpoint file, and names the commit that holds it."""

from __future__ import annotations

import dataclasses
import json
from dataclasses import dataclass
from pathlib import Path

from castore import _fs, config
from castore.errors import CorruptError, MissingError, RevisionError, StoreNotFoundError
from castore.store import Store
from castore.store import open as open_store

FORMAT = "castore-pointer-1"
_MAX_BYTES = 64 << 10
_TORCH = (b"PK", b"\x80")  # a zip archive, and what torch.save wrote before it used those


@dataclass(frozen=True, slots=True)
class Pointer:
    """store: the `.castore` directory. store_uuid: which store that is, wherever it lies. commit: the full id."""

    store: str
    store_uuid: str
    branch: str
    commit: str

    @classmethod
    def to(cls, store: Store, branch: str, commit: str) -> Pointer:
        """The pointer to a commit of an open store."""
        return cls(str(store.path), config.read(store.path).uuid, branch, commit)

    def write(self, path: Path) -> None:
        """Write it as JSON, whole and durable; directories are made. Raises StorageError."""
        with _fs.storage_errors("create", path.parent):
            path.parent.mkdir(parents=True, exist_ok=True)
        text = json.dumps({"format": FORMAT, **dataclasses.asdict(self)}, indent=2)
        _fs.replace(path, f"{text}\n".encode())

    def opened(self, path: Path, near: Store | None = None) -> Store:
        """The store with the commit: `near` if it is that one, else the one at the place that is noted here.

        path: where the pointer was read. Raises StoreNotFoundError, MissingError.
        """
        store = near if near is not None and config.read(near.path).uuid == self.store_uuid else self._noted(path)
        try:
            store.resolve(self.commit)
        except RevisionError:
            raise MissingError(
                f"{path} points to commit {self.commit[:12]}, which {store.path} does not have (any more): "
                f"`castore log {self.branch}` lists what there is"
            ) from None
        return store

    def _noted(self, path: Path) -> Store:
        try:
            found = config.read(Path(self.store)).uuid
        except StoreNotFoundError:
            found = None
        if found != self.store_uuid:
            why = "is not there" if found is None else f"is another store, {found}"
            raise StoreNotFoundError(
                f"{path} points into store {self.store_uuid}; {self.store} {why}: open the store where it lies now, "
                "and give that to the adapter"
            )
        return open_store(self.store)


def read_pointer(path: Path) -> Pointer | None:
    """The pointer at `path`, or None where a checkpoint of torch.save lies, or a directory, or nothing.

    Raises CorruptError for a file that is neither.
    """
    if not path.is_file():
        return None
    with _fs.storage_errors("read", path), path.open("rb") as file:
        data = file.read(_MAX_BYTES + 1)
    if data.startswith(_TORCH):
        return None
    try:
        table = json.loads(data) if len(data) <= _MAX_BYTES else None
    except (ValueError, RecursionError):
        table = None
    names = [field.name for field in dataclasses.fields(Pointer)]
    if isinstance(table, dict) and table.get("format") == FORMAT:
        values = [table.get(name) for name in names]
        if all(type(value) is str and value for value in values):
            return Pointer(*map(str, values))
    raise CorruptError(
        f"{path} is neither a checkpoint nor a whole pointer to a commit; load the commit itself: "
        "`castore log` finds it, and `castore checkout ID -o NAME.ckpt` writes it to a file"
    )
