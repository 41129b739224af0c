"""Copying a tensor's bytes to its places, with as little as can be between the copies of hundreds of small ones."""

from __future__ import annotations

import numpy as np
import torch

from castore.state.live.sources import TensorSource, TorchSource
from castore.training.arena import Segment
from castore.training.crew import Crew
from castore.training.places import Lot

SPAN_ELEMENTS = 1 << 20  # of a tensor whose memory does not lie in order: what is copied at once


def copy(source: TensorSource, lot: Lot, crew: Crew) -> None:
    """Copy all of a tensor to its newest places. The copy is only begun where its memory lies in order: by `crew` for
    one in main memory, on the current stream for one of a CUDA device."""
    runs, tensor = lot.runs(), _plain(source)
    if tensor is not None:
        for first, last, offset in runs:
            crew.begin(lot.segment.address + offset, tensor.data_ptr() + first, last - first, tensor)
    elif len(runs) > 1 or not _whole(source, lot):
        for first, last, offset in runs:
            _copy(source, first, last, lot.segment, offset)


def identity(source: TensorSource) -> tuple[int, int] | None:
    """What changes when a tensor is another one or was written to in the open; None where that can't be told."""
    if not isinstance(source, TorchSource) or source.tensor.device.type != "cpu" or source.tensor.is_inference():
        return None
    return source.tensor.data_ptr(), source.tensor._version


def _plain(source: TensorSource) -> torch.Tensor | None:
    """A source's tensor, if its bytes lie in order at its address in main memory; else None."""
    tensor = _in_order(source)
    if tensor is None or tensor.device.type != "cpu" or type(tensor) not in (torch.Tensor, torch.nn.Parameter):
        return None
    return tensor if tensor.data_ptr() else None


def _in_order(source: TensorSource) -> torch.Tensor | None:
    """A source's tensor, if its memory lies in order; else None."""
    if not isinstance(source, TorchSource):
        return None
    tensor = source.tensor
    return tensor if tensor.is_contiguous() and not tensor.is_conj() and not tensor.is_neg() else None


def bytes_of(source: TensorSource) -> torch.Tensor | None:
    """All bytes of a tensor whose memory lies in order, as torch.uint8 [nbytes], on its device; else None."""
    tensor = _in_order(source)
    if tensor is None:
        return None
    flat = tensor.detach().as_strided((tensor.numel(),), (1,), tensor.storage_offset())
    return flat.view(torch.uint8)


def _whole(source: TensorSource, lot: Lot) -> bool:
    """Copy all of a tensor whose memory lies in order to the place of its first chunk; False if it does not.

    Of hundreds of small tensors the copies take less time than all that is asked and made for each of them.
    """
    tensor = _in_order(source)
    if tensor is None:
        return False
    out = lot.whole.get(lot.last[0])
    if out is None or out.dtype != tensor.dtype:
        raw = torch.frombuffer(lot.segment.view, dtype=torch.uint8, count=lot.nbytes, offset=lot.places[lot.last[0]])
        out = lot.whole[lot.last[0]] = raw.view(tensor.dtype).view(tensor.shape)
    with torch.no_grad():
        out.copy_(tensor, non_blocking=tensor.device.type == "cuda")  # for others nobody waits
    return True


def _copy(source: TensorSource, first: int, last: int, segment: Segment, offset: int) -> None:
    """Copy bytes [first, last) of a tensor into a segment."""
    whole = bytes_of(source)
    if whole is not None:
        out = torch.frombuffer(segment.view, dtype=torch.uint8, count=last - first, offset=offset)
        out.copy_(whole[first:last], non_blocking=whole.device.type == "cuda")
        return
    for start in range(first // source.width, last // source.width, SPAN_ELEMENTS):
        stop = min(start + SPAN_ELEMENTS, last // source.width)
        at = offset + start * source.width - first
        piece = np.frombuffer(source.span(start, stop), np.uint8)
        np.copyto(np.frombuffer(segment.view, np.uint8, len(piece), at), piece)


def is_same(source: TensorSource, lot: Lot) -> bool:
    """Whether the newest copy still holds. torch's version counter only says that it may: writes through `.data`
    don't count."""
    whole = bytes_of(source)
    if whole is None:
        return False
    held = torch.frombuffer(lot.segment.view, dtype=torch.uint8)
    runs = lot.runs()
    return all(torch.equal(whole[first:last], held[at : at + last - first]) for first, last, at in runs)
