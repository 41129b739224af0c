"""Copies of tiers carry what produced their commits, and do not stand in for the store that is verified."""

from __future__ import annotations

import shutil
from pathlib import Path

import torch

import castore
from tests.samples import assert_sound, packs, state
from tests.tiered import tiered

TIERS = '[tiers.archive]\ndirectory = "copies"\n'


def test_a_copy_has_what_produced_each_commit_also_of_those_that_came_without_states(tmp_path: Path) -> None:
    with tiered(tmp_path, TIERS) as store:
        for number, tier in enumerate((None, "archive", "archive")):
            run = castore.Run(config={"n": number}, code_directory=tmp_path)
            store.commit(state(number), tier=tier, step=number, run=run)
        store.mirror()
        with castore.open(tmp_path / "copies") as copies:
            assert [copies.provenance(f"main~{n}").get("config", "n") for n in range(3)] == ["2", "1", "0"]
            assert_sound(copies)
        assert store.verify("main").ok
        for path in packs(store):
            path.unlink()
        shutil.rmtree(store.path / "index")
        store.repository.chunks.access.rebuild()
        assert store.provenance("main").get("config", "n") == "2"  # read from its copy


def test_verify_is_of_the_store_itself_and_not_of_its_copies(tmp_path: Path) -> None:
    with tiered(tmp_path, TIERS) as store:
        made = store.commit({"w": torch.arange(5000)}, tier="archive")
        store.mirror()
        (path,) = packs(store)
        data = bytearray(path.read_bytes())
        (chunk,) = [
            entry for entry in store.repository.chunks.files.footer(bytes.fromhex(path.stem)) if entry.kind == 1
        ]
        data[chunk.offset + 5] ^= 1
        path.chmod(0o600)
        path.write_bytes(data)
    with castore.open(tmp_path) as again:
        assert again.load(made.id)["w"][7] == 7  # by way of the copy
        report = again.verify(made.id)
        assert not report.ok and "w" in report.problem
        with castore.open(tmp_path / "copies") as copies:
            assert copies.verify(made.id).ok


def test_verify_of_files_is_no_checkout_in_the_audit_log(tmp_path: Path) -> None:
    (tmp_path / "a.bin").write_bytes(bytes(50_000))
    with castore.open(tmp_path, create=True) as store:
        store.commit_files([tmp_path / "a.bin"])
        before = store.audit()
        assert store.verify().ok
        assert before and store.audit() == before
