"""A tensor without a counterpart by path becomes deltas to the nearest one of the store, and to nothing else."""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file

import castore
from castore import repo
from castore.codecs.choice import WARM_BYTES, choose
from castore.config import Config
from castore.dtypes import by_name
from castore.progress import Silent
from castore.store import Store
from castore.testing.states import equal_states
from tests.samples import assert_sound, flip, packs

Weights = dict[str, torch.Tensor]

LAYERS, WIDTH = 4, 256
RAW = LAYERS * WIDTH * WIDTH * 4
FAR = 0.82  # of the raw size: what float32 weights take alone, at least
NEAR = 0.6  # what they take where something near is stored, at most
FAR_HALF, NEAR_HALF = 0.64, 0.5  # the same for bfloat16
HASHES = ("xxh3-128", "blake3")


@pytest.fixture(scope="module", autouse=True)
def warm() -> None:
    """A process that has met enough data to use every codec."""
    choose(bytes(WARM_BYTES), by_name("float32"), None)


@pytest.fixture(params=HASHES)
def path(tmp_path: Path, request: pytest.FixtureRequest) -> Path:
    repo.create(tmp_path / ".castore", Config(hash=request.param))
    return tmp_path / ".castore"


@pytest.fixture
def store(path: Path) -> Store:
    return castore.open(path)


def weights(seed: int, layers: int = LAYERS, dtype: torch.dtype = torch.float32) -> Weights:
    generator = torch.Generator().manual_seed(seed)
    return {f"layers.{n}.weight": 0.02 * torch.randn(WIDTH, WIDTH, generator=generator, dtype=torch.float32).to(dtype)
            for n in range(layers)}  # fmt: skip


def moved(state: Weights, by: float = 1e-5, seed: int = 1) -> Weights:
    generator = torch.Generator().manual_seed(seed)
    return {name: (w.float() + by * torch.randn(w.shape, generator=generator)).to(w.dtype) for name, w in state.items()}


def renamed(state: Weights, form: str = "blocks.{}.kernel") -> Weights:
    return {form.format(number): w for number, w in enumerate(state.values())}


def cost(store: Store, state: Mapping[str, Any], branch: str = "main") -> float:
    """Bytes that a commit of tensors adds, of their raw size; it comes back bit for bit."""
    commit = store.commit(state, branch=branch)
    assert equal_states(store.load(commit.id), state)
    return store.last_new_bytes / sum(w.numel() * w.element_size() for w in _tensors(state))


def _tensors(state: Any) -> list[torch.Tensor]:
    return [one for part in state.values() for one in (_tensors(part) if isinstance(part, dict) else [part])]


def kept(store: Store) -> dict[bytes, bytes]:
    """The sketches of the index, without marks."""
    found = store._repo.chunks.access.index.sketches(b"", 10_000, 1 << 30)
    return {key: value for key, value in found.items() if value}


def drop(store: Store, branch: str) -> None:
    store.delete_branch(branch, force=True)
    store.gc()


def test_what_states_take_alone(store: Store) -> None:
    assert cost(store, weights(0)) > FAR
    assert cost(store, weights(0, dtype=torch.bfloat16), branch="half") > FAR_HALF


def test_renamed_layers_are_deltas_to_what_they_were(store: Store) -> None:
    store.commit({"model": weights(0)})
    assert cost(store, {"model": renamed(moved(weights(0)))}) < NEAR
    assert_sound(store)


def test_a_state_under_another_key_is_a_delta_to_what_it_was(store: Store) -> None:
    store.commit({"model": weights(0), "step": 1})
    assert cost(store, {"net": {"encoder": moved(weights(0))}}) < NEAR


def test_a_copy_that_a_state_begins_to_keep_is_a_delta_to_the_original(store: Store) -> None:
    original = weights(0)
    store.commit({"model": original})
    assert cost(store, {"model": original, "ema": moved(original)}) < NEAR / 2


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
def test_renamed_layers_are_deltas_to_their_newest_version(tmp_path: Path, dtype: torch.dtype) -> None:
    """Renaming costs no more than the names."""
    sizes = []
    for form in ("layers.{}.weight", "blocks.{}.kernel"):
        with castore.open(tmp_path / form[0], create=True) as store:
            state = weights(0, dtype=dtype)
            for step in range(6):
                state = moved(state, 1e-4, seed=step)
                store.commit(state)
            store.commit(renamed(moved(state, 1e-4, seed=9), form))
            sizes.append(store.last_new_bytes)
    assert sizes[1] < 1.03 * sizes[0] + 2000


