"""How much is done of a commit beside the loop."""

from __future__ import annotations

import time
from collections.abc import Iterator

import pytest
import torch

from castore.chunks import parallel
from castore.errors import UsageError
from castore.store import Store
from castore.testing.states import equal_states
from castore.training.commits import Commits
from castore.training.effort import Effort
from castore.training.processors import Reading, read, shares
from tests.training.small import committed


def effort_of(setting: str, processors: int, passed: Reading) -> str:
    """The effort after what passed on the clocks."""
    first = Reading(100.0, 7.0, 5000.0, 400.0)
    return Effort(setting, processors, iter((first, first + passed)).__next__).next()


@pytest.mark.parametrize(
    ("processors", "wall", "used", "effort"),
    [
        (2, 10.0, 19.5, "fast"),  # training on all of two processors
        (2, 10.0, 10.0, "full"),  # one thread that feeds a GPU
        (16, 10.0, 16.0, "full"),
        (16, 10.0, 150.0, "fast"),
        (1, 10.0, 10.0, "fast"),
        (1, 10.0, 1.0, "full"),
    ],
)
def test_auto_is_fast_where_the_loop_needs_all(processors: int, wall: float, used: float, effort: str) -> None:
    assert effort_of("auto", processors, Reading(wall, used)) == effort
    assert effort_of("full", processors, Reading(wall, used)) == "full"
    assert effort_of("fast", processors, Reading(wall, used)) == "fast"


@pytest.mark.parametrize(
    ("total", "free", "effort"),
    [
        (20.0, 2.0, "fast"),  # what loads the data takes the rest
        (20.0, 9.0, "full"),
        (0.0, 0.0, "full"),  # a system that does not say
        (1.0, 0.0, "full"),  # or says next to nothing
    ],
)
def test_auto_is_fast_where_others_need_all(total: float, free: float, effort: str) -> None:
    assert effort_of("auto", 2, Reading(10.0, 10.0, total, free)) == effort
    assert effort_of("full", 2, Reading(10.0, 10.0, total, free)) == "full"


def test_what_the_loop_waits_for_a_commit_is_no_idle_time() -> None:
    readings = [Reading(100.0, 7.0, 0.0, 0.0), Reading(105.0, 16.0, 10.0, 1.0), Reading(110.0, 16.0, 20.0, 10.0)]
    readings += [Reading(111.0, 17.5, 22.0, 10.5), Reading(121.0, 27.5, 42.0, 20.0)]
    effort = Effort("auto", 2, iter(readings).__next__)
    with effort.waiting():  # half of ten seconds' training on all of two processors
        pass
    assert effort.next() == "fast"
    assert effort.next() == "full"


def test_the_books_of_the_system_go_on() -> None:
    first = read()
    while time.process_time() - first.used < 0.3:
        pass
    passed = read() - first
    share = shares(passed, parallel.processors())
    assert 0 < share.used <= 1.1
    if share.free is not None:  # a container's may be empty, and only Linux has them
        assert 0 <= share.free <= 1
        assert passed.total >= 0.2


def test_auto_does_not_flip_at_the_edge() -> None:
    """used, and free, of 20 seconds of two processors."""
    shares = [(14.0, 5.5), (15.0, 5.0), (14.0, 5.5), (12.5, 7.5), (11.5, 8.5), (14.0, 5.5), (12.0, 4.0), (11.0, 7.0)]
    readings = [Reading(0.0, 0.0, 0.0, 0.0)]
    for used, free in shares:
        readings.append(readings[-1] + Reading(10.0, used, 20.0, free))
    effort = Effort("auto", 2, iter(readings).__next__)
    found = [effort.next() for _ in shares]
    assert found == ["full", "fast", "fast", "fast", "full", "full", "fast", "fast"]


def test_an_effort_that_there_is_not(store: Store) -> None:
    with pytest.raises(UsageError, match="effort is 'auto', 'full' or 'fast', not 'lazy'"):
        Commits(store, effort="lazy")


def drifting(steps: int) -> Iterator[dict[str, torch.Tensor]]:
    """Weights of which a third stays, a third moves, and one value in a thousand of the rest changes."""
    torch.manual_seed(5)
    frozen, moving, sparse = (torch.randn(512, 1024) for _ in range(3))
    for step in range(steps):
        yield {"frozen": frozen, "moving": moving, "sparse": sparse, "step": torch.tensor(step)}
        moving = moving + 1e-2 * torch.randn_like(moving)
        sparse = torch.where(torch.rand_like(sparse) < 1e-3, sparse + 1.0, sparse)


@pytest.mark.parametrize("worker", ["thread", "process"])
@pytest.mark.parametrize("delta_base", ["memory", "disk"])
def test_a_fast_commit_codes_only_what_becomes_small(store: Store, worker: str, delta_base: str) -> None:
    commits = Commits(store, worker=worker, delta_base=delta_base, effort="fast")
    tensor = 4 * 512 * 1024
    for number, state in enumerate(drifting(4)):
        done = committed(commits, state)
        assert done.effort == "fast"
        if number:
            stored = done.commit.stats.components
            assert stored["frozen"].stored_bytes == 0
            assert stored["moving"].stored_bytes == tensor
            # A base that is not in memory is not decoded.
            assert stored["sparse"].stored_bytes <= (0.1 if delta_base == "memory" else 1) * tensor
        assert equal_states(store.load("main"), state)
    commits.close()


def test_what_a_fast_commit_left_a_full_one_takes_deltas_against(store: Store) -> None:
    states = list(drifting(4))
    fast = Commits(store, worker="thread", effort="fast")
    for state in states[:2]:
        committed(fast, state)
    fast.close()
    full = Commits(store, worker="thread", effort="full")
    done = committed(full, states[2])
    assert done.commit.stats.components["moving"].delta_bytes > 0
    assert equal_states(store.load("main"), states[2])
    full.close()


@pytest.mark.parametrize("delta_base", ["memory", "disk"])
def test_a_fast_commit_predicts_where_the_state_before_is_at_hand(store: Store, delta_base: str) -> None:
    """A step apart the optimizer's formula holds; but the kernels for it take more memory than "disk" is for."""
    torch.manual_seed(3)
    model = torch.nn.Linear(1024, 1024)
    optimizer = torch.optim.AdamW(model.parameters())
    commits = Commits(store, worker="thread", delta_base=delta_base, effort="fast")
    for _ in range(3):
        model(torch.randn(8, 1024)).square().sum().backward()
        optimizer.step()
        done = committed(commits, {"model": model.state_dict(), "optimizer": optimizer.state_dict()})
    predicted = sum(component.delta_bytes for component in done.commit.stats.components.values())
    assert predicted > 0 if delta_base == "memory" else predicted == 0
    assert equal_states(store.load("main")["model"], model.state_dict())
    commits.close()
