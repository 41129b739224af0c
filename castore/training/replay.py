"""Steps of a user's loop run again from a commit, by a function of the user's."""

from __future__ import annotations

import importlib
import itertools
import traceback
import warnings
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from castore.errors import CorruptError, ReplayError
from castore.objects.commit import Commit
from castore.state.provenance import Run
from castore.state.provenance.differences import explaining, restricted
from castore.store import Store
from castore.training import parts, resume


class Restore:
    """What a replay function is given: call it with the objects of the loop, and it restores them from the commit.

        def replay(restore, steps):
            model, optimizer, loader = build()
            start = restore(model=model, optimizer=optimizer, loader=loader)
            for step in range(start, start + steps):
                yield step, train_step(model, optimizer, loader)

    commit: the commit. notes: what could not be restored exactly.
    """

    def __init__(self, store: Store, commit: Commit) -> None:
        self._store = store
        self.commit = commit
        self.notes: list[str] = []

    def __call__(self, **objects: Any) -> int:
        """Restore the objects, and the generators of random numbers, as `Checkpointer.resume` does; returns the step to
        go on with. Raises StateError, CorruptError."""
        found, inexact = resume.loop_parts(objects)
        gradients = parts.Gradients(parts.optimizers_of(found))
        targets = {**found, parts.GRADIENTS: gradients, parts.RNG: parts.Generators()}
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always", resume.InexactResumeWarning)
            resume.restore(self._store, self.commit, targets, True, inexact, here=None)
        gradients.close()
        self.notes += [str(one.message) for one in caught if one.category is resume.InexactResumeWarning]
        return 0 if self.commit.step is None else self.commit.step + 1

    def load(self, only: str | Sequence[str] | None = None) -> Any:
        """The state of the commit, as `Store.load` gives it: for what was not committed by a Checkpointer."""
        return self._store.load(self.commit.id, only)


def replayed(store: Store, commit: Commit, function: str, steps: int) -> dict[str, Any]:
    """Run a replay function, "module:function", and say which losses it gave, and what is different here.

    Raises ReplayError when it can't be found, raises, or gives what is no loss.
    """
    restore = Restore(store, commit)
    losses = _losses(_run(function, lambda: _called(function, restore, steps)), function)
    here = Run().record().provenance
    try:
        then = store.provenance(commit.id)
    except CorruptError as error:
        restore.notes.append(f"what produced the commit can't be read: {error}")
        then = here
    found = explaining(then, here if commit.provenance is not None else restricted(here, then))
    return {"losses": losses, "differences": [asdict(one) for one in found], "notes": restore.notes}


def _called(function: str, restore: Restore, steps: int) -> list[Any]:
    found = _function(function)(restore, steps)
    if isinstance(found, Mapping):
        found = found.items()
    if not isinstance(found, Iterable):
        raise ReplayError(
            f"{function} returned {type(found).__name__}; let it yield (step, loss) at each step, or return them"
        )
    return list(itertools.islice(found, steps))


def _function(name: str) -> Callable[[Restore, int], Any]:
    module, colon, attribute = name.partition(":")
    if not module or not colon or not attribute.isidentifier():
        raise ReplayError(f"{name!r} names no function: write MODULE:FUNCTION, such as train:replay")
    try:
        found = getattr(importlib.import_module(module), attribute, None)
    except ModuleNotFoundError as error:
        if error.name != module.partition(".")[0] and error.name != module:
            raise  # a module that this one imports
        raise ReplayError(f"there is no module {module!r} to replay with, here or on the path") from None
    if not callable(found):
        raise ReplayError(f"module {module!r} has no function {attribute!r}")
    return found  # type: ignore[no-any-return]


def _run(function: str, work: Callable[[], list[Any]]) -> list[Any]:
    """What `work` returns. Raises ReplayError that names what it raised, and where."""
    try:
        return work()
    except ReplayError:
        raise
    except (Exception, SystemExit) as error:
        frames = [frame for frame in traceback.extract_tb(error.__traceback__) if not _is_ours(frame.filename)]
        where = f" at {frames[0].filename}:{frames[0].lineno}" if frames else ""
        inner = frames[-1] if len(frames) > 1 else None
        where += f" (from {inner.filename}:{inner.lineno})" if inner is not None else ""
        text = " ".join(str(error).split())
        raise ReplayError(f"{function} raised {type(error).__name__}{where}: {text}") from error


def _is_ours(file: str) -> bool:
    """Whether a frame is castore's own, or of the import of the module: its user needs to see another."""
    return file.startswith((str(Path(__file__).parents[1]), str(Path(importlib.__file__).parent), "<frozen"))


def _losses(items: list[Any], function: str) -> list[tuple[int, float]]:
    found: list[tuple[int, float]] = []
    for item in items:
        try:
            step, loss = item
            found.append(
                (int(step), float(loss.item() if hasattr(loss, "item") else loss))
            )  # a tensor that has a gradient
        except (TypeError, ValueError, RuntimeError):  # a tensor of several elements
            raise ReplayError(f"{function} gave {item!r:.80}, which is no pair of a step and its loss") from None
    return found
