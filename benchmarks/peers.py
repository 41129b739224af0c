"""castore and what it is compared with, behind one small interface."""

from __future__ import annotations

import importlib.util
import io
import json
import os
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import torch

from benchmarks.bench import stored_bytes
from benchmarks.states import tensors_of


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """A state in memory, and the same as a torch.save file for the peers that take only files."""

    state: dict[str, Any]
    file: Path


class Peer(Protocol):
    """Keeps checkpoints in the folder that it was made with. i counts the commits from 0."""

    name: str

    def commit(self, checkpoint: Checkpoint, i: int) -> None: ...

    def load(self, i: int) -> Any: ...

    def stored_bytes(self) -> int: ...

    def close(self) -> None: ...


class _Folder:
    """What the peers that keep files in one folder have in common."""

    name: str

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    @classmethod
    def available(cls) -> bool:
        return True

    def stored_bytes(self) -> int:
        return stored_bytes(self.folder)

    def close(self) -> None:
        pass


class TorchSave(_Folder):
    """torch.save of the live state, then fsync of the file and its folder."""

    name = "torch.save"

    def commit(self, checkpoint: Checkpoint, i: int) -> None:
        path = self.folder / f"{i}.pt"
        torch.save(checkpoint.state, path)
        _sync(path)

    def load(self, i: int) -> Any:
        return torch.load(self.folder / f"{i}.pt", weights_only=True, mmap=False)


class Safetensors(_Folder):
    """The state's tensors, flattened to names; its other values are left out, which the format has no place for."""

    name = "safetensors"

    @classmethod
    def available(cls) -> bool:
        return importlib.util.find_spec("safetensors") is not None

    def commit(self, checkpoint: Checkpoint, i: int) -> None:
        from safetensors.torch import save_file

        path = self.folder / f"{i}.safetensors"
        save_file(dict(tensors_of(checkpoint.state)), path)
        _sync(path)

    def load(self, i: int) -> Any:
        from safetensors.torch import load_file

        # load_file only maps the file; cloned, the tensors are in memory, as the other peers leave them.
        mapped = load_file(self.folder / f"{i}.safetensors")
        return {name: tensor.clone() for name, tensor in mapped.items()}


class Zstd(_Folder):
    """zstd -3 with two threads over the torch.save file, which is already there, then fsync."""

    name = "zstd -3 -T2"

    def commit(self, checkpoint: Checkpoint, i: int) -> None:
        import zstandard

        path = self.folder / f"{i}.pt.zst"
        with checkpoint.file.open("rb") as source, path.open("wb") as target:
            zstandard.ZstdCompressor(level=3, threads=2).copy_stream(source, target)
        _sync(path)

    def load(self, i: int) -> Any:
        import zstandard

        content = io.BytesIO()
        with (self.folder / f"{i}.pt.zst").open("rb") as source:
            zstandard.ZstdDecompressor().copy_stream(source, content)
        content.seek(0)
        return torch.load(content, weights_only=True)


class Restic(_Folder):
    """restic backup of the torch.save file, which is already there."""

    name = "restic"

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        self._snapshots: list[tuple[str, Path]] = []
        self._run("init")

    @classmethod
    def available(cls) -> bool:
        return shutil.which("restic") is not None

    def commit(self, checkpoint: Checkpoint, i: int) -> None:
        report = self._run("backup", "--json", str(checkpoint.file)).splitlines()[-1]
        self._snapshots.append((json.loads(report)["snapshot_id"], checkpoint.file))

    def load(self, i: int) -> Any:
        snapshot, file = self._snapshots[i]
        return torch.load(io.BytesIO(self._run("dump", snapshot, str(file))), weights_only=True)

    def _run(self, *arguments: str) -> bytes:
        command = ["restic", "--no-cache", "-r", str(self.folder), *arguments]
        return _output(command, {"RESTIC_PASSWORD": "benchmark"})


class Borg(_Folder):
    """borg create -C zstd,1 of the torch.save file, which is already there."""

    name = "borg"

    def __init__(self, folder: Path) -> None:
        super().__init__(folder / "repository")
        self._environment = {
            "BORG_BASE_DIR": str(folder / "caches"),
            "BORG_UNKNOWN_UNENCRYPTED_REPO_ACCESS_IS_OK": "yes",
        }
        self._run("init", "-e", "none", str(self.folder))

    @classmethod
    def available(cls) -> bool:
        return shutil.which("borg") is not None

    def commit(self, checkpoint: Checkpoint, i: int) -> None:
        self._run("create", "-C", "zstd,1", f"{self.folder}::{i}", str(checkpoint.file))

    def load(self, i: int) -> Any:
        content = self._run("extract", "--stdout", f"{self.folder}::{i}")
        return torch.load(io.BytesIO(content), weights_only=True)

    def _run(self, *arguments: str) -> bytes:
        return _output(["borg", *arguments], self._environment)


class Castore:
    """castore through its public API. Its index is derived from its packs and not counted as stored."""

    name = "castore"
    effort = "full"

    def __init__(self, folder: Path) -> None:
        import castore

        self.folder = folder
        self.store = castore.open(folder, create=True)
        self._commits: list[str] = []

    @classmethod
    def available(cls) -> bool:
        return True

    def commit(self, checkpoint: Checkpoint, i: int) -> None:
        message = f"checkpoint {i}"
        made = self.store.commit(checkpoint.state, branch="main", message=message, effort=self.effort)
        self._commits.append(made.id)

    def load(self, i: int) -> Any:
        return self.store.load(self._commits[i])

    def stored_bytes(self) -> int:
        return stored_bytes(self.folder, derived=("index",))

    def close(self) -> None:
        self.store.close()


class FastCastore(Castore):
    """castore with commits in haste, whose coding is left to `castore repack`."""

    name = "castore, fast"
    effort = "fast"


class RepackedCastore(FastCastore):
    """The same, after `castore repack`: the newest state stands alone, older ones are deltas to newer ones."""

    name = "castore, repacked"

    def settle(self) -> None:
        """Once all is committed."""
        self.store.repack()


PEERS = (Castore, TorchSave, Safetensors, Zstd, Restic, Borg)
# castore's, and what labels say of them
OWN = {Castore.name: "", FastCastore.name: ", in haste", RepackedCastore.name: ", in haste, repacked"}
# Every restic and borg command starts a process and derives keys: too slow to be repeated in a quick run.
SLOW = (Restic, Borg)


def available_peers(quick: bool) -> list[type[Any]]:
    return [peer for peer in PEERS if peer.available() and not (quick and peer in SLOW)]


def with_haste(quick: bool) -> list[type[Any]]:
    """The same, and castore in haste: where time counts, not bytes."""
    return [*available_peers(quick), FastCastore]


def _sync(path: Path) -> None:
    for name in (path, path.parent):
        descriptor = os.open(name, os.O_RDONLY)
        os.fsync(descriptor)
        os.close(descriptor)


def _output(command: list[str], environment: dict[str, str]) -> bytes:
    done = subprocess.run(command, env=os.environ | environment, capture_output=True, check=False)
    if done.returncode:
        raise RuntimeError(f"{' '.join(command)} failed: {done.stderr.decode(errors='replace').strip()}")
    return done.stdout
