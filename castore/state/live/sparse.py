"""Sparse tensors as parts that are kept like any other tensors: (indices..., values, size, coalesced or None)."""

from __future__ import annotations

from typing import Any

import torch

NAMES = {
    torch.sparse_coo: "sparse_coo",
    torch.sparse_csr: "sparse_csr",
    torch.sparse_csc: "sparse_csc",
    torch.sparse_bsr: "sparse_bsr",
    torch.sparse_bsc: "sparse_bsc",
}
LAYOUTS = {name: layout for layout, name in NAMES.items()}
_BY_ROW = (torch.sparse_csr, torch.sparse_bsr)


def parts(tensor: torch.Tensor) -> tuple[Any, ...]:
    """(indices, values, size, coalesced) of COO, (compressed, plain, values, size) of the others; they share memory."""
    tensor = tensor.detach()
    if tensor.layout is torch.sparse_coo:
        return tensor._indices(), tensor._values(), tensor.shape, tensor.is_coalesced()
    if tensor.layout in _BY_ROW:
        return tensor.crow_indices(), tensor.col_indices(), tensor.values(), tensor.shape
    return tensor.ccol_indices(), tensor.row_indices(), tensor.values(), tensor.shape


def make(kind: str, values: list[Any]) -> torch.Tensor:
    """The sparse tensor of `parts`. Its invariants are checked, since torch's kernels trust indices: RuntimeError."""
    first, second, third, fourth = values
    if kind == "sparse_coo":
        _check(first, second, third)
        made = torch.sparse_coo_tensor(first, second, third, check_invariants=True, is_coalesced=bool(fourth))
    else:
        _check(first, second, third, fourth)
        made = torch.sparse_compressed_tensor(first, second, third, fourth, layout=LAYOUTS[kind], check_invariants=True)
    return made


def _check(*expected: Any) -> None:
    if type(expected[-1]) is not torch.Size or not all(isinstance(part, torch.Tensor) for part in expected[:-1]):
        raise TypeError("parts of other types")
