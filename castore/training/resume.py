"""Restoring a loop: in the order that makes the next step identical, with a word for what can't be."""

from __future__ import annotations

import dataclasses
import math
import warnings
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from torch.utils.data import DataLoader

from castore.errors import CorruptError, StateError, UsageError
from castore.objects import nodes
from castore.objects.commit import LEFT_OUT, Commit
from castore.objects.provenance import Provenance
from castore.operations.accesses import note_access
from castore.operations.elsewhere import reading
from castore.operations.load import restore as restore_tree
from castore.operations.provenance import provenance
from castore.repo import Repository
from castore.state.provenance.differences import Difference, explaining, restricted
from castore.store import Store
from castore.training import parts
from castore.training.loaders import loader_part
from castore.training.policy import Policy
from castore.training.sampler import ResumableSampler

_SHOWN = 10
_MOST_CHARS = 80  # of a text in a warning
_PLAIN = {
    ("torch", "version"): "torch",
    ("python", "version"): "python",
    ("code", "commit"): "the Git commit of the training code",
}


class InexactResumeWarning(UserWarning):
    """A resumed run may differ from one that was never interrupted; the text names why."""


def loop_parts(objects: Mapping[str, Any]) -> tuple[dict[str, Any], list[str]]:
    """The parts of a loop by name, loaders last, and what of them can't be restored exactly.

    Raises UsageError for a value that could not be given its state back, and for a name that castore uses itself.
    """
    found: dict[str, Any] = {}
    loaders: dict[str, Any] = {}
    inexact: list[str] = []
    for name, value in objects.items():
        if name in parts.LAST:
            raise UsageError(f"{name!r} is a name that castore uses itself; call it something else")
        if isinstance(value, DataLoader):
            part, why = loader_part(name, value)
            inexact += [why] if why is not None else []
            if part is not None:
                loaders[name] = part
        elif value is not None:
            found[name] = parts.as_part(name, value)
    return found | loaders, inexact


def restore(
    store: Store,
    commit: Commit,
    targets: Mapping[str, Any],
    strict: bool,
    inexact: Sequence[str],
    here: Provenance | None,
) -> None:
    """Restore a commit of a loop into its parts. here: what the loop that goes on is run with,
    to be compared with what the commit was; None: it is not compared.

    Warns (InexactResumeWarning) of what can't be restored exactly, and without `strict` of what does not fit.
    Raises StateError, CorruptError.
    """
    there, left = reading(store.repository, commit.id, lambda repo, _: _restore(store, repo, commit, targets, strict))
    note_access(store.repository, commit.id)
    if parts.GRADIENTS not in there:
        targets[parts.GRADIENTS].clear()
    if left:
        more = f"; and {len(left) - _SHOWN} more" if len(left) > _SHOWN else ""
        _warn(f"not all of {commit.id[:12]} fits, and this was left as it is: {'; '.join(left[:_SHOWN])}{more}")
    if parts.RNG not in there:
        _warn(f"{commit.id[:12]} holds no states of random number generators, so they go on from where they are")
    elif more := targets[parts.RNG].passed_over:
        _warn(f"{commit.id[:12]} holds the random number states of {more} CUDA devices that are not here")
    for text in [*inexact, *(_differences(store, commit, here) if here is not None else ())]:
        _warn(text)


def _restore(
    store: Store, repo: Repository, commit: Commit, targets: Mapping[str, Any], strict: bool
) -> tuple[set[str], list[str]]:
    """Restore a commit as `repo` has it; returns the names of its parts, and a line for each that was left as it is."""
    root = repo.tree(commit)
    if not isinstance(root, nodes.Map):
        raise StateError(f"{commit.id[:12]} is no commit of a training loop: load it, or check it out")
    there = {nodes.key_text(key) for key, _ in root.items}
    chosen = {name: target for name, target in targets.items() if name in there or name not in parts.LAST}
    unfit = _unfit_loaders(store, commit, {name: chosen[name] for name in chosen if name in there}, strict)
    spared = _spared(store, commit, chosen.keys() - there)
    chosen = {name: target for name, target in chosen.items() if name not in unfit and name not in spared}
    fit = dataclasses.replace(root, items=[item for item in root.items if nodes.key_text(item[0]) not in unfit])
    try:
        unlike = restore_tree(repo, fit, chosen, strict)
    except StateError as error:
        if not strict or LEFT_OUT not in commit.meta:
            raise
        raise StateError(f"{error}; its tier {commit.tier} left out {commit.meta[LEFT_OUT]}") from None
    return there, [*unfit.values(), *spared.values(), *unlike]


