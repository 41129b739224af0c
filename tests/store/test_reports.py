"""diff, stats and entries: numbers that can be checked against torch."""

from __future__ import annotations

import math
from pathlib import Path

import pytest
import torch

import castore
from castore.store import Store
from tests.samples import LARGE, packs, state


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return castore.open(tmp_path, create=True)


@pytest.mark.parametrize(
    "dtype", [torch.float32, torch.float64, torch.bfloat16, torch.float16, torch.int32, torch.complex64, torch.uint8]
)
def test_diffs_numbers_are_those_of_torch(store: Store, dtype: torch.dtype) -> None:
    generator = torch.Generator().manual_seed(1)
    a = (torch.randn(LARGE, generator=generator) * 50 + 100).to(dtype)
    b = a.clone()
    b[::3] = (torch.randn(len(b[::3]), generator=generator) * 50 + 100).to(dtype)
    store.commit({"w": a, "same": torch.ones(5), "n": 1})
    store.commit({"w": b, "same": torch.ones(5), "n": 2})
    found = store.diff("main~1", "main")
    (change,) = [entry for entry in found.tensors if entry.path == "w"]
    wide = torch.complex128 if dtype.is_complex else torch.float64
    x, y = a.to(wide), b.to(wide)
    assert change.change == "changed"
    assert change.relative_l2 == pytest.approx(float((y - x).norm() / x.norm()), rel=1e-9)
    assert change.max_abs == pytest.approx(float((y - x).abs().max()), rel=1e-12)
    assert found.counts == {"changed": 1, "unchanged": 1}
    assert [(entry.path, entry.change) for entry in found.values] == [("n", "changed")]


def test_diff_tells_what_came_went_and_changed_its_shape(store: Store) -> None:
    store.commit(
        {"gone": torch.ones(2), "shape": torch.ones(4), "dtype": torch.ones(3), "zero": torch.zeros(3), "v": 1}
    )
    store.commit({"new": torch.ones(2), "shape": torch.ones(2, 2), "dtype": torch.ones(3).int(), "zero": torch.ones(3)})
    found = {entry.path: entry for entry in store.diff("main~1", "main").tensors}
    assert {path: entry.change for path, entry in found.items()} == {
        "new": "added",
        "gone": "removed",
        "shape": "reshaped",
        "dtype": "reshaped",
        "zero": "changed",
    }
    assert (found["zero"].relative_l2, found["zero"].max_abs) == (math.inf, 1.0)
    assert (found["shape"].old, found["shape"].new) == ("float32[4]", "float32[2, 2]")
    same = store.diff("main", "main")
    assert set(same.counts) == {"unchanged"}


def test_diff_of_nan_and_of_empty_tensors(store: Store) -> None:
    store.commit({"nan": torch.tensor([1.0, 2.0]), "empty": torch.zeros(0), "scalar": torch.tensor(1.0)})
    store.commit({"nan": torch.tensor([1.0, math.nan]), "empty": torch.zeros(0), "scalar": torch.tensor(3.0)})
    found = {entry.path: entry for entry in store.diff("main~1", "main").tensors}
    assert math.isnan(found["nan"].relative_l2 or 0.0)
    assert math.isnan(found["nan"].max_abs or 0.0)
    assert found["empty"].change == "unchanged"
    assert (found["scalar"].relative_l2, found["scalar"].max_abs) == (2.0, 2.0)


def test_diff_of_files_compares_the_tensors_in_them(store: Store, tmp_path: Path) -> None:
    for step in (1, 2):
        torch.save({"w": torch.full((100,), float(step)), "same": torch.ones(9)}, tmp_path / "model.pt")
        (tmp_path / "notes.txt").write_text("same")
        store.commit_files([tmp_path / "model.pt", tmp_path / "notes.txt"])
    found = {entry.path: entry for entry in store.diff("main~1", "main").tensors}
    assert found["model.pt.w"].change == "changed"
    assert (found["model.pt.w"].relative_l2, found["model.pt.w"].max_abs) == (1.0, 1.0)
    assert found["model.pt.same"].change == "unchanged"
    assert found["notes.txt"].change == "unchanged"


def test_stats_add_up_to_what_lies_on_disk(store: Store) -> None:
    commits = [store.commit(state(seed, 20_000)) for seed in range(3)]
    store.commit(state(1, 20_000), branch="again")
    found = store.stats()
    sizes = sum(path.stat().st_size for path in packs(store))
    assert (found.commits, found.packs, found.stored_bytes) == (4, 4, sizes)
    assert found.standalone_bytes + found.delta_bytes == sum(found.codecs.values())
    assert found.standalone_bytes + found.delta_bytes + found.object_bytes < sizes
    assert found.raw_bytes == 4 * commits[0].stats.total.raw_bytes
    assert found.unique_bytes < found.raw_bytes
    assert sum(part.raw_bytes for part in found.components.values()) == found.raw_bytes
    assert sum(part.stored_bytes for part in found.components.values()) == found.standalone_bytes + found.delta_bytes
    for commit in commits:
        total, parts = commit.stats.total, commit.stats.components.values()
        assert total.raw_bytes == sum(part.raw_bytes for part in parts)
        assert total.delta_bytes <= total.stored_bytes
        assert total.new_raw_bytes <= total.raw_bytes
    assert store.show("again").stats.total.new_raw_bytes == 0


def test_entries_list_a_commits_leaves(store: Store) -> None:
    tied = torch.ones(4)
    store.commit({"model": {"w": torch.zeros(2, 3), "a": tied, "b": tied}, "step": 5, "list": [1, 2], "name": "x"})
    found = {entry.path: entry for entry in store.entries()}
    assert (found["model.w"].dtype, found["model.w"].shape, found["model.w"].raw_bytes) == ("float32", (2, 3), 24)
    assert found["model.a"].raw_bytes + found["model.b"].raw_bytes == 16
    assert (found["step"].kind, found["step"].value, found["name"].value) == ("value", "5", "'x'")
    assert [entry.path for entry in store.entries(only="model.w")] == ["model.w"]
    assert sum(entry.raw_bytes for entry in found.values()) == store.show().stats.total.raw_bytes
