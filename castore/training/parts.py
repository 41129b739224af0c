"""The objects of a training loop: how each gives its state, and how it takes it back."""

from __future__ import annotations

import random
import weakref
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
import torch

from castore.errors import UsageError
from castore.state.live.rng import rng_state, set_rng_state

RNG = "rng"
GRADIENTS = "gradients"
LAST = (GRADIENTS, RNG)  # set last, in this order: what is restored before may draw random numbers


class Generators:
    """The global random number generators of Python, NumPy, torch and each CUDA device.

    passed_over: of how many devices a state was given that this process does not have.
    """

    def __init__(self) -> None:
        self.passed_over = 0

    def state_dict(self) -> dict[str, Any]:
        return rng_state()

    def load_state_dict(self, state: dict[str, Any]) -> None:
        set_rng_state(state)
        self.passed_over = max(0, len(state["cuda"]) - torch.cuda.device_count())


class Generator:
    """A random number generator of the loop's own, as an object with a state dict."""

    def __init__(self, generator: torch.Generator | np.random.Generator | random.Random) -> None:
        self._generator = generator

    def state_dict(self) -> dict[str, Any]:
        generator = self._generator
        if isinstance(generator, torch.Generator):
            return {"torch": generator.get_state()}
        if isinstance(generator, np.random.Generator):
            return {"numpy": dict(generator.bit_generator.state)}
        version, words, gauss = generator.getstate()
        return {"version": version, "words": np.array(words, dtype=np.uint32), "gauss": gauss}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        generator = self._generator
        if isinstance(generator, torch.Generator):
            generator.set_state(state["torch"])
        elif isinstance(generator, np.random.Generator):
            generator.bit_generator.state = state["numpy"]
        else:
            generator.setstate((state["version"], tuple(int(word) for word in state["words"]), state["gauss"]))


class Gradients:
    """Gradients that the next step of an optimizer is going to add to: those of a commit between two of its steps.

    Right after a step they are of no use any more, and are not kept.
    """

    def __init__(self, optimizers: list[torch.optim.Optimizer]) -> None:
        self._optimizers = optimizers
        self._used: dict[int, tuple[weakref.ref[torch.Tensor], int]] = {}
        self._handles = [
            optimizer.register_step_post_hook(lambda one, _args, _kwargs: self._stepped(one))
            for optimizer in optimizers
        ]

    def pending(self) -> bool:
        """Whether a backward pass has added to gradients that no step has used yet."""
        return any(self._is_pending(optimizer) for optimizer in self._optimizers)

    def state_dict(self) -> dict[str, Any]:
        return {str(number): param.grad for number, param in enumerate(self._params()) if param.grad is not None}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        for number, param in enumerate(self._params()):
            grad = state.get(str(number))
            param.grad = None if grad is None else grad.to(param.device)

    def clear(self) -> None:
        """What a commit without gradients is restored to."""
        self.load_state_dict({})

    def close(self) -> None:
        for handle in self._handles:
            handle.remove()

    def _params(self) -> Iterator[torch.Tensor]:
        for optimizer in self._optimizers:
            for group in optimizer.param_groups:
                yield from group["params"]

    def _first(self, optimizer: torch.optim.Optimizer) -> torch.Tensor | None:
        grads = (param.grad for group in optimizer.param_groups for param in group["params"])
        return next((grad for grad in grads if grad is not None), None)

    def _stepped(self, optimizer: torch.optim.Optimizer) -> None:
        grad = self._first(optimizer)
        if grad is not None:
            self._used[id(optimizer)] = (weakref.ref(grad), grad._version)

    def _is_pending(self, optimizer: torch.optim.Optimizer) -> bool:
        grad = self._first(optimizer)
        if grad is None:
            return False
        used = self._used.get(id(optimizer))
        return used is None or used[0]() is not grad or used[1] != grad._version


def as_part(name: str, value: Any) -> Any:
    """What is committed under a name and restored in place: an object with a state dict, or a dict or list.

    Raises UsageError for a value that could not be given back.
    """
    if isinstance(value, torch.Generator | np.random.Generator | random.Random):
        return Generator(value)
    if callable(getattr(value, "state_dict", None)) and callable(getattr(value, "load_state_dict", None)):
        return value
    if isinstance(value, dict | list | torch.Tensor | np.ndarray):
        return value
    kind = type(value).__name__
    raise UsageError(
        f"{name}: a value of type {kind} could not be given its state back; give an object with state_dict and "
        f"load_state_dict, or put it into a dict: {name}={{...}}"
    )


def state_of(parts: Mapping[str, Any]) -> dict[str, Any]:
    """The state of all parts, by name."""
    return {name: _state(part) for name, part in parts.items()}


def _state(part: Any) -> Any:
    if callable(getattr(part, "state_dict", None)):
        return part.state_dict()
    if type(part) is dict:
        return {key: _state(item) for key, item in part.items()}
    if type(part) is list:
        return [_state(item) for item in part]
    return part


def optimizers_of(parts: Mapping[str, Any]) -> list[torch.optim.Optimizer]:
    """The optimizers among parts, those in lists and dicts too."""
    found: list[torch.optim.Optimizer] = []
    for part in parts.values():
        inside = part.values() if isinstance(part, dict) else part if isinstance(part, list) else [part]
        found += [one for one in inside if isinstance(one, torch.optim.Optimizer)]
    return found


def hyperparameters(parts: Mapping[str, Any]) -> dict[str, str]:
    """The settings of the groups of each optimizer among parts, as they are now, such as "optimizer.0.lr".

    As they were set, where a scheduler has changed them since: what they are at a commit is in its state.
    """
    found: dict[str, str] = {}
    for number, optimizer in enumerate(optimizers := optimizers_of(parts)):
        name = type(optimizer).__name__ + (f".{number}" if len(optimizers) > 1 else "")
        for place, group in enumerate(optimizer.param_groups):
            at = f"{name}.{place}" if len(optimizer.param_groups) > 1 else name
            found[f"{at}.parameters"] = str(sum(param.numel() for param in group["params"]))
            settings = {**group, **({"lr": group["initial_lr"]} if "initial_lr" in group else {})}
            found |= {
                f"{at}.{key}": str(value.item() if isinstance(value, torch.Tensor) and value.numel() == 1 else value)
                for key, value in settings.items()
                if key not in ("params", "initial_lr", "param_names")
            }
    return found
