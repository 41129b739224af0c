"""How much is done of a commit beside the loop."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import torch

from castore.errors import UsageError
from castore.store import Store
from castore.testing.states import equal_states
from castore.training.commits import Commits
from castore.training.effort import Effort
from tests.training.small import committed


def effort_of(setting: str, processors: int, wall: float, used: float) -> str:
    """The effort after `wall` seconds, of which threads spent `used` on processors."""

    def clock(first: float, then: float) -> Iterator[float]:
        yield first
        yield first + then

    return Effort(setting, processors, clock(100.0, wall).__next__, clock(7.0, used).__next__).next()


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
    assert effort_of("auto", processors, wall, used) == effort
    assert effort_of("full", processors, wall, used) == "full"
    assert effort_of("fast", processors, wall, used) == "fast"


def test_what_the_loop_waits_for_a_commit_is_no_idle_time() -> None:
    walls, used = iter((100.0, 110.0, 120.0)), iter((7.0, 17.0, 27.0))
    effort = Effort("auto", 2, walls.__next__, used.__next__)
    effort.waited(4.5)  # half of ten seconds' training on all of two processors
    assert effort.next() == "fast"
    assert effort.next() == "full"


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
