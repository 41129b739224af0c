"""Commits of what lies on a GPU hold what was there when they were begun, bit for bit, whatever the GPU does next."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch

import castore
from castore.errors import StateError
from castore.state.live import rng_state, set_rng_state
from castore.store import Store
from castore.testing.states import equal_states
from castore.training.commits import Commits
from castore.training.layout import LARGE_BYTES
from tests.training.small import CHUNK_ELEMENTS, LARGE, cloned, committed, random_bits

DTYPES = (torch.float32, torch.bfloat16, torch.float16, torch.bool, torch.complex64, torch.int64, torch.float64)
assert LARGE * 4 > LARGE_BYTES


def everything(seed: int, device: str) -> dict[str, Any]:
    """A state of every kind of tensor, each once below and once above the size that has a place of its own."""
    matrix = random_bits(torch.float32, 300 * 100, seed).to(device).reshape(300, 100)
    return {
        "small": {str(dtype): random_bits(dtype, 33, seed).to(device) for dtype in DTYPES},
        "large": {str(dtype): random_bits(dtype, 3 * CHUNK_ELEMENTS * 8 + 5, seed).to(device) for dtype in DTYPES},
        "float8": random_bits(torch.uint8, LARGE * 4, seed).to(device).view(torch.float8_e4m3fn),
        "transposed": matrix.T,
        "strided": random_bits(torch.bfloat16, 90000, seed).to(device)[::2],
        "few strided": random_bits(torch.int32, 90, seed).to(device)[::3],
        "conjugated": torch.arange(LARGE).mul(1 + 2j * seed).to(torch.complex64).to(device).conj(),
        "scalar": torch.tensor(float(seed), device=device),
        "empty": torch.empty(0, 3, device=device),
        "parameter": torch.nn.Parameter(matrix[:7].clone()),
        "tied": matrix,
        "in memory": random_bits(torch.float32, LARGE, seed),
        "few in memory": random_bits(torch.float32, 5, seed),
    }


@pytest.mark.parametrize("worker", ["process", "thread"])
@pytest.mark.parametrize("delta_base", ["memory", "disk"])
def test_every_kind_of_tensor_comes_back_from_a_chain_of_commits(store: Store, worker: str, delta_base: str) -> None:
    commits = Commits(store, worker=worker, delta_base=delta_base)
    for seed in (1, 2, 2, 3):
        committed(commits, everything(seed, "cuda"))
        found, expected = store.load("main"), everything(seed, "cpu")
        assert [name for name in expected if not equal_states(found[name], expected[name])] == []
    commits.close()


def test_a_state_may_change_as_soon_as_its_copy_is_made(store: Store) -> None:
    weights = [torch.randn(1 << 22, device="cuda") for _ in range(8)]
    few = [torch.randn(100, device="cuda") for _ in range(50)]
    commits = Commits(store, worker="process")
    for _ in range(4):
        expected = [one.cpu() for one in (*weights, *few)]
        commits.commit({"weights": weights, "few": few})
        for one in (*weights, *few):
            one.mul_(1.001)
        commits.wait()
        found = store.load("main")
        assert equal_states([*found["weights"], *found["few"]], expected)
    commits.close()


def test_copies_begun_of_a_state_that_is_refused_do_no_harm(store: Store) -> None:
    weights = [torch.randn(1 << 22, device="cuda") for _ in range(8)]
    commits = Commits(store, worker="thread", effort="full")
    committed(commits, {"weights": weights})
    for _ in range(3):
        with pytest.raises(StateError):
            commits.commit({"weights": weights, "bad": lambda: None})
        for one in weights:
            one.mul_(1.001)
        with torch.cuda.stream(torch.cuda.Stream()):
            torch.cuda.current_stream().wait_stream(torch.cuda.default_stream())
            committed(commits, {"weights": weights})
        assert equal_states(store.load("main")["weights"], [one.cpu() for one in weights])
    commits.close()


def test_tensors_that_come_and_go_and_change_their_shape(store: Store) -> None:
    commits = Commits(store, worker="thread", effort="full")
    for sizes in ((3, 5), (3, 5), (4, 5, 6), (5,), (5, 3), (3, 5)):
        state = {str(place): torch.randn(size * LARGE, device="cuda") for place, size in enumerate(sizes)}
        state["same"] = state["0"]
        committed(commits, state)
        found = store.load("main")
        assert [name for name, one in state.items() if not torch.equal(found[name], one.cpu())] == []
    commits.close()


def test_what_was_begun_on_the_current_stream_is_part_of_the_copy(store: Store) -> None:
    weight = torch.zeros(1 << 20, device="cuda")
    few = torch.zeros(9, device="cuda")
    torch.cuda.synchronize()
    commits = Commits(store, worker="thread", effort="full")
    with torch.cuda.stream(torch.cuda.Stream()):
        torch.cuda._sleep(200_000_000)  # a tenth of a second, in which the host is far ahead
        weight.add_(1)
        few.add_(1)
        committed(commits, {"weight": weight, "few": few})
    commits.close()
    found = store.load("main")
    assert bool((found["weight"] == 1).all()) and bool((found["few"] == 1).all())


@pytest.mark.parametrize("closed", [True, False])
def test_memory_is_locked_for_the_gpu_and_given_back(store: Store, closed: bool) -> None:
    weight = torch.randn(1 << 20, device="cuda")
    for _ in range(5):
        commits = Commits(store, worker="thread", effort="full")
        committed(commits, {"weight": weight})
        committed(commits, {"weight": weight})  # after which the second places are ready too
        for segment in commits._staging._layout.segments.values():  # type: ignore[union-attr]
            assert torch.frombuffer(segment.view, dtype=torch.uint8).is_pinned()
        if closed:
            commits.close()
        weight = torch.cat([weight, weight[:1000]])


@pytest.mark.parametrize("worker", ["process", "thread"])
@pytest.mark.parametrize(("amsgrad", "serves"), [(False, True), (True, False)])  # which keeps more than is foreseen
def test_memory_is_locked_before_the_first_commit(tmp_path: Path, worker: str, amsgrad: bool, serves: bool) -> None:
    model = torch.nn.Sequential(*(torch.nn.Linear(700, 1001) for _ in range(3))).cuda()
    optimizer = torch.optim.AdamW(model.parameters(), amsgrad=amsgrad)
    objects = {"model": model, "optimizer": optimizer}
    with (
        castore.open(tmp_path, create=True) as store,
        castore.Checkpointer(store, worker=worker, report=False, **objects) as checkpointer,
    ):
        layout = checkpointer._commits._staging._layout  # type: ignore[union-attr]
        layout.ready()
        assert layout._expected is not None
        expected, locked, device = layout._expected
        assert device == next(model.parameters()).device
        memory = torch.frombuffer(expected.view, dtype=torch.uint8, count=locked)
        assert memory.is_pinned()
        del memory
        for step in range(3):
            for layer in model:
                layer(torch.randn(4, 700, device="cuda")).sum().backward()
            optimizer.step()
            checkpointer.save(step=step, wait=True)
            found = store.load("main")
            assert equal_states(found["model"], model.state_dict())
            assert equal_states(found["optimizer"], optimizer.state_dict())
        (segment,) = layout.segments.values()
        assert (segment is expected) == serves


def test_a_loop_on_processors_starts_no_gpu(tmp_path: Path) -> None:
    text = f"""
