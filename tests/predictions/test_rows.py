"""Second moments some steps apart: rows and columns of a matrix that moved together are not stored word by word."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

import castore
from castore import codecs
from castore.codecs import choice, predicted
from castore.codecs.row_column import Rows
from castore.dtypes import by_name
from castore.state.live import flatten
from castore.state.roles import relations
from tests.samples import assert_sound

F32 = by_name("float32")
Words = NDArray[np.uint32]


def moments(rows: int, width: int, drift: float = 1.0) -> tuple[Words, Words]:
    """A second moment, and what became of it: of rank one, nearly. drift: of rows and columns, in halvings."""
    rng = np.random.default_rng(rows * width)
    noise = rng.lognormal(-18, 1, (rows, width))
    change = 2.0 ** (drift * rng.normal(size=(rows, 1))) * 2.0 ** (drift * rng.normal(size=(1, width)) / 8)
    after = noise * change * rng.lognormal(0, 0.05, noise.shape)
    return noise.astype("<f4").view("<u4").reshape(-1), after.astype("<f4").view("<u4").reshape(-1)


@pytest.fixture(autouse=True, scope="module")
def warm() -> None:
    choice.choose(bytes(choice.WARM_BYTES), F32, None)


@pytest.mark.parametrize("phase", [0, 1, 383])
def test_a_chunk_of_a_matrix_is_predicted_from_where_it_begins(phase: int) -> None:
    before, after = (one[phase:-50].tobytes() for one in moments(200, 384, drift=0.3))
    plain = choice.choose(after, F32, before)
    size, plain_id = len(plain.payload), plain.codec_id
    encoded = choice.choose(after, F32, before, Rows(384, phase))
    assert (plain_id, encoded.codec_id, encoded.is_delta) == (codecs.ORDERED_DELTA, codecs.PREDICTED, True)
    assert len(encoded.payload) < 0.95 * size
    out = bytearray(len(after))
    predicted.CODEC.decode_from(bytes(encoded.payload), F32, memoryview(out), [memoryview(before)])
    assert out == after


def test_rows_that_tell_nothing_leave_a_plain_delta() -> None:
    before, after = moments(200, 384, drift=0.0)
    for rows in (Rows(384, 0), Rows(383, 5), Rows(200 * 384, 0), Rows(1, 0)):
        assert choice.choose(after.tobytes(), F32, before.tobytes(), rows).codec_id == codecs.ORDERED_DELTA


def test_words_that_are_no_numbers_come_back() -> None:
    before, after = (one.copy() for one in moments(200, 384))
    before[:2000:7], after[1:2000:5] = 0, 0
    before[500], after[501], before[502], after[503] = 0x7FC01234, 0xFFFFFFFF, 0x80000000, 0x7F800000
    encoded = choice.choose(after.tobytes(), F32, before.tobytes(), Rows(384, 0))
    assert encoded.codec_id == codecs.PREDICTED
    out = bytearray(after.nbytes)
    predicted.CODEC.decode_from(bytes(encoded.payload), F32, memoryview(out), [memoryview(before.tobytes())])
    assert out == after.tobytes()


@given(st.integers(1, 700), st.integers(1, 90), st.data())
def test_every_chunk_comes_back_whatever_its_rows(count: int, width: int, data: st.DataObject) -> None:
    phase = data.draw(st.integers(0, width - 1))
    rng = np.random.default_rng(data.draw(st.integers(0, 99)))
    base, words = rng.integers(0, 1 << 32, (2, 8 * count), dtype=np.uint32)
    if data.draw(st.booleans()):
        words = base + rng.integers(0, 1 << 20, base.size).astype(np.uint32)
    raw, before = words.astype("<u4").tobytes(), base.astype("<u4").tobytes()
    plan = predicted.plan_rows(raw, F32, before, Rows(width, phase))
    assert (plan is None) == (width > count)
    if plan is not None:
        payload = bytes(predicted.CODEC.encode_as(raw, F32, plan))
        out = bytearray(len(raw))
        predicted.CODEC.decode_from(payload, F32, memoryview(out), [memoryview(before)])
        assert out == raw


def test_only_matrices_of_float32_have_rows() -> None:
    shapes = {"matrix": (96, 64), "kernel": (32, 16, 3, 3), "experts": (4, 64, 48), "bias": (64,), "flat": (1, 999)}
    parameters = [torch.nn.Parameter(torch.zeros(shape)) for shape in shapes.values()]
    parameters.append(torch.nn.Parameter(torch.zeros(96, 64, dtype=torch.bfloat16)))
    optimizer = torch.optim.AdamW(parameters)
    for one in parameters:
        one.grad = torch.ones_like(one)
    optimizer.step()
    found = relations(flatten({"optimizer": optimizer.state_dict()}).root, lambda _: (7.0, 4.0))
    widths = {path[2]: one.width for path, one in found.items() if path[-1] == "exp_avg_sq"}
    assert widths == {"0": 64, "1": 144, "2": 48}
    assert all(one.bases == () for one in found.values())


def state(step: int) -> dict[str, Any]:
    """Of an optimizer of one matrix, `step` steps on: its second moment drifts by rows and columns."""
    before, after = (torch.from_numpy(one.view("<f4").reshape(1000, 384).copy()) for one in moments(1000, 384))
    second = before * (after / before) ** (step / 8)
    parameter = torch.nn.Parameter(torch.zeros(1000, 384))
    optimizer = torch.optim.AdamW([parameter])
    slots = {"step": torch.tensor(float(step)), "exp_avg": torch.zeros(1000, 384), "exp_avg_sq": second}
    return {"model": {"w": parameter.detach()}, "optimizer": {**optimizer.state_dict(), "state": {0: slots}}}


@pytest.mark.parametrize("depth", [1, 3])
def test_a_history_of_steps_apart_is_predicted_and_comes_back(tmp_path: Path, depth: int) -> None:
    castore.open(tmp_path, create=True).close()
    config = tmp_path / ".castore" / "castore.toml"
    config.write_text(re.sub(r"max_depth = \d+", f"max_depth = {depth}", config.read_text()))
    states = [state(step) for step in range(2, 14, 3)]
    with castore.open(tmp_path) as store:
        commits = [store.commit(one) for one in states]
        taken = [commit.stats.components["optimizer"].stored_bytes for commit in commits]
        assert max(taken[1:]) < 0.9 * taken[0]
        assert store.stats().codecs["predicted"] > 0.9 * sum(taken[1:])
    with castore.open(tmp_path) as store:
        for back, expected in enumerate(reversed(states)):
            loaded = store.load(f"main~{back}")["optimizer"]["state"][0]["exp_avg_sq"]
            assert loaded.numpy().tobytes() == expected["optimizer"]["state"][0]["exp_avg_sq"].numpy().tobytes()
        assert_sound(store)
