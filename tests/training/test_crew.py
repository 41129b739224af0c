"""Copies by several threads: all bytes, in any process, whatever becomes of who asked for them."""

from __future__ import annotations

import gc
import threading
from collections.abc import Iterator

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from castore.training.crew import PIECE_BYTES, Crew
from tests.processes import answer


@pytest.fixture(scope="module")
def crew() -> Iterator[Crew]:
    crew = Crew()
    yield crew
    crew.close()


def random_bytes(size: int) -> torch.Tensor:
    return torch.randint(0, 256, (size,), dtype=torch.uint8)


def begin(crew: Crew, target: torch.Tensor, source: torch.Tensor) -> None:
    crew.begin(target.data_ptr(), source.data_ptr(), source.numel(), source)


@given(
    sizes=st.lists(st.integers(0, 3 * PIECE_BYTES) | st.integers(0, 9), max_size=6),
    start=st.integers(0, 9),
)
def test_all_bytes_are_copied_and_none_beside_them(crew: Crew, sizes: list[int], start: int) -> None:
    target = torch.zeros(start + sum(sizes) + 9, dtype=torch.uint8)
    sources = [random_bytes(size) for size in sizes]
    at = start
    for source in sources:
        begin(crew, target[at:], source)
        at += source.numel()
    crew.finish()
    assert torch.equal(target[start:at], torch.cat([torch.empty(0, dtype=torch.uint8), *sources]))
    assert not target[:start].any() and not target[at:].any()


def test_it_holds_on_to_a_source_that_nobody_else_has() -> None:
    crew = Crew()
    target, expected = torch.zeros(8 * PIECE_BYTES, dtype=torch.uint8), random_bytes(8 * PIECE_BYTES)
    begin(crew, target, expected.clone())
    gc.collect()
    crew.finish()
    assert torch.equal(target, expected)
    crew.close()


def test_several_threads_may_wait_for_the_end(crew: Crew) -> None:
    target, source = torch.zeros(8 * PIECE_BYTES, dtype=torch.uint8), random_bytes(8 * PIECE_BYTES)
    seen: list[bool] = []

    def wait() -> None:
        crew.finish()
        seen.append(torch.equal(target, source))

    begin(crew, target, source)
    threads = [threading.Thread(target=wait) for _ in range(3)]
    for thread in threads:
        thread.start()
    crew.finish()
    assert torch.equal(target, source)
    for thread in threads:
        thread.join()
    assert seen == [True] * 3


def test_a_forked_process_has_threads_of_its_own(crew: Crew) -> None:
    source = random_bytes(2 * PIECE_BYTES)
    here = torch.zeros_like(source)
    begin(crew, here, source)
    crew.finish()

    def work() -> str:
        target = bytearray(source.numel())
        view = torch.frombuffer(target, dtype=torch.uint8)
        begin(crew, view, source)
        crew.finish()
        crew.close()
        return f"{bytes(target) == bytes(source.numpy())}"

    assert answer(work) == "True"


def test_its_threads_end_and_it_can_be_used_again() -> None:
    crew, before = Crew(), threading.active_count()
    source = random_bytes(100)
    for _ in range(2):
        target = torch.zeros_like(source)
        begin(crew, target, source)
        crew.close()
        assert torch.equal(target, source)
        assert threading.active_count() == before