import torch, castore
model = torch.nn.Linear(300, 300)
optimizer = torch.optim.AdamW(model.parameters())
where = ["begun"] if torch.cuda.is_initialized() else []
with castore.Checkpointer(castore.open({str(tmp_path)!r}, create=True), model=model, optimizer=optimizer) as ckpt:
    where += ["made"] if torch.cuda.is_initialized() else []
    ckpt.save(step=0)
    where += ["saved"] if torch.cuda.is_initialized() else []
    ckpt.resume()
where += ["resumed"] if torch.cuda.is_initialized() else []
assert not where, where
"""
    subprocess.run([sys.executable, "-c", text], check=True)


def test_a_state_on_a_gpu_is_committed_and_loaded_into_the_gpu(store: Store) -> None:
    torch.manual_seed(0)
    model, other = (torch.nn.Linear(300, 300).cuda() for _ in range(2))
    store.commit({"model": model.state_dict()})
    store.load_into("main", {"model": other})
    assert next(other.parameters()).device.type == "cuda"
    assert equal_states(cloned(other.state_dict()), cloned(model.state_dict()))


def test_generators_of_gpus_go_on_where_they_were() -> None:
    torch.randn(3, device="cuda")
    state = rng_state()
    expected = torch.randn(3, device="cuda")
    torch.randn(100, device="cuda")
    set_rng_state(state)
    assert torch.equal(torch.randn(3, device="cuda"), expected)


def test_a_generator_state_that_does_not_fit_changes_nothing() -> None:
    now = rng_state()
    with pytest.raises(StateError, match="random number generator"):
        set_rng_state({**now, "cuda": [torch.zeros(3, dtype=torch.uint8)]})
    assert equal_states(rng_state(), now)


def test_a_commit_says_which_gpus_and_flags_it_was_made_with(store: Store) -> None:
    model = torch.nn.Linear(30, 30).cuda()
    with castore.Checkpointer(store, model=model, report=False, policy={"steps": [0]}) as ckpt:
        ckpt.save(step=0, wait=True)
    found = store.provenance("main").sections
    assert found["torch"]["cuda"] == torch.version.cuda
    assert torch.cuda.get_device_name(0) in found["hardware"]["gpus"]
    assert found["seeds"]["torch.cuda"]
