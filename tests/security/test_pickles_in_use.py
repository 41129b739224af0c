"""Checkpoints that run code when they are unpickled, given to all that takes checkpoints: nothing of them ever runs."""

from __future__ import annotations

from pathlib import Path

import pytest

import castore
from castore.errors import CastoreError
from tests.cli.shell import InProcess
from tests.security.pickle_payloads import executing, in_zip, tensor


def written(directory: Path, marker: Path) -> list[Path]:
    """Each attack as a checkpoint of today, of before torch 1.6, and beside a good tensor."""
    directory.mkdir()
    made = []
    for number, data in enumerate(executing(marker).values()):
        beside = data.removesuffix(b".") + tensor() + b"\x86."
        for form, content in enumerate((in_zip(data), data, in_zip(beside))):
            path = directory / f"step_{3 * number + form + 1}.pt"
            path.write_bytes(content)
            made.append(path)
    return made


def test_commit_load_checkout_diff_and_verify_run_nothing(tmp_path: Path) -> None:
    marker = tmp_path / "executed"
    paths = written(tmp_path / "in", marker)
    with castore.open(tmp_path / "s", create=True) as store:
        for path in paths:
            store.commit_files([path], message=path.name)
            for work in (
                lambda: store.load("main"),
                lambda: store.load("main", only="*.w"),
                lambda: store.load("main", device="cpu"),
                lambda: store.checkout("main", tmp_path / "out.safetensors", format="safetensors", force=True),
                lambda: store.checkout("main", tmp_path / "out2.pt", format="pt", force=True),
                lambda: store.diff("main~1", "main"),
                lambda: list(store.entries("main")),
            ):
                try:
                    work()
                except CastoreError as error:
                    assert "\n" not in str(error)
            store.checkout("main", tmp_path / "back.pt", force=True)
            assert (tmp_path / "back.pt").read_bytes() == path.read_bytes()
        store.commit_files(paths, branch="all")
        store.repack()
        store.fsck()
        store.gc()
    assert not marker.exists()


def test_the_commands_run_nothing(tmp_path: Path) -> None:
    marker = tmp_path / "executed"
    paths = written(tmp_path / "in", marker)
    shell = InProcess(tmp_path)
    shell.ok("init")
    shell.ok("import", "in")
    shell.ok("commit", *paths[:6], "-m", "evil")
    for arguments in (["show", "--tensors"], ["card"], ["verify"], ["diff", "main~1", "main"], ["fsck", "--read-data"]):
        shell.run(*arguments)
    assert not marker.exists()


@pytest.mark.parametrize("form", ["zip", "plain", "pointer"])
def test_a_checkpoint_in_place_of_a_pointer_runs_nothing(tmp_path: Path, form: str) -> None:
    from castore.integrations.pointer import read_pointer

    marker = tmp_path / "executed"
    for number, data in enumerate(executing(marker).values()):
        path = tmp_path / f"{number}.ckpt"
        path.write_bytes(
            {"zip": in_zip(data), "plain": data, "pointer": b'{"format": "castore-pointer-1", ' + data}[form]
        )
        try:
            assert read_pointer(path) is None
        except CastoreError as error:
            assert "\n" not in str(error)
    assert not marker.exists()
