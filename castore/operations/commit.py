"""Commit: bytes into chunks, a tree over them, a commit over the tree, the rename of a ref that makes it history."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from castore.chunks import pack
from castore.chunks.session import WriteSession
from castore.chunks.store import NOTHING_KNOWN
from castore.codecs.choice import STANDALONE_WORTHWHILE
from castore.errors import CorruptError, DroppedError
from castore.history.names import check_name
from castore.history.reflog import Change
from castore.history.walk import ancestors
from castore.objects import codec, nodes
from castore.objects.commit import Commit, ComponentStats
from castore.objects.tree import TreeWriter
from castore.operations.bases import Bases
from castore.operations.details import Details
from castore.operations.ingest import store_sources
from castore.operations.nearest import Nearest
from castore.operations.sources import LiveSource, Source
from castore.operations.tier_content import content
from castore.quiet import SHORT_BYTES, no_collection
from castore.repo import Repository

if TYPE_CHECKING:
    from castore.state.roles import Relation


@dataclass(frozen=True, slots=True)
class Committed:
    """The commit, and the bytes that its packs take on disk.

    anchors: the chunks among those written that deltas to their next versions are going to stand on.
    """

    commit: Commit
    new_bytes: int
    anchors: frozenset[bytes]


def commit_state(
    repo: Repository, state: object, branch: str, details: Details, worthwhile: float = STANDALONE_WORTHWHILE
) -> Committed:
    """Commit a live state. Raises StateError, before anything is written, for a leaf that has no safe encoding."""
    from castore.state.live import flatten

    tier = repo.tiers().named(details.tier) if details.tier is not None else None
    with contextlib.ExitStack() as quiet:
        quiet.enter_context(no_collection())
        flat = flatten(state)
        chosen = content(flat.root, [tier] if tier is not None else [])
        sources = [LiveSource(source) for source in chosen.sources(flat.sources)]
        if sum(source.nbytes for source in sources) >= SHORT_BYTES:
            quiet.close()  # else once around all of it: when it is switched on again, it goes through everything
        return commit_flat(repo, chosen.root, sources, branch, chosen.noted(details), worthwhile=worthwhile)


def commit_flat(
    repo: Repository,
    root: nodes.Node,
    sources: Sequence[Source],
    branch: str,
    details: Details,
    known: Mapping[bytes, memoryview] = NOTHING_KNOWN,
    worthwhile: float = STANDALONE_WORTHWHILE,
) -> Committed:
    """Commit a state that has been flattened, wherever its bytes are by now. known, worthwhile: see `WriteSession`. In
    haste, with nothing known, nothing is predicted either: that would need bases decoded, and the kernels loaded."""
    from castore.operations.counters import Counters
    from castore.state.roles import relations

    at_hand_only = worthwhile < STANDALONE_WORTHWHILE

    def relate(bases: Bases) -> Mapping[nodes.Path, Relation]:
        return relations(root, Counters(repo, sources, bases)) if known or not at_hand_only else {}

    return commit_tree(repo, root, sources, branch, details, relate=relate, known=known, worthwhile=worthwhile)


def commit_tree(
    repo: Repository,
    root: nodes.Node,
    sources: Sequence[Source],
    branch: str,
    details: Details,
    verify: Callable[[], None] = lambda: None,
    inline_bytes: Mapping[str, int] | None = None,
    relate: Callable[[Bases], Mapping[nodes.Path, Relation]] = lambda _bases: {},
    known: Mapping[bytes, memoryview] = NOTHING_KNOWN,
    worthwhile: float = STANDALONE_WORTHWHILE,
) -> Committed:
    """Commit a tree whose tensors' bytes are in `sources`. verify: raises if what was read changed meanwhile.

    inline_bytes: raw bytes that lie in the tree itself, by component.

    Raises RefConflictError when another process moved the branch, StorageError when the disk refuses; the history is
    then as it was.
    """
    check_name(branch)
    details = details.owned_by(repo.config.owner)
    repo.require_features()
    with repo.chunks.session(known, worthwhile) as session:  # first: it is told of what gc takes from now on
        parent = repo.refs.branch(branch)
        with no_collection():
            tree = _parent_tree(repo, parent)
            bases = Bases(tree, Nearest(repo, branch, tree))
            related = relate(bases)
            bases.look_up(sources)
            session.expect(bases.chunk_ids(sources, repo.hash.size))
        for commit in _attempts(repo, session, root, sources, bases, related, parent, details, inline_bytes or {}):
            verify()
            session.seal()
            sketches = bases.sketches(sources)
            with repo.lock.held():
                if session.swept():
                    continue  # gc took chunks that this commit counted on: they are put again
                repo.refs.expect_branch(branch, parent)  # before anything of a commit that lost the race gets in
                session.publish(sketches)
                repo.drops.forget([commit.id])  # the very same commit had been made and dropped before
                change = Change(details.author, details.time, f"commit: {_subject(details)}")
                repo.refs.update_branch(branch, commit.id, parent, change)
            break
        repo.made = (commit.id, root)
        if session.damaged_bases:
            repo.progress.note(
                f"{session.damaged_bases} chunks of the parent are damaged and could not be bases; run `castore fsck`"
            )
        return Committed(commit, session.added_bytes, frozenset(session.anchors))


def _parent_tree(repo: Repository, parent: str | None) -> nodes.Node | None:
    """The tree whose chunks are to be bases: the parent's, or if that was dropped of the last state before it.

    Damage in it must not keep a run from saving its state.
    """
    if parent is None:
        return None
    try:
        dropped = repo.drops.read() if repo.drops.get(parent) is not None else {}
        if repo.made is not None and repo.made[0] == parent and not dropped:
            return repo.made[1]
        for commit in ancestors([parent], repo, first_parent=True):
            drop = dropped.get(commit.id)
            if drop is None or drop.components:
                return repo.tree(commit)
        return None
    except (CorruptError, DroppedError) as error:  # dropped: while this went on
        repo.progress.note(f"the parent {parent} cannot be read, so everything is stored whole: {error}")
        return None


def _attempts(
    repo: Repository,
    session: WriteSession,
    root: nodes.Node,
    sources: Sequence[Source],
    bases: Bases,
    related: Mapping[nodes.Path, Relation],
    parent: str | None,
    details: Details,
    inline_bytes: Mapping[str, int],
) -> Iterator[Commit]:
    """Put everything, as often as the consumer asks: each time only what the store lacks is written."""
    while True:
        components = store_sources(repo, session, sources, bases, related)
        for name, size in inline_bytes.items():
            stats = components.get(name, ComponentStats())
            components[name] = replace(stats, raw_bytes=stats.raw_bytes + size)
        with no_collection():
            tree_id = TreeWriter(session.put_object).write(root)
        commit = Commit(
            id="",
            tree=tree_id.hex(),
            parents=(parent,) if parent is not None else (),
            message=details.message,
            step=details.step,
            metrics=details.metrics,
            author=details.author,
            time=details.time,
            environment=details.environment,
            provenance=session.put_object(pack.PROVENANCE, details.provenance).hex(),
            meta=details.meta,
            tier=details.tier,
            stats=codec.commit_stats(components),
        )
        commit_id = session.put_object(pack.COMMIT, codec.encode(commit))
        yield replace(commit, id=commit_id.hex())


def _subject(details: Details) -> str:
    lines = details.message.strip().splitlines()
    subject = lines[0] if lines else ""
    if details.step is not None:
        return f"step {details.step}" + (f": {subject}" if subject else "")
    return subject or "(no message)"
