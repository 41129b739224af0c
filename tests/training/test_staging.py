"""What commits beside the loop copy, and what they keep to take deltas against."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import castore
from castore.codecs import choice
from castore.dtypes import by_name
from castore.errors import StateError
from castore.state.live import flatten
from castore.store import Store
from castore.testing.states import equal_states
from castore.training.commits import Commits
from castore.training.layout import LARGE_BYTES
from castore.training.staging import Staging
from tests.samples import assert_sound, packs
from tests.training.small import CHUNK_ELEMENTS, LARGE, committed, open_store, random_bits

assert LARGE * 4 > LARGE_BYTES


@pytest.fixture(scope="module")
def warm() -> None:
    """A process that has met enough data to use every codec: sizes are the same from here on."""
    choice.choose(bytes(choice.WARM_BYTES), by_name("float32"), None)


def test_what_has_not_changed_is_not_copied_again(store: Store) -> None:
    frozen, trained = random_bits(torch.float32, LARGE), random_bits(torch.float32, 2 * LARGE)
    state = {"frozen": frozen, "trained": trained, "step": torch.tensor(0)}
    commits = Commits(store, worker="thread", effort="full")
    assert committed(commits, state).copied_bytes == 12 * LARGE + 8
    trained.add_(1)
    assert committed(commits, state).copied_bytes == 8 * LARGE + 8
    assert committed(commits, state).copied_bytes == 8
    frozen.mul_(2)
    assert committed(commits, state).copied_bytes == 4 * LARGE + 8
    assert equal_states(store.load("main"), state)
    commits.close()


def test_keys_that_print_alike_are_told_apart(store: Store) -> None:
    state = {number: {"1": random_bits(torch.float32, LARGE, number), 1: torch.ones(LARGE)} for number in range(3)}
    commits = Commits(store, worker="thread", effort="full")
    for _ in range(3):
        committed(commits, state)
        assert equal_states(store.load("main"), state)
        state[1][1].add_(1)
    commits.close()


def test_a_state_that_is_refused_in_the_midst_of_it_leaves_nothing_behind(store: Store) -> None:
    state: dict[str, Any] = {str(number): random_bits(torch.float32, LARGE, number) for number in range(8)}
    commits = Commits(store, worker="thread", effort="full")
    for _ in range(2):
        committed(commits, state)
    refused = {**{key: tensor.clone() for key, tensor in state.items()}, "unsafe": object()}
    with pytest.raises(StateError):
        commits.commit(refused)  # by then the copies of the others are begun
    del refused
    for tensor in state.values():
        tensor.add_(1)
    committed(commits, state)
    assert equal_states(store.load("main"), state)
    commits.close()


def test_tied_tensors_are_copied_once(store: Store) -> None:
    weight = random_bits(torch.float32, 210 * 100).reshape(210, 100)
    state = {"embedding": weight, "head": weight, "view": weight[:5]}
    commits = Commits(store, worker="thread", effort="full")
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
    commits = Commits(store, worker="thread", delta_base=delta_base, effort="full")
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
    commits = Commits(store, worker="thread", effort="full")
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
        commits = Commits(beside, worker="thread", delta_base=delta_base, effort="full")
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
    commits = Commits(store, worker="thread", delta_base=delta_base, effort="full")
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


def adam(weight: torch.Tensor, betas: tuple[float, float]) -> dict[str, Any]:
    """The state of a parameter and of its optimizer after a step."""
    parameter = torch.nn.Parameter(weight)
    optimizer = torch.optim.AdamW([parameter], betas=betas)
    parameter.grad = torch.randn_like(parameter)
    optimizer.step()
    return {"model": {"weight": parameter.detach()}, "optimizer": optimizer.state_dict()}


@pytest.mark.parametrize(("beta1", "places"), [(0.9, 5), (0.99, 6)])
def test_a_moving_average_that_forgets_at_once_is_held_once(beta1: float, places: int) -> None:
    state = adam(torch.randn(32, 1024), (beta1, 0.999))
    staging = Staging(CHUNK_ELEMENTS, keep_anchors=True)
    staging.copy(flatten(state))
    small = 4096  # the optimizer's count of steps
    assert sum(segment.nbytes for segment in staging.segments.values()) == places * 4 * 32 * 1024 + small
    staging.close()


def test_states_come_back_whether_or_not_deltas_have_a_base_in_memory(store: Store) -> None:
    commits = Commits(store, worker="thread", effort="full")
    for step in range(4):
        state = adam(torch.randn(64, LARGE // 64), (0.9, 0.999))
        committed(commits, state)
        assert equal_states(store.load("main"), state), step
    commits.close()


@pytest.mark.parametrize("delta_base", ["memory", "disk"])
@pytest.mark.parametrize("share", [0, 0.5, 1, 100])
def test_memory_that_was_made_ready_before_serves_whatever_the_state_takes(
    store: Store, delta_base: str, share: float
) -> None:
    state = {str(number): random_bits(torch.float32, 3 * LARGE, number) for number in range(4)}
    commits = Commits(store, worker="thread", delta_base=delta_base, effort="full")
    commits.expect(int(share * 4 * 12 * LARGE))
    for _ in range(3):
        committed(commits, state)
        assert equal_states(store.load("main"), state)
        state["1"].add_(1)
        commits.expect(1 << 40)  # of no use any more
    commits.close()


def test_what_was_expected_and_never_came_is_given_back(store: Store) -> None:
    before = len(list(Path("/proc/self/fd").iterdir()))
    for _ in range(5):
        commits = Commits(store)
        commits.expect(64 << 20)
        commits.close()
    assert len(list(Path("/proc/self/fd").iterdir())) == before


def test_a_first_commit_is_laid_out_in_memory_that_is_ready(tmp_path: Path) -> None:
    model = torch.nn.Linear(512, 512)
    optimizer = torch.optim.AdamW(model.parameters())
    with (
        castore.open(tmp_path, create=True) as store,
        castore.Checkpointer(store, worker="thread", report=False, model=model, optimizer=optimizer) as checkpointer,
    ):
        expected, _, _ = checkpointer._commits._staging._layout._expected  # type: ignore[union-attr,misc]
        assert expected.nbytes > 2 * 3 * 4 * 512 * 512
        model(torch.ones(512)).sum().backward()
        optimizer.step()
        checkpointer.save(step=0, wait=True)
        (segment,) = checkpointer._commits._staging._layout.segments.values()  # type: ignore[union-attr]
        assert segment is expected
    with castore.open(tmp_path) as store, castore.Checkpointer(store, report=False, model=model) as checkpointer:
        assert checkpointer._commits._staging is None  # nothing is trained
