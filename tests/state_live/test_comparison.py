"""equal_states is what the other tests rest on: it must tell apart whatever differs."""

from __future__ import annotations

import struct
from collections import OrderedDict, deque
from typing import Any

import numpy as np
import pytest
import torch

from castore.testing.states import equal_states

ONES = torch.ones(2)


def nan(payload: int) -> Any:
    return struct.unpack("<d", struct.pack("<Q", 0x7FF8 << 48 | payload))[0]


@pytest.mark.parametrize(
    ("a", "b"),
    [
        ([ONES, ONES], [ONES.clone(), ONES.clone()]),
        ([ONES, ONES.clone()], [ONES, ONES]),
        (1, 1.0),
        (1, True),
        (0.0, -0.0),
        (nan(1), nan(2)),
        ({1: 1, 2: 2}, {2: 2, 1: 1}),
        ({1: 1}, {True: 1}),
        ({}, OrderedDict()),
        ([1], [1, 2]),
        (deque([1], 2), deque([1], 3)),
        (torch.tensor(0.0), torch.tensor(-0.0)),
        (torch.ones(2), torch.ones(2).requires_grad_()),
        (torch.ones(2), torch.nn.Parameter(torch.ones(2), False)),
        (torch.ones(2, 3), torch.ones(3, 2)),
        (np.ones(2, "<f4"), np.ones(2, ">f4")),
        (np.float32(1), np.float64(1)),
    ],
    ids=str,
)
def test_what_differs_is_told_apart(a: Any, b: Any) -> None:
    assert equal_states(a, a)
    assert not equal_states(a, b)
    assert not equal_states(b, a)
