"""Commits beside the loop hold what was there when they were begun, bit for bit, and copy no more than they need."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from castore.codecs import choice
from castore.dtypes import by_name
from castore.errors import RefNameError, StateError, UsageError
from castore.store import Store
from castore.testing.states import equal_states
from castore.training.commits import Commits, Finished
from castore.training.staging import LARGE_BYTES
from tests.samples import assert_sound, packs
from tests.training.small import CHUNK_ELEMENTS, cloned, open_store

LARGE = 5 * CHUNK_ELEMENTS + 7  # float32 elements: several chunks, and a place of its own
assert LARGE * 4 > LARGE_BYTES


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    with open_store(tmp_path) as store:
        yield store


@pytest.fixture(scope="module")
def warm() -> None:
    """A process that has met enough data to use every codec: sizes are the same from here on."""
    choice.choose(bytes(choice.WARM_BYTES), by_name("float32"), None)


def random_bits(dtype: torch.dtype, elements: int, seed: int = 0) -> torch.Tensor:
    """[elements] of any bits, NaNs included; of torch.bool 0 and 1."""
    bits = torch.randint(0, 256, (elements * dtype.itemsize,), generator=torch.Generator().manual_seed(seed))
    return (bits % 2 if dtype is torch.bool else bits).to(torch.uint8).view(dtype)


def everything(seed: int) -> dict[str, Any]:
    """A state of every kind of leaf, each once below and once above the size that has a place of its own."""
    dtypes = (torch.float32, torch.bfloat16, torch.bool, torch.complex64, torch.int64, torch.float64, torch.uint8)
    matrix = random_bits(torch.float32, 300 * 100, seed).reshape(300, 100)
    return {
        "small": {str(dtype): random_bits(dtype, 33, seed) for dtype in dtypes},
        "large": {
            str(dtype): random_bits(dtype, 3 * CHUNK_ELEMENTS * 8 // dtype.itemsize + 5, seed) for dtype in dtypes
        },
        "transposed": matrix.T,
        "strided": random_bits(torch.bfloat16, 90000, seed)[::2],
        "conjugated": random_bits(torch.complex64, LARGE, seed).conj(),
        "scalar": torch.tensor(float(seed)),
        "empty": torch.empty(0, 3),
        "parameter": torch.nn.Parameter(matrix[:7].clone()),
        "array": np.arange(LARGE, dtype=">f4") * seed,
        "columns": np.arange(40000, dtype=np.float64).reshape(200, 200)[:, ::2],
        "values": [
            seed,
            float("nan"),
            None,
            "text",
            b"bytes" * 20000,
            1 << 80,
            (1, {2: 3}),
            torch.float16,
            slice(1, 2),
        ],
    }


@pytest.mark.parametrize(("worker", "delta_base"), [("thread", "memory"), ("thread", "disk"), ("process", "memory")])
def test_every_kind_of_leaf_is_committed_as_it_was_when_the_loop_went_on(
    store: Store, worker: str, delta_base: str
) -> None:
    commits = Commits(store, worker=worker, delta_base=delta_base)
    expected = []
    for seed in (1, 2, 2):
        state, other = everything(seed), everything(seed)
        commits.commit(state, step=seed)
        expected.append(other)
        for value in [*state["small"].values(), *state["large"].values(), state["strided"], state["transposed"]]:
            value.zero_()
        state["array"][:] = 0
        state["values"].clear()
    commits.close()
    for back, one in enumerate(reversed(expected)):
        assert equal_states(store.load(f"main~{back}"), one)
    assert_sound(store)


def committed(commits: Commits, state: Any) -> Finished:
    commits.commit(state)
    done = commits.wait()
    assert done is not None
    return done


def test_what_has_not_changed_is_not_copied_again(store: Store) -> None:
    frozen, trained = random_bits(torch.float32, LARGE), random_bits(torch.float32, 2 * LARGE)
    state = {"frozen": frozen, "trained": trained, "step": torch.tensor(0)}
    commits = Commits(store, worker="thread")
    assert committed(commits, state).copied_bytes == 12 * LARGE + 8
    trained.add_(1)
    assert committed(commits, state).copied_bytes == 8 * LARGE + 8
    assert committed(commits, state).copied_bytes == 8
    frozen.mul_(2)
    assert committed(commits, state).copied_bytes == 4 * LARGE + 8
    assert equal_states(store.load("main"), state)
    commits.close()


def test_tied_tensors_are_copied_once(store: Store) -> None:
    weight = random_bits(torch.float32, 210 * 100).reshape(210, 100)
    state = {"embedding": weight, "head": weight, "view": weight[:5]}
    commits = Commits(store, worker="thread")
    done = committed(commits, state)
    assert done.copied_bytes == done.raw_bytes == 4 * 210 * 100
    commits.close()
    loaded = store.load("main")
    assert equal_states(loaded, state)
    assert loaded["head"].data_ptr() == loaded["view"].data_ptr() == loaded["embedding"].data_ptr()


def write_data(tensor: torch.Tensor) -> None:
    tensor.data[CHUNK_ELEMENTS] += 1


def write_numpy(tensor: torch.Tensor) -> None:
    tensor.detach().numpy()[-1] += 1


def write_under_no_version(tensor: torch.Tensor) -> None:
    with torch.autograd._unsafe_preserve_version_counter(tensor):
        tensor.add_(1)


@pytest.mark.parametrize("delta_base", ["memory", "disk"])
@pytest.mark.parametrize("write", [write_data, write_numpy, write_under_no_version])
def test_writes_that_torch_does_not_count_are_seen(
    store: Store, write: Callable[[torch.Tensor], None], delta_base: str
) -> None:
    weight = torch.nn.Parameter(torch.ones(LARGE), requires_grad=False)
    commits = Commits(store, worker="thread", delta_base=delta_base)
    for _ in range(3):
        committed(commits, {"weight": weight})
        version = weight._version
        write(weight)
        assert weight._version == version
        assert committed(commits, {"weight": weight}).copied_bytes == 4 * LARGE
        assert equal_states(store.load("main"), {"weight": weight})
    commits.close()


def test_another_tensor_at_the_same_address_is_seen(store: Store) -> None:
    memory = np.ones(LARGE, np.float32)
    commits = Commits(store, worker="thread")
    committed(commits, {"weight": torch.from_numpy(memory)})
    memory[3] = 2
    committed(commits, {"weight": torch.from_numpy(memory)})
    commits.close()
    assert store.load("main")["weight"][3] == 2
    assert store.load("main~1")["weight"][3] == 1


def trained(number: int) -> dict[str, Any]:
    """The state after `number` steps: weights that move a little, one that never does, an average that forgets."""
    start = torch.randn(LARGE, generator=torch.Generator().manual_seed(0))
    steps = [torch.randn(LARGE, generator=torch.Generator().manual_seed(1 + one)) for one in range(number)]
    weight = start + sum(1e-3 * step for step in steps)
    return {
        "weight": weight,
        "half": weight.bfloat16(),
        "frozen": start * 2,
        "average": steps[-1] if steps else torch.zeros(LARGE),
        "step": torch.tensor(float(number)),
    }


@pytest.mark.usefixtures("warm")
@pytest.mark.parametrize("delta_base", ["memory", "disk"])
def test_a_chain_takes_what_it_takes_when_committed_from_the_loop(tmp_path: Path, delta_base: str) -> None:
    with open_store(tmp_path / "beside") as beside, open_store(tmp_path / "plain") as plain:
        commits = Commits(beside, worker="thread", delta_base=delta_base)
        for number in range(14):  # further than deltas reach back
            done = committed(commits, trained(number))
            theirs = plain.commit(trained(number))
            assert done.commit.tree == theirs.tree
            assert done.commit.stats == theirs.stats
        commits.close()
        assert beside.show("main").stats.total.delta_bytes < beside.show("main").stats.total.stored_bytes
        assert beside.show("main~3").stats.total.delta_bytes > 0
        here, there = beside.stats(), plain.stats()
        assert (here.standalone_bytes, here.delta_bytes, here.chunks) == (
            there.standalone_bytes,
            there.delta_bytes,
            there.chunks,
        )
        for back in range(14):
            assert equal_states(beside.load(f"main~{back}"), trained(13 - back))
        assert_sound(beside)


@pytest.mark.parametrize("delta_base", ["memory", "disk"])
def test_bases_in_memory_are_used_and_not_decoded(store: Store, delta_base: str) -> None:
    """With the first pack damaged there is no base to be decoded: deltas need what lies in memory."""
    commits = Commits(store, worker="thread", delta_base=delta_base)
    committed(commits, {"weight": trained(0)["weight"]})
    damage(packs(store)[0])
    done = committed(commits, {"weight": trained(1)["weight"]})
    assert (done.commit.stats.total.delta_bytes > 0) == (delta_base == "memory")
    commits.close()


def damage(pack: Path) -> None:
    """Flip bits in the middle of a pack's first half, where the payloads of tensors are."""
    pack.chmod(0o600)
    with pack.open("r+b") as file:
        file.seek(pack.stat().st_size // 10)
        span = file.read(pack.stat().st_size * 7 // 10)
        file.seek(pack.stat().st_size // 10)
        file.write(bytes(byte ^ 0xFF for byte in span))


def test_states_may_grow_shrink_and_change_shape(store: Store) -> None:
    commits = Commits(store, worker="thread")
    states = [
        {"a": torch.ones(LARGE), "b": torch.zeros(LARGE)},
        {"a": torch.ones(2 * LARGE), "b": torch.zeros(LARGE), "c": torch.full((LARGE,), 2.0)},
        {"c": torch.full((LARGE,), 2.0), "a": torch.ones(LARGE, dtype=torch.float64)},
        {"a": torch.ones(10)},
        {},
        {"a": torch.ones(LARGE)},
    ]
    for state in states:
        committed(commits, state)
        assert equal_states(store.load("main"), state)
    commits.close()


@pytest.mark.parametrize("leaf", [lambda: 0, object(), {1: object()}], ids=["lambda", "object", "nested"])
def test_a_leaf_without_a_safe_encoding_is_named_and_nothing_begun(store: Store, leaf: object) -> None:
    commits = Commits(store, worker="thread")
    first = committed(commits, {"x": torch.ones(LARGE)})
    before = packs(store)
    with pytest.raises(StateError, match=r"model\.hook") as caught:
        commits.commit({"x": torch.zeros(LARGE), "model": {"hook": leaf}})
    assert "\n" not in str(caught.value)
    assert not commits.in_flight
    assert commits.wait() is None
    assert packs(store) == before and store.resolve("main") == first.commit.id
    committed(commits, {"x": torch.zeros(LARGE)})
    assert equal_states(store.load("main"), {"x": torch.zeros(LARGE)})
    commits.close()
    assert_sound(store)


def test_wrong_settings_are_refused_by_name(store: Store) -> None:
    with pytest.raises(UsageError, match="'gpu'"):
        Commits(store, worker="gpu")
    with pytest.raises(UsageError, match="'tape'"):
        Commits(store, delta_base="tape")
    with pytest.raises(RefNameError):
        Commits(store, "a..b")


ELEMENTS = {"weight": torch.float32, "half": torch.bfloat16, "mask": torch.bool, "wave": torch.complex64}
actions = st.lists(
    st.one_of(
        st.tuples(st.just("write"), st.sampled_from(sorted(ELEMENTS)), st.integers(0, 4), st.integers(0, 255)),
        st.tuples(st.just("replace"), st.sampled_from(sorted(ELEMENTS)), st.integers(1, 5), st.integers(0, 255)),
        st.tuples(st.sampled_from(["save", "wait", "load"]), st.just(""), st.just(0), st.just(0)),
    ),
    max_size=14,
)


@settings(max_examples=15, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(actions=actions, delta_base=st.sampled_from(["memory", "disk"]))
def test_whatever_a_loop_does_each_commit_is_what_was_there(
    actions: list[tuple[str, str, int, int]], delta_base: str
) -> None:
    with tempfile.TemporaryDirectory() as place, open_store(Path(place)) as store:
        state: dict[str, Any] = {name: random_bits(dtype, LARGE) for name, dtype in ELEMENTS.items()}
        state["step"] = 0
        commits = Commits(store, worker="thread", delta_base=delta_base)
        saved: list[Any] = []
        for action, name, where, value in [*actions, ("save", "", 0, 0), ("load", "", 0, 0)]:
            if action == "write":  # one chunk's first bytes, past torch's knowledge every other time
                held = state[name].data if value % 2 else state[name]
                held[where * CHUNK_ELEMENTS : where * CHUNK_ELEMENTS + 9] = value
            elif action == "replace":
                state[name] = random_bits(ELEMENTS[name], where * CHUNK_ELEMENTS + value, value)
            elif action == "save":
                state["step"] += 1
                commits.commit(state, step=state["step"])
                saved.append(cloned(state))
            elif action == "wait":
                commits.wait()
            else:
                commits.wait()
                if saved:
                    assert equal_states(store.load("main"), saved[-1])
        commits.close()
        for back, one in enumerate(reversed(saved)):
            assert equal_states(store.load(f"main~{back}"), one)
