from __future__ import annotations

import copy
from typing import Any

import numpy as np
import pytest
import torch

from castore.errors import StateError
from castore.state.live import fill_in_place, flatten
from castore.testing.states import equal_states


def load(committed: Any, state: Any) -> None:
    flat = flatten(committed)
    filling = fill_in_place(flat.root, state)
    sinks = {id(entry): sink for entry, sink in filling.sinks()}
    assert len(sinks) == len(flat.sources)
    for source in flat.sources:
        sinks[id(source.entry)][:] = source.span(0, source.numel)
    filling.finish()


def test_tensors_are_written_where_they_lie() -> None:
    committed = {"w": torch.arange(6.0).reshape(2, 3), "step": 7, "lrs": [0.1, 0.2], "a": np.arange(4)}
    weight, array, lrs = torch.nn.Parameter(torch.zeros(2, 3)), np.zeros(4, int), [0.0]
    state = {"w": weight, "step": 0, "lrs": lrs, "a": array}
    pointer = weight.data_ptr()
    load(committed, state)
    assert state["w"] is weight and state["a"] is array and state["lrs"] is lrs
    assert weight.data_ptr() == pointer and weight.requires_grad
    assert weight.detach().equal(committed["w"])  # type: ignore[arg-type]
    assert (state["step"], lrs, array.tolist()) == (7, [0.1, 0.2], [0, 1, 2, 3])


def test_a_contiguous_tensor_needs_no_temporary() -> None:
    state = {"w": torch.zeros(3)}
    ((_, sink),) = fill_in_place(flatten({"w": torch.ones(3)}).root, state).sinks()
    assert np.frombuffer(sink, np.uint8).ctypes.data == state["w"].data_ptr()


def test_strided_tensors_and_arrays_are_filled_through_a_temporary() -> None:
    committed = {"t": torch.arange(6.0).reshape(2, 3), "a": np.arange(6).reshape(2, 3), "be": np.arange(3, dtype=">i4")}
    state = {"t": torch.zeros(3, 2).t(), "a": np.zeros((3, 2), int).T, "be": np.zeros(3, ">i4")}
    load(committed, state)
    assert equal_states(state, committed)


def test_tuples_and_nested_containers_keep_their_tensors() -> None:
    inner = torch.zeros(2)
    state: dict[str, Any] = {"pair": (inner, 1), "list": [{"x": inner.clone()}, None]}
    load({"pair": (torch.ones(2), 5), "list": [{"x": torch.ones(2)}, "new"]}, state)
    assert state["pair"][0] is inner and state["pair"][1] == 5
    assert equal_states(state, {"pair": (torch.ones(2), 5), "list": [{"x": torch.ones(2)}, "new"]})


def test_every_mismatch_is_listed_before_anything_is_written() -> None:
    committed = {
        "a": torch.ones(2),
        "b": torch.ones(2),
        "only_committed": torch.ones(1),
        "n": torch.ones(1),
        "ok": torch.ones(1),
    }
    state = {"a": torch.zeros(3), "b": torch.zeros(2, dtype=torch.int64), "only_here": 1, "n": 1, "ok": torch.zeros(1)}
    before = copy.deepcopy(state)
    with pytest.raises(StateError) as caught:
        fill_in_place(flatten(committed).root, state)
    message = str(caught.value)
    for text in ("a: the commit has float32[2], the state float32[3]", "int64[2]", "only_committed: only the commit"):
        assert text in message
    assert "only_here: only the state" in message
    assert equal_states(state, before)


def test_a_long_list_of_mismatches_is_cut() -> None:
    with pytest.raises(StateError, match="and 15 more"):
        fill_in_place(
            flatten({str(i): torch.ones(1) for i in range(25)}).root, {"x": torch.ones(1)} | {"0": torch.ones(1)}
        )


def test_modules_and_optimizers_are_given_their_state() -> None:
    def made() -> dict[str, Any]:
        model = torch.nn.Linear(2, 2)
        optimizer = torch.optim.AdamW(model.parameters())
        model(torch.ones(1, 2)).sum().backward()
        return {"model": model, "optimizer": optimizer, "epoch": 3}

    source, target = made(), made()
    source["optimizer"].step()
    committed = {"model": source["model"].state_dict(), "optimizer": source["optimizer"].state_dict(), "epoch": 4}
    load(committed, target)
    assert equal_states(target["model"].state_dict(), committed["model"])
    assert equal_states(target["optimizer"].state_dict(), committed["optimizer"])
    assert target["epoch"] == 4


def test_a_module_that_does_not_fit_is_found_before_anything_is_written() -> None:
    state = {"first": torch.zeros(1), "model": torch.nn.Linear(2, 3)}
    committed = {"first": torch.ones(1), "model": torch.nn.Linear(2, 2).state_dict() | {"extra": torch.ones(1)}}
    with pytest.raises(
        StateError, match=r"model\.extra: only the commit has it.*model\.weight: the commit has \[2, 2\]"
    ):
        fill_in_place(flatten(committed).root, state)


def test_shared_tensors_fill_tied_and_untied_targets() -> None:
    base = torch.arange(6.0).reshape(2, 3)
    committed = {"a": base, "b": base, "t": base.t(), "row": base[1]}
    untied = {"a": torch.zeros(2, 3), "b": torch.zeros(2, 3), "t": torch.zeros(3, 2), "row": torch.zeros(3)}
    load(committed, untied)
    assert all(untied[name].equal(committed[name]) for name in committed)
    memory = torch.zeros(2, 3)
    tied = {"a": memory, "b": memory, "t": memory.t(), "row": memory[1]}
    load(committed, tied)
    assert equal_states(tied, committed)


def test_a_view_in_an_objects_part_looks_into_another_part() -> None:
    model = torch.nn.Linear(2, 2)
    committed = {"weight": model.weight.detach(), "model": model.state_dict()}
    target: dict[str, Any] = {"weight": torch.zeros(2, 2), "model": torch.nn.Linear(2, 2)}
    load(committed, target)
    assert equal_states(target["model"].state_dict(), model.state_dict())
    assert target["weight"].equal(model.weight.detach())


def test_a_state_that_cannot_be_loaded_into_is_refused() -> None:
    with pytest.raises(StateError, match="cannot be loaded into"):
        fill_in_place(flatten(3).root, 4)
