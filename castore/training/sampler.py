"""An order of samples that a run can go on with in mid-epoch, for a plain DataLoader."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping, Sized
from contextlib import contextmanager
from typing import Any, TypeVar

import torch
from torch.utils.data import DataLoader, Sampler

from castore.errors import StateError, UsageError
from castore.training.counted_loader import CountedLoader, counted_loader, inexact
from castore.training.sampler_state import SamplerState

AnyLoader = TypeVar("AnyLoader", bound="DataLoader[Any]")

_INDICES_AT_ONCE = 1 << 16  # as Python's integers; the order itself takes 8 bytes a sample


class ResumableSampler(Sampler[int]):
    """Indices of samples in an order that depends on the seed and the epoch alone, and on no random state of torch.

        sampler = ResumableSampler(dataset, seed=1)
        loader = sampler.watch(DataLoader(dataset, batch_size=32, sampler=sampler))

    data_source: what has the samples, or their number. replay: after a resume with workers, load the epoch's earlier
    batches once more and throw them away, so that what the workers draw (augmentation) goes on exactly. Without it
    their indices are passed over, which takes no time. Without workers there is nothing to replay: what is drawn then
    comes from the random state of the process, which a commit holds.

    epoch: of the iteration that is under way, or else of the next one. Each `iter(loader)` begins an epoch, also where
    the one before was left by `break`; only the first after `load_state_dict` goes on with the epoch that the state is
    of. A loop goes on with `for epoch in range(sampler.epoch, epochs)`. If the state is from after the last batch of
    an epoch, but before the loop asked for more, then the first iteration is empty: what comes at the end of an epoch
    is still to be done.
    """

    def __init__(self, data_source: Sized | int, *, shuffle: bool = True, seed: int = 0, replay: bool = False) -> None:
        length = data_source if isinstance(data_source, int) else len(data_source)
        if length < 0:
            raise UsageError(f"ResumableSampler: the number of samples should be 0 or more, not {length}")
        self._length = length
        self._shuffle = shuffle
        self._seed = seed
        self._replay = replay
        self._loader: CountedLoader | None = None
        self._plan: tuple[int, int] | None = None  # epoch and samples to pass over, of the iterator being made
        self._current: object = None  # names the iteration that counts; it is not held, for its workers to end with it
        self.epoch = 0
        self._batches = 0  # of this epoch, that the loop has got
        self._rng: torch.Tensor | None = None  # random state that the loader's iterator was made with
        self._resumed: SamplerState | None = None

    def __len__(self) -> int:
        return self._length

    def __iter__(self) -> Iterator[int]:
        if self._plan is not None:
            return self._indices(*self._plan)
        if self._loader is not None:
            return self._indices(self.epoch, 0)
        self.epoch += 1
        return self._indices(self.epoch - 1, 0)

    def _indices(self, epoch: int, passed_over: int) -> Iterator[int]:
        if not self._shuffle:
            yield from range(min(passed_over, self._length), self._length)
            return
        digest = hashlib.blake2b(f"{self._seed}:{epoch}".encode(), digest_size=8).digest()
        generator = torch.Generator().manual_seed(int.from_bytes(digest, "little") >> 1)
        order = torch.randperm(self._length, generator=generator)
        for begin in range(passed_over, self._length, _INDICES_AT_ONCE):
            yield from order[begin : begin + _INDICES_AT_ONCE].tolist()

    def watch(self, loader: AnyLoader) -> AnyLoader:
        """Count the batches that a loop gets from `loader`, which uses this sampler; returns the loader.

        A batch counts when it is handed to the loop, however many the workers have ready. What runs ahead between the
        loader and the loop, such as a prefetcher to the GPU, makes batches count that were not trained on yet.
        The loader becomes an instance of a subclass of its class, made for it alone.

        Raises UsageError for a loader that can't be counted or needs no counting; StateError when a state that was
        loaded before does not fit it.
        """
        if getattr(loader, "_castore_sampler", None) is self:
            return loader
        if self._loader is not None:
            raise UsageError("watch: this sampler counts for another DataLoader already; make one for each")
        self._loader = counted_loader(loader, self)
        if self._resumed is not None:
            self._check(self._resumed)
        kind = type(loader)
        sampler = self

        def iterate(self: DataLoader[Any]) -> Iterator[Any]:
            return sampler._iterate(kind, self)

        names = {"__iter__": iterate, "_castore_sampler": self, "__module__": kind.__module__, "__doc__": kind.__doc__}
        loader.__class__ = type(f"Resumable{kind.__name__}", (kind,), names)
        return loader

    def inexact(self, loader: DataLoader[Any]) -> str | None:
        """What a resume in mid-epoch can't restore with this loader, in a sentence; None if it restores everything."""
        return inexact(loader, self._replay)

    # State

    def state_dict(self) -> dict[str, Any]:
        """Where the loop is: after the batch that it got last. Numbers and random states of torch.

        Between a `break` and the next `iter(loader)` that is still the epoch that was left, with what remains of it.
        Raises UsageError without `watch`.
        """
        loader = self._loader
        if loader is None:
            raise UsageError("ResumableSampler: nothing counts the batches; call watch(loader) first")
        if self._resumed is not None:  # loaded, and nothing was iterated since
            return self._resumed.to_dict()
        return SamplerState(
            epoch=self.epoch,
            batches=self._batches,
            batch_size=loader.batch_size,
            length=self._length,
            seed=self._seed,
            shuffle=self._shuffle,
            workers=loader.workers,
            rng=self._rng,
            generator=None if loader.generator is None else loader.generator.get_state(),
        ).to_dict()

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on from a `state_dict`: the next `iter(loader)` gives what was left of its epoch.

        Raises StateError that names what does not fit: other data, another batch size, another order.
        """
        loaded = self.check_state_dict(state)
        self._resumed, self._current = loaded, None
        self.epoch = loaded.epoch

    def check_state_dict(self, state: Mapping[str, Any]) -> SamplerState:
        """What `load_state_dict` would go on from, with nothing changed. Raises StateError as it does."""
        loaded = SamplerState.from_dict(state)
        self._check(loaded)
        return loaded

    def _check(self, state: SamplerState) -> None:
        loader = self._loader
        expected = [
            ("samples", state.length, self._length),
            ("seed", state.seed, self._seed),
            ("shuffle", state.shuffle, self._shuffle),
        ]
        if loader is not None:
            expected.append(("batch size", state.batch_size, loader.batch_size))
            if self._replay:
                expected.append(("number of workers (with replay)", state.workers, loader.workers))
        for what, committed, present in expected:
            if committed != present:
                raise StateError(
                    f"the DataLoader can't go on in mid-epoch: {what} was {committed} and is {present}; "
                    "make it as it was, or resume(strict=False), which begins an epoch"
                )

    # Iterating

    def _iterate(self, kind: type[DataLoader[Any]], loader: DataLoader[Any]) -> Iterator[Any]:
        """A new iteration of the loader, by the `__iter__` of its own class."""
        known = self._loader
        assert known is not None
        resumed, self._resumed = self._resumed, None
        if resumed is not None:
            self.epoch, self._batches, self._rng = resumed.epoch, resumed.batches, resumed.rng
            if known.generator is not None and resumed.generator is not None:
                known.generator.set_state(resumed.generator)
        else:
            if self._current is not None:  # left by `break`
                self.epoch += 1
            self._batches = 0
        replayed = self._batches if self._replay and known.workers else 0
        plan = self.epoch, (self._batches - replayed) * known.batch_size
        if resumed is not None and self._rng is not None:
            with _random_state(known.generator, self._rng), self._planned(plan):
                iterator = kind.__iter__(loader)
                for _ in range(replayed):
                    next(iterator, None)
        else:
            self._rng = _state(known.generator)
            with self._planned(plan):
                iterator = kind.__iter__(loader)
        iteration = _Iteration(self, iterator, plan)
        self._current = iteration.name
        return iteration

    @contextmanager
    def _planned(self, plan: tuple[int, int]) -> Iterator[None]:
        self._plan = plan
        try:
            yield
        finally:
            self._plan = None

    def _got_batch(self, iteration: _Iteration) -> None:
        if iteration.name is self._current:
            self._batches += 1

    def _ended(self, iteration: _Iteration) -> None:
        if iteration.name is self._current:
            self.epoch += 1
            self._batches = 0
            self._current = None
            if self._loader is not None and not self._loader.persistent:
                self._rng = None  # the next iterator draws a seed for its workers; persistent ones have theirs


class _Iteration:
    """One iteration of a watched loader: tells the sampler what the loop gets."""

    def __init__(self, sampler: ResumableSampler, batches: Iterator[Any], plan: tuple[int, int]) -> None:
        self.name = object()
        self._sampler = sampler
        self._batches = batches
        self._plan: tuple[int, int] | None = plan

    def __iter__(self) -> _Iteration:
        return self

    def __next__(self) -> Any:
        try:
            batch = self._first() if self._plan is not None else next(self._batches)
        except StopIteration:
            self._sampler._ended(self)
            raise
        self._sampler._got_batch(self)
        return batch

    def _first(self) -> Any:
        """Without workers, the loader asks the sampler for indices only now."""
        assert self._plan is not None
        plan, self._plan = self._plan, None
        with self._sampler._planned(plan):
            return next(self._batches)


def _state(generator: torch.Generator | None) -> torch.Tensor:
    return torch.get_rng_state() if generator is None else generator.get_state()


@contextmanager
def _random_state(generator: torch.Generator | None, state: torch.Tensor) -> Iterator[None]:
    """Torch's random state, or a generator's, for the body; the one of before is put back after it."""
    set_state = torch.set_rng_state if generator is None else generator.set_state
    before = _state(generator)
    set_state(state)
    try:
        yield
    finally:
        set_state(before)