@pytest.mark.parametrize("container", ["safetensors", "pt"])
def test_a_fine_tune_from_a_file_is_a_delta_to_the_model_under_other_names(
    store: Store, tmp_path: Path, container: str
) -> None:
    store.commit({"model": weights(0, dtype=torch.bfloat16), "step": 1})
    tuned = renamed(moved(weights(0, dtype=torch.bfloat16), 1e-4), "transformer.h.{}.w")
    write = save_file if container == "safetensors" else torch.save
    write(tuned, tmp_path / f"tuned.{container}")
    store.commit_files([tmp_path / f"tuned.{container}"], branch="tuned")
    assert store.last_new_bytes < NEAR_HALF * RAW / 2
    assert equal_states(dict(store.load("tuned")), tuned)
    assert_sound(store)


def test_a_state_is_a_delta_to_a_file_that_was_imported(store: Store, tmp_path: Path) -> None:
    save_file(weights(0), tmp_path / "base.safetensors")
    store.commit_files([tmp_path / "base.safetensors"], branch="base")
    assert cost(store, {"model": renamed(moved(weights(0)))}, branch="run") < NEAR


def test_files_of_the_same_names_inside_are_told_apart(store: Store, tmp_path: Path) -> None:
    for name, seed in (("model", 0), ("teacher", 1)):
        (tmp_path / "in").mkdir(exist_ok=True)
        save_file(weights(seed), tmp_path / "in" / f"{name}.safetensors")
    store.commit_files([tmp_path / "in"], branch="files")
    assert len(kept(store)) == 2 * LAYERS
    for seed in (0, 1):
        assert cost(store, renamed(moved(weights(seed))), branch=f"run{seed}") < NEAR


def test_a_merged_lora_is_a_delta_to_the_model_without_it(store: Store) -> None:
    model = weights(0, dtype=torch.bfloat16)
    store.commit({"model": model})
    generator = torch.Generator().manual_seed(3)
    merged = {
        name: (w + 2e-5 * torch.randn(WIDTH, 8, generator=generator) @ torch.randn(8, WIDTH, generator=generator))
        .bfloat16()
        for name, w in model.items()
    }  # fmt: skip
    assert cost(store, renamed(merged), branch="merged") < NEAR_HALF


def test_each_of_many_tensors_of_one_shape_finds_its_own(store: Store) -> None:
    layers = weights(0, layers=80)
    store.commit({"model": layers})
    backwards = dict(reversed(moved(layers).items()))
    assert cost(store, {"model": renamed(backwards)}, branch="other") < NEAR


def test_unrelated_tensors_of_the_same_shape_stand_alone(store: Store) -> None:
    store.commit({"model": weights(0)})
    commit = store.commit({"other": weights(1)}, branch="other")
    assert commit.stats.total.delta_bytes == 0
    assert store.last_new_bytes > FAR * RAW


def test_constants_have_no_nearest_and_do_no_harm(store: Store) -> None:
    zeros = {name: torch.zeros_like(w) for name, w in weights(0).items()}
    signed = {name: torch.where(torch.rand(WIDTH, WIDTH) < 0.5, 0.0, -0.0) for name in zeros}
    for number, state in enumerate((zeros, weights(0), signed, zeros)):
        commit = store.commit({f"root{number}": state}, branch=f"b{number}")
        assert equal_states(store.load(commit.id), {f"root{number}": state})


