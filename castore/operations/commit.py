"""Commit: bytes into chunks, a tree over them, a commit over the tree, and the rename of a ref that makes it history."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from pathlib import Path

from castore import limits
from castore.chunks import pack
from castore.chunks.session import WriteSession
from castore.errors import CorruptError, UsageError
from castore.history.names import check_name
from castore.history.reflog import Change
from castore.objects import codec, nodes
from castore.objects.commit import Commit
from castore.objects.tree import TreeWriter
from castore.operations.ingest import Bases, Source, store_sources
from castore.operations.sources import LiveSource, SegmentSource
from castore.repo import Repository
from castore.state.files.scan import scan_source
from castore.state.files.source import FileSource
from castore.state.files.tree import FileTree, safe_tree


@dataclass(frozen=True, slots=True)
class Details:
    """What the caller says of a commit. metrics: finite or not, as floats. meta: notes by name."""

    message: str
    step: int | None
    metrics: Mapping[str, float]
    meta: Mapping[str, str]
    tier: str | None
    author: str
    time: datetime
    environment: Mapping[str, str]

    def checked(self) -> Details:
        """Itself, with metrics as floats. Raises UsageError that names what is of the wrong type."""
        if self.step is not None and (type(self.step) is not int or self.step < 0):
            raise UsageError(f"step must be a whole number from 0 on, not {self.step!r}")
        if len(self.message.encode("utf-8", "surrogatepass")) > limits.MAX_MESSAGE_BYTES:
            raise UsageError(
                f"the message is longer than {limits.MAX_MESSAGE_BYTES} bytes; put it in a file and commit that"
            )
        metrics = {}
        for name, value in self.metrics.items():
            try:
                metrics[str(name)] = float(value)
            except (TypeError, ValueError, OverflowError):
                raise UsageError(f"metric {name!r} must be a number, not {type(value).__name__}") from None
        return replace(self, metrics=metrics, meta={str(name): str(text) for name, text in self.meta.items()})


@dataclass(frozen=True, slots=True)
class Committed:
    """The commit, and the bytes that its packs take on disk."""

    commit: Commit
    new_bytes: int


def commit_state(repo: Repository, state: object, branch: str, details: Details) -> Committed:
    """Commit a live state. Raises StateError, before anything is written, for a leaf that has no safe encoding."""
    from castore.state.live import flatten

    flat = flatten(state)
    return _commit(repo, flat.root, [LiveSource(source) for source in flat.sources], branch, details, lambda: None)


def commit_files(repo: Repository, paths: Sequence[Path], branch: str, details: Details) -> Committed:
    """Commit files and directories, byte for byte. Raises StateError for what cannot be read or kept."""
    with contextlib.ExitStack() as stack:
        sources: list[Source] = []
        opened: list[FileSource] = []
        entries: dict[str, nodes.File | nodes.Directory] = {}
        for path in paths:
            tree: FileTree | Path = safe_tree(path) if path.is_dir() else path
            name = path.name or path.resolve().name
            if name in entries:
                raise UsageError(f"two of the paths are named {name!r}; commit the directory that holds them")
            for line in tree.skipped if isinstance(tree, FileTree) else ():
                repo.progress.note(f"skipped {line}")
            entries[name] = _node(repo, stack, tree, (name,), sources, opened)
        if len(paths) == 1 and isinstance(only := entries[next(iter(entries))], nodes.Directory):
            entries = only.entries  # a directory's content, so that `checkout -o` gives the directory back
            for number, source in enumerate(sources):
                if isinstance(source, SegmentSource):
                    sources[number] = replace(source, path=source.path[1:], in_file=source.in_file - 1)

        def unchanged() -> None:
            for file in opened:
                file.verify_unchanged()

        return _commit(repo, nodes.Directory(entries), sources, branch, details, unchanged)


def _node(
    repo: Repository,
    stack: contextlib.ExitStack,
    tree: FileTree | Path,
    path: nodes.Path,
    sources: list[Source],
    opened: list[FileSource],
) -> nodes.File | nodes.Directory:
    if isinstance(tree, FileTree):
        return nodes.Directory(
            {name: _node(repo, stack, entry, (*path, name), sources, opened) for name, entry in tree.entries.items()}
        )
    file = stack.enter_context(FileSource(tree))
    opened.append(file)
    layout = scan_source(file)
    if layout.note:
        repo.progress.note(f"{tree} is kept as a plain file: {layout.note}")
    node = nodes.File(layout.size, layout.format, note=layout.note)
    for segment in layout.segments:
        entry = nodes.Tensor(segment.kind, segment.dtype.name, segment.shape)
        node.segments.append((segment.path, entry))
        sources.append(SegmentSource(file, segment, (*path, *segment.path), len(path), entry))
    return node


def _commit(
    repo: Repository,
    root: nodes.Node,
    sources: Sequence[Source],
    branch: str,
    details: Details,
    verify: Callable[[], None],
) -> Committed:
    details = details.checked()
    check_name(branch)
    parent = repo.refs.branch(branch)
    bases = Bases(_parent_tree(repo, parent))
    with repo.chunks.session() as session:
        for commit in _attempts(repo, session, root, sources, bases, parent, details):
            verify()
            session.seal()
            with repo.lock.held():
                if session.swept():
                    continue  # gc took chunks that this commit counted on: they are put again
                session.publish()
                change = Change(details.author, details.time, f"commit: {_subject(details)}")
                repo.refs.update_branch(branch, commit.id, parent, change)
            break
        if session.damaged_bases:
            repo.progress.note(
                f"{session.damaged_bases} chunks of the parent are damaged and could not be bases; run `castore fsck`"
            )
        return Committed(commit, session.added_bytes)


def _parent_tree(repo: Repository, parent: str | None) -> nodes.Node | None:
    """The parent's tree, for its chunks to be bases; damage in it must not keep a run from saving its state."""
    if parent is None:
        return None
    try:
        return repo.tree(repo.commit(parent))
    except CorruptError as error:
        repo.progress.note(f"the parent {parent} cannot be read, so everything is stored whole: {error}")
        return None


def _attempts(
    repo: Repository,
    session: WriteSession,
    root: nodes.Node,
    sources: Sequence[Source],
    bases: Bases,
    parent: str | None,
    details: Details,
) -> Iterator[Commit]:
    """Put everything, as often as the consumer asks: each time only what the store lacks is written."""
    while True:
        components = store_sources(repo, session, sources, bases)
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
