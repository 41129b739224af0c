"""Whatever is done with a store, it is as a plain model says: the second hundred of 200 times 75 steps."""

from __future__ import annotations

from tests.model.runs import run


def test_the_store_is_as_its_model_says(one_thread: None) -> None:
    run(number=2, examples=100)