def test_a_delta_that_did_not_pay_for_another_tensor_is_tried_for_the_next_version(path: Path) -> None:
    """Near where the sketch was taken, and nowhere else."""
    text = (path / "castore.toml").read_text()
    (path / "castore.toml").write_text(text.replace("chunk_elements = 262144", "chunk_elements = 16384"))
    with castore.open(path) as store:
        store.commit(weights(0))
        half = weights(1)
        for name, near in moved(weights(0)).items():
            half[name][: WIDTH // 4] = near[: WIDTH // 4]  # the first chunk
        store.commit(renamed(half))
        chunks = [place for _, place in store._repo.chunks.access.index.items() if place.dtype]
        assert all(place.generation == (1 if place.bases else 0) for place in chunks)
        assert 0 < sum(1 for place in chunks if place.bases) == LAYERS
        assert cost(store, renamed(moved(half))) < NEAR
        assert_sound(store)


def test_what_rarely_pays_for_itself_may_be_a_base_for_others(store: Store) -> None:
    for seed in range(3):
        store.commit(weights(seed))  # nothing like the one before: deltas are not tried for a while
    assert cost(store, renamed(moved(weights(2)))) < NEAR


def test_a_chunk_that_is_cut_otherwise_is_no_base(path: Path) -> None:
    with castore.open(path) as store:
        store.commit({"model": weights(0)})
    text = (path / "castore.toml").read_text()
    assert "chunk_elements = 262144" in text
    (path / "castore.toml").write_text(text.replace("chunk_elements = 262144", "chunk_elements = 8192"))
    with castore.open(path) as store:
        assert cost(store, {"net": moved(weights(0))}) > FAR
        assert cost(store, {"again": renamed(moved(weights(0), seed=2))}) < NEAR
        assert_sound(store)


def test_a_lineage_has_one_sketch_whatever_the_number_of_commits(store: Store) -> None:
    for seed in range(20):  # stored whole each time, as exp_avg is
        store.commit({"model": weights(0), "moment": weights(seed)["layers.0.weight"]})
    assert len(kept(store)) == LAYERS + 1


def test_files_that_are_numbered_are_one_lineage(store: Store, tmp_path: Path) -> None:
    for seed in range(4):
        torch.save(weights(seed), tmp_path / f"step{seed}.pt")
        store.commit_files([tmp_path / f"step{seed}.pt"])
    assert len(kept(store)) == LAYERS


def test_only_large_tensors_of_common_floats_have_sketches(store: Store) -> None:
    some = torch.randn(200, 200)
    others = [torch.randn(100, 100), some.double(), some.int(), some.to(torch.float8_e5m2), some.double() * 1j]
    store.commit({"others": others, "half": some.half(), "complex": torch.complex(some, some)})
    assert len(kept(store)) == 2


def test_sketches_are_made_again_when_the_index_was_lost(path: Path) -> None:
    with castore.open(path) as store:
        store.commit({"model": weights(0)}, branch="base")
        store.commit({"model": weights(1)}, branch="other")
        store.commit({"unrelated": 1}, branch="third")
    shutil.rmtree(path / "index")
    with castore.open(path) as store:
        assert kept(store) == {}
        assert cost(store, {"model": renamed(moved(weights(0)))}, branch="tuned") < NEAR
        assert cost(store, {"model": renamed(moved(weights(1)))}, branch="tuned-again") < NEAR
        assert len(kept(store)) == 4 * LAYERS


def test_after_the_index_was_lost_renamed_layers_are_found_in_the_parent(path: Path) -> None:
    with castore.open(path) as store:
        store.commit({"model": weights(0)})
    shutil.rmtree(path / "index")
    with castore.open(path) as store:
        assert cost(store, {"model": renamed(moved(weights(0)))}) < NEAR


def test_gc_takes_the_sketches_of_what_it_takes(store: Store) -> None:
    store.commit({"model": weights(0)}, branch="doomed")
    store.commit({"model": weights(1)}, branch="main")
    drop(store, "doomed")
    assert len(kept(store)) == LAYERS
    chunks = sum(1 for _, place in store._repo.chunks.access.index.items() if place.dtype)
    assert chunks == LAYERS  # nothing is kept alive by a sketch
    assert cost(store, {"model": renamed(moved(weights(0)))}, branch="late") > FAR
    assert cost(store, {"model": renamed(moved(weights(1)))}, branch="near") < NEAR
    assert_sound(store)


def test_a_sketch_whose_chunks_are_gone_is_passed_over_and_forgotten(store: Store) -> None:
    store.commit({"model": weights(0)})
    index = store._repo.chunks.access.index
    gone = {key: bytes(store._repo.hash.size) + value[store._repo.hash.size :] for key, value in kept(store).items()}
    index.update(sketches=gone)
    assert cost(store, {"model": renamed(moved(weights(0)))}, branch="late") > FAR
    assert not kept(store).keys() & gone.keys()
    assert cost(store, {"model": renamed(moved(weights(0)))}, branch="later") < NEAR


@pytest.mark.parametrize("value", [b"x", b"x" * 100, b"x" * 1000, b"x" * 5000])
def test_a_sketch_that_makes_no_sense_is_no_candidate(store: Store, value: bytes) -> None:
    store.commit({"model": weights(0)})
    index = store._repo.chunks.access.index
    index.update(sketches=dict.fromkeys(kept(store), value))
    state = {"model": renamed(weights(5))}
    assert equal_states(store.load(store.commit(state, branch="late").id), state)


def test_a_damaged_candidate_costs_the_saving_and_nothing_else(path: Path) -> None:
    with castore.open(path) as store:
        store.commit({"model": weights(0)})
        size = packs(store)[0].stat().st_size
        for part in range(1, 40):
            flip(packs(store)[0], part * size // 41)
    with castore.open(path) as store:
        assert cost(store, {"model": renamed(moved(weights(0)))}, branch="late") > FAR
    shutil.rmtree(path / "index")
    with castore.open(path) as store:
        assert cost(store, {"model": renamed(moved(weights(0), seed=2))}, branch="later") < NEAR


def test_damage_in_other_branches_does_not_keep_a_state_from_being_saved(path: Path) -> None:
    with castore.open(path) as store:
        store.commit({"model": weights(0)}, branch="damaged")
        store.commit({"model": weights(1)}, branch="lost")
    shutil.rmtree(path / "index")
    (path / "refs" / "heads" / "lost").write_text("ab" * 10 + "\n")
    with castore.open(path) as store:
        assert cost(store, {"model": renamed(moved(weights(0)))}, branch="late") > FAR
    (path / "refs" / "heads" / "lost").unlink()
    for pack in packs(store):
        flip(pack, 40)
        flip(pack, pack.stat().st_size // 2)
    with castore.open(path) as store:
        assert cost(store, {"model": renamed(weights(3))}, branch="later") > FAR


class GcInTheMiddle(Silent):
    """Drops a branch, in another Store, once this commit has put all its chunks and before it publishes."""

    def __init__(self, path: Path, branch: str) -> None:
        self.path, self.branch, self.done = path, branch, False

    def finish(self) -> None:
        if not self.done:
            self.done = True
            with castore.open(self.path) as other:
                drop(other, self.branch)


def test_a_nearest_tensor_that_gc_takes_under_the_commit_is_no_loss(path: Path) -> None:
    """Half of it is near, and half the same: what was reused is put again, too."""
    state = {"model": renamed({**weights(0), **dict(list(moved(weights(0)).items())[:2])})}
    with castore.open(path) as store:
        store.commit({"model": weights(0)}, branch="doomed")
        store.commit({"other": 1})
    with castore.open(path, progress=GcInTheMiddle(path, "doomed")) as store:
        commit = store.commit(state)
        assert store.progress.done  # type: ignore[attr-defined]
        assert equal_states(store.load(commit.id), state)
        assert_sound(store)
        assert len(kept(store)) == LAYERS
    shutil.rmtree(path / "index")
    with castore.open(path) as store:
        assert equal_states(store.load(commit.id), state)
        assert_sound(store)


def test_settings_without_deltas_are_respected(path: Path) -> None:
    text = (path / "castore.toml").read_text()
    for name in ("max_depth = 1", "max_depth_half = 1"):
        assert name in text
        text = text.replace(name, f"{name.split(' ')[0]} = 0")
    (path / "castore.toml").write_text(text)
    with castore.open(path) as store:
        store.commit({"model": weights(0)})
        assert cost(store, {"model": renamed(moved(weights(0)))}) > FAR


def test_most_bounds_what_a_look_up_reads(store: Store) -> None:
    store.commit({"model": weights(0)})
    index = store._repo.chunks.access.index
    assert len(index.sketches(b"", 3, 1 << 30)) == 3
    values = list(index.sketches(b"", 1000, 300).values())
    assert sum(map(len, values[:-1])) < 300 <= sum(map(len, values))