def _spared(store: Store, commit: Commit, missing: Iterable[str]) -> dict[str, str]:
    """Parts that a tier left out of a commit and the lowest tier would too: a restart does not need them."""
    if LEFT_OUT not in commit.meta:
        return {}
    left, lowest = commit.meta[LEFT_OUT].split(", "), store.repository.tiers().lowest
    return {
        name: f"{name}: tier {commit.tier} leaves it out"
        for name in sorted(missing)
        if name in left and not lowest.lets_in((name,))
    }


def _unfit_loaders(store: Store, commit: Commit, targets: Mapping[str, Any], strict: bool) -> dict[str, str]:
    """Loaders whose place was one in other data, and why; raised at once if `strict`, when nothing is restored yet."""
    unfit: dict[str, str] = {}
    for name, target in targets.items():
        if isinstance(target, ResumableSampler):
            try:
                target.check_state_dict(store.load(commit.id, only=name)[name])
            except StateError as error:
                if strict:
                    raise
                unfit[name] = f"{name}: {error}"
    return unfit


def best_metric(store: Store, commit: Commit, policy: Policy) -> float | None:
    """The best value, up to a commit, of the metric that a policy watches; None if there is none.

    Warns (InexactResumeWarning) where history can't be read that far back.
    """
    name, found = policy.metric, []
    if name is None:
        return None
    try:
        found += [one.metrics[name] for one in store.log(commit.id) if not math.isnan(one.metrics.get(name, math.nan))]
    except CorruptError as error:
        _warn(f"the best {name} so far is not known, so the next one counts as an improvement: {error}")
    if not found:
        return None
    return max(found) if policy.higher_is_better else min(found)


def _differences(store: Store, commit: Commit, here: Provenance) -> list[str]:
    """What is different here and can change results."""
    try:
        then = reading(store.repository, commit.id, lambda repo, _: provenance(repo, commit))
    except CorruptError as error:
        return [f"how {commit.id[:12]} was made can't be read, so what is different here is not known: {error}"]
    found = explaining(then, here if commit.provenance is not None else restricted(here, then))
    packages = [one for one in found if one.section == "packages"]
    texts = [_text(one) for one in found if one.section != "packages"]
    if packages:
        more = f"; and {len(packages) - _SHOWN} more" if len(packages) > _SHOWN else ""
        listed = "; ".join(
            f"{one.name} is {_shown(one.new)} here and was {_shown(one.old)} then" for one in packages[:_SHOWN]
        )
        texts.append(f"packages differ, so results may differ: {listed}{more}")
    return texts


def _text(one: Difference) -> str:
    if (one.section, one.name) == ("numerics", "threads"):
        return (
            f"torch computes with {one.new} threads here and had {one.old} then: sums may be rounded otherwise; "
            f"torch.set_num_threads({one.old}) makes them the same"
        )
    if (one.section, one.name) in (("code", "diff"), ("code", "untracked")):
        what = "uncommitted changes" if one.name == "diff" else "untracked files"
        return f"the training code has other {what} here than then: results may differ; `castore show --env` has them"
    name = _PLAIN.get((one.section, one.name), f"{one.section} {one.name}")
    return f"{name} is {_shown(one.new)} here and was {_shown(one.old)} then: results may differ"


def _shown(text: str | None) -> str:
    if text is None:
        return "not given"
    line = " ".join(text.split())
    return line if len(line) <= _MOST_CHARS else f"{line[:_MOST_CHARS]}..."


def _warn(text: str) -> None:
    warnings.warn(f"castore: {text}", InexactResumeWarning, stacklevel=4)
