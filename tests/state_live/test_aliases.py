from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch

from castore.objects import nodes
from castore.state.live import flatten

RoundTrip = Callable[..., Any]


def stored_bytes(state: Any) -> int:
    return sum(source.nbytes for source in flatten(state).sources)


def test_tied_weights_come_back_tied(round_trip: RoundTrip) -> None:
    model = torch.nn.ModuleDict({"embed": torch.nn.Embedding(5, 4), "head": torch.nn.Linear(4, 5, bias=False)})
    model["head"].weight = model["embed"].weight
    again = round_trip(model.state_dict())
    again["embed.weight"][0] = 7
    assert again["head.weight"][0].eq(7).all()
    assert stored_bytes(model.state_dict()) == 5 * 4 * 4


def test_the_same_parameter_twice_is_one_object(round_trip: RoundTrip) -> None:
    weight = torch.nn.Parameter(torch.ones(2, 2))
    first, second = round_trip((weight, weight))
    assert first is second


def test_identical_tensors_share_a_base_of_their_own_dtype_and_size() -> None:
    weight = torch.ones(3, 4, dtype=torch.bfloat16)
    root = flatten({"a": weight, "b": weight.detach()}).root
    assert isinstance(root, nodes.Map)
    shared = root.items[0][1]
    assert isinstance(shared, nodes.Shared)
    assert (shared.data.dtype, shared.data.shape) == ("bfloat16", (12,))


def test_views_keep_their_place_in_the_shared_memory(round_trip: RoundTrip) -> None:
    base = torch.arange(24.0).reshape(4, 6)
    whole, transposed, row, raw = round_trip([base, base.t(), base[2], base.view(torch.uint8)[1:, 3:]])
    whole[2, 1] = -1
    assert transposed[1, 2] == row[1] == -1
    assert raw.equal(whole.view(torch.uint8)[1:, 3:])
    assert stored_bytes([base, base.t(), base[2]]) == 96


def test_views_of_mixed_widths_stay_aligned(round_trip: RoundTrip) -> None:
    memory = torch.arange(64, dtype=torch.uint8)
    state = [memory[1:30], memory[4:36].view(torch.float32), memory[16:48].view(torch.complex128)]
    again = round_trip(state)
    assert all(a.view(torch.uint8).equal(b.view(torch.uint8)) for a, b in zip(again, state, strict=True))
    again[2].view(torch.uint8)[0] = 200
    assert again[0][15] == 200


def test_slices_that_do_not_overlap_are_independent() -> None:
    flat = torch.zeros(1000)
    root = flatten([flat[:10], flat[10:20]]).root
    assert isinstance(root, nodes.Sequence)
    assert all(isinstance(item, nodes.Tensor) for item in root.items)
    assert stored_bytes([flat[500:510]]) == 40


def test_an_expanded_tensor_stores_what_its_memory_holds(round_trip: RoundTrip) -> None:
    expanded = torch.tensor([[1.0], [2.0]]).expand(2, 1000)
    assert stored_bytes(expanded) == 8
    assert round_trip(expanded).equal(expanded)


def test_overlap_across_storages_is_found_when_one_covers_it(round_trip: RoundTrip) -> None:
    memory = torch.arange(8, dtype=torch.int32).numpy()
    first, second = round_trip([torch.from_numpy(memory), torch.from_numpy(memory[4:])])
    first[5] = 99
    assert second[1] == 99
