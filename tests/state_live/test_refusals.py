from __future__ import annotations

import collections
import enum
from collections import OrderedDict, defaultdict
from typing import Any

import numpy as np
import pytest
import torch

from castore.errors import StateError
from castore.limits import MAX_TREE_NESTING
from castore.state.live import flatten


class Colour(enum.Enum):
    RED = 1


class MyDict(dict[str, int]):
    pass


class MyTensor(torch.Tensor):
    pass


Point = collections.namedtuple("Point", "x y")

REFUSED = [
    (torch.nn.Linear(1, 1), "commit model.state_dict() instead of the model"),
    (torch.optim.SGD([torch.nn.Parameter(torch.ones(1))], 0.1), "commit its state_dict() instead"),
    (Colour.RED, ".value"),
    (MyDict(), "plain dict"),
    (Point(1, 2), "._asdict()"),
    (lambda: None, "code is not data"),
    (collections, "code is not data"),
    (int, "code is not data"),
    (object(), "plain values"),
    (iter([1]), "list"),
    (torch.Generator(), "get_state()"),
    (torch.ones(1).untyped_storage(), "tensor"),
    (MyTensor([1.0]), "plain torch.Tensor"),
    (torch.empty(2, device="meta"), "has no data"),
    (torch.nn.UninitializedParameter(), "forward pass"),
    (torch.quantize_per_tensor(torch.ones(2), 0.1, 0, torch.quint8), "dequantize"),
    (torch.nested.nested_tensor([torch.ones(1), torch.ones(2)]), "unbind"),
    (np.array([object()]), "Python objects"),
    (np.matrix([[1]]), "numpy.asarray"),
    (np.zeros(1, np.dtype({"names": ["a"], "formats": ["i4"], "titles": ["t"]})), "titles"),
    (defaultdict(lambda: 0), "convert it to a dict"),
]


@pytest.mark.parametrize(("value", "advice"), REFUSED, ids=[str(type(value).__name__) for value, _ in REFUSED])
def test_a_refusal_names_the_path_and_what_to_do(value: Any, advice: str) -> None:
    with pytest.raises(StateError) as caught:
        flatten({"ok": 1, "run": [torch.ones(2), {"inner": value}]})
    message = str(caught.value)
    assert message.startswith("run.1.inner: ")
    assert advice in message
    assert "\n" not in message


def test_a_refused_root_says_so() -> None:
    with pytest.raises(StateError, match="the state itself"):
        flatten(object())


def test_a_refused_key_names_its_dict() -> None:
    with pytest.raises(StateError, match=r"a\.b: .*key of type"):
        flatten({"a": {"b": {Colour.RED: 1}}})
    with pytest.raises(StateError, match="shorter"):
        flatten({1 << 10_000: 1})


def test_a_cycle_names_where_it_closes() -> None:
    state: dict[str, Any] = {"a": [1]}
    state["a"].append(state)
    with pytest.raises(StateError, match=r"a\.1: .*contains itself"):
        flatten(state)


def test_the_same_list_twice_is_no_cycle() -> None:
    inner = [1]
    flatten([inner, inner, {"again": inner}])


def test_nesting_is_bounded() -> None:
    state: Any = 1
    for _ in range(MAX_TREE_NESTING):
        state = [state]
    flatten(state)
    with pytest.raises(StateError, match="nested more than"):
        flatten([state])


def test_metadata_that_cannot_be_kept_is_refused_and_not_dropped() -> None:
    state: OrderedDict[str, int] = OrderedDict(a=1)
    state._metadata = object()  # type: ignore[attr-defined]
    with pytest.raises(StateError, match="_metadata"):
        flatten(state)


def test_a_path_with_a_newline_stays_on_one_line() -> None:
    with pytest.raises(StateError) as caught:
        flatten({"a\nb": object()})
    assert "\n" not in str(caught.value)
