"""Whether a committed state fits what it is to be loaded into: all that does not, before anything is changed."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

Problems = list[str]
_SHOWN = 10  # of the tensors of one model


def compare_lists(name: str, theirs: Sequence[Any], ours: Sequence[Any], problems: Problems) -> None:
    """Note that the commit has another number of them than there are here."""
    if len(theirs) != len(ours):
        kinds = ", ".join(type(one).__name__ for one in ours) or "none"
        problems.append(f"{name}: the commit has {len(theirs)}, this run {len(ours)} ({kinds})")


def compare_models(theirs: Sequence[Mapping[str, Any]], ours: Sequence[Any], problems: Problems) -> None:
    """Note the tensors of each model that only one side has, or that have another shape."""
    for index, (saved, model) in enumerate(zip(theirs, ours, strict=False)):
        own = model.state_dict()
        found = [f"models.{index}.{name}: only the commit has it" for name in saved if name not in own]
        found += [f"models.{index}.{name}: only this run has it" for name in own if name not in saved]
        for name in saved:
            a, b = getattr(saved[name], "shape", None), getattr(own.get(name), "shape", None)
            if name in own and a != b:
                found.append(f"models.{index}.{name}: the commit has {_shape(a)}, this run {_shape(b)}")
        problems += found[:_SHOWN]
        if len(found) > _SHOWN:
            problems.append(f"and {len(found) - _SHOWN} more of models.{index}")


def compare_optimizers(theirs: Sequence[Mapping[str, Any]], ours: Sequence[Any], problems: Problems) -> None:
    """Note optimizers whose groups of parameters differ in number or size."""
    for index, (saved, optimizer) in enumerate(zip(theirs, ours, strict=False)):
        a = [len(group["params"]) for group in saved["param_groups"]]
        b = [len(group["params"]) for group in optimizer.param_groups]
        if a != b:
            problems.append(f"optimizers.{index}: the commit has groups of {a} parameters, this run of {b}")


def _shape(shape: Any) -> str:
    return "no tensor" if shape is None else str(list(shape))
