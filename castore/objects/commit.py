"""The commit: a tree, where it came from, and what a person wants to know of it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime

RESUMED_FROM = "resumed-from"  # a note (`Commit.meta`): the id of the commit that a run went on from
LEFT_OUT = "left-out"  # a note: the paths of what the tier of the commit did not let in

OWNER = "owner"  # a note: the person or team that answers for the commit, whoever made it


@dataclass(frozen=True, slots=True)
class ComponentStats:
    """What one top-level part of a state (model, optimizer, a file) took.

    raw_bytes: its tensors and files, uncompressed. new_raw_bytes: the part of it that the store did not have yet.
    stored_bytes: what that part takes in packs. delta_bytes: the share of stored_bytes that is in delta records.
    """

    raw_bytes: int = 0
    new_raw_bytes: int = 0
    stored_bytes: int = 0
    delta_bytes: int = 0
    tensors: int = 0


@dataclass(frozen=True, slots=True)
class CommitStats:
    """Sums over a commit's components, and each of them by name."""

    total: ComponentStats = ComponentStats()
    components: Mapping[str, ComponentStats] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Commit:
    """One committed state, as `Store.commit` returns it and `Store.log` lists it.

    id, tree, parents: object ids in hex. time: with the author's UTC offset. step: the training step, if given.
    environment: what the state was made with, in a few words (Python, torch, host, ...). meta: the caller's own notes.
    provenance: the id, in hex, of the object that says all of it; None in commits of older versions.
    """

    id: str
    tree: str
    parents: tuple[str, ...]
    message: str
    step: int | None
    metrics: Mapping[str, float]
    author: str
    time: datetime
    environment: Mapping[str, str]
    meta: Mapping[str, str]
    tier: str | None
    stats: CommitStats = field(repr=False)  # pages of it, one line for each part of the state
    provenance: str | None = None
