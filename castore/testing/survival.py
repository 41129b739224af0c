"""What must hold of a store after a crash, against what its users had been told before."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import castore
from castore import config
from castore.copies import directories, opened
from castore.errors import CastoreError, DroppedError
from castore.history.audit_line import AuditEntry
from castore.history.drops import Drop
from castore.history.pins import Pin
from castore.history.reflog import ReflogEntry
from castore.maintenance.mirroring.copied import copies_in
from castore.repo import NAME
from castore.store import Store
from castore.testing.states import equal_states


@dataclass(frozen=True, slots=True)
class Account:
    """What a store says of its history.

    head: the branch that HEAD follows, or the commit that it names. audit: the entries of the audit log, oldest first.
    copies: the commits of which the second directories of tiers hold the state.
    """

    head: str
    branches: Mapping[str, str]
    tags: Mapping[str, str]
    pins: Mapping[str, Pin]
    drops: Mapping[str, Drop]
    logs: Mapping[str, tuple[ReflogEntry, ...]]
    audit: tuple[AuditEntry, ...] = ()
    copies: frozenset[str] = frozenset()

    @classmethod
    def of(cls, store: Store) -> Account:
        head, refs = store.head(), store.repository.refs
        logs = {ref: tuple(refs.reflog.read(ref)) for ref in refs.reflog.refs()}
        named = head.branch or head.commit or ""
        audit = tuple(store.audit())[::-1]
        return cls(named, store.branches(), store.tags(), store.pins(), store.drops(), logs, audit, _copies(store))


def _copies(store: Store) -> frozenset[str]:
    found: set[str] = set()
    for directory in directories(store.repository):
        if (directory / NAME / config.NAME).is_file():
            with opened(store.repository, directory) as target:
                found.update(copies_in(target).states)
    return frozenset(found)


NOTHING = Account("main", {}, {}, {}, {}, {})  # of a store that is not there yet


def violation(root: Path, told: Sequence[Account], states: Mapping[str, Any], new_state: Any) -> str | None:
    """What is wrong with the store in `root` after a crash, None for nothing. What the check does changes the store.

    told: what was acknowledged last, what would have been next and what lies between: each ref is as in one of them.
    states: what was committed, by commit id. new_state: to be committed after the crash.
    """
    try:
        with castore.open(root, create=not told[0].branches) as store:
            for problem in _problems(store, told, states, new_state):
                return problem
        with castore.open(root) as store:
            if not equal_states(store.load("main"), new_state):
                return "opened once more: what was committed after the crash loads differently"
    except CastoreError as error:
        return f"{type(error).__name__}: {error}"
    return None


def _problems(store: Store, told: Sequence[Account], states: Mapping[str, Any], new_state: Any) -> Iterator[str]:
    """What is wrong, as it is met; the store is used as after any start."""
    report = store.fsck()
    if not report.ok:
        yield f"fsck: {report.errors[0].problem}"
    found = Account.of(store)
    yield from _differences(told, found)
    if told[0].audit:  # a store of before there was one has none until its next change
        yield from (f"audit: {error}" for error in store.check_audit().errors)
    expected = {**found.branches, **found.tags, **dict.fromkeys(found.pins)}
    known = {commit.id for name in expected for commit in store.log(name)}
    known |= {entry.new for log in _promised_logs(told).values() for entry in log}
    yield from _unloadable(store, known, states, found.drops)
    made = store.commit(new_state, message="after the crash")
    store.gc()
    if not equal_states(store.load(made.id), new_state):
        yield "what was committed after the crash loads differently"
    yield from (f"audit: {error}" for error in store.check_audit().errors)
    yield from _unmirrored(store, states)
    report = store.fsck(read_data=False)
    if not report.ok:
        yield f"fsck after gc: {report.errors[0].problem}"
    yield from (f"{path.relative_to(store.path)} is left after gc" for path in _left_over(store.path))


def _unmirrored(store: Store, states: Mapping[str, Any]) -> Iterator[str]:
    """What is wrong with second directories once they were brought up to date."""
    for done in store.mirror().directories:
        if done.error is not None or done.failed:
            yield f"mirror: {done.error or done.failed[0]}"
        with castore.open(done.directory) as copies:
            if not (report := copies.fsck()).ok:
                yield f"fsck of the copies: {report.errors[0].problem}"
            yield from _unloadable(copies, set(copies_in(copies.repository).states), states, copies.drops())


def _left_over(path: Path) -> list[Path]:
    """Files that gc should have taken."""
    return [*(path / "incoming").iterdir(), *path.rglob("*.tmp")]


def _differences(told: Sequence[Account], found: Account) -> Iterator[str]:
    for part in ("head", "pins", "drops"):
        any_of = [getattr(one, part) for one in told]
        if (now := getattr(found, part)) not in any_of:
            yield f"{part}: {now}, and none of {any_of}"
    for part in ("branches", "tags"):
        refs = [getattr(one, part) for one in told]
        now = getattr(found, part)
        for name in sorted({name for one in (*refs, now) for name in one}):
            if now.get(name) not in [one.get(name) for one in refs]:
                yield f"{part}: {name} is at {now.get(name)}, and not at any of {[one.get(name) for one in refs]}"
    if found.audit[: len(told[0].audit)] != told[0].audit:
        yield f"the audit log has {len(found.audit)} entries, and not the {len(told[0].audit)} that it had"
    if missing_copies := told[0].copies - found.copies:
        yield f"the copies of {sorted(missing_copies)} are gone"
    for ref, promised in _promised_logs(told).items():
        if missing := [entry for entry in promised if entry not in found.logs.get(ref, ())]:
            yield f"the reflog of {ref} lacks {missing[0]}"
    for ref, log in found.logs.items():
        written = {entry for one in told for entry in one.logs.get(ref, ())}
        if strange := [entry for entry in log if entry not in written]:
            yield f"the reflog of {ref} has {strange[0]}, which nobody wrote"


def _promised_logs(told: Sequence[Account]) -> dict[str, list[ReflogEntry]]:
    """The entries that stay, whatever became of what went on."""
    first, *others = told
    return {
        ref: [entry for entry in log if all(entry in one.logs.get(ref, ()) for one in others)]
        for ref, log in first.logs.items()
    }


def _unloadable(store: Store, known: set[str], states: Mapping[str, Any], drops: Mapping[str, Drop]) -> Iterator[str]:
    for commit in sorted(known):
        if commit not in states:
            yield f"commit {commit} was never made"
            continue
        try:
            loaded = store.load(commit)
        except DroppedError:
            if commit not in drops:
                yield f"commit {commit} counts as dropped"
            continue
        if not equal_states(loaded, states[commit]):
            yield f"commit {commit} loads differently"
