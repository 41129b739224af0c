"""Committing files: what is in which file, as a tree, and where its bytes are."""

from __future__ import annotations

import contextlib
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from castore.codecs.choice import STANDALONE_WORTHWHILE
from castore.errors import UsageError
from castore.objects import nodes
from castore.objects.patterns import files
from castore.operations.commit import Committed, commit_tree
from castore.operations.details import Details
from castore.operations.sources import SegmentSource
from castore.operations.tier_content import content
from castore.repo import Repository
from castore.state.files.scan import scan_source
from castore.state.files.source import FileSource
from castore.state.files.tree import FileTree, safe_tree

_INLINE_BYTES = 1024  # plain bytes of a file up to this size lie in the tree: a record of their own would cost as much


def commit_files(
    repo: Repository,
    paths: Sequence[Path],
    branch: str,
    details: Details,
    worthwhile: float = STANDALONE_WORTHWHILE,
) -> Committed:
    """Commit files and directories, byte for byte. Raises StateError for what cannot be read or kept."""
    tier = repo.tiers().named(details.tier) if details.tier is not None else None
    with contextlib.ExitStack() as stack:
        found = _Collection(repo, stack)
        chosen = content(found.collect(paths), [tier] if tier is not None else [])
        sources = chosen.sources(found.sources)
        told = chosen.noted(details)
        inline = inline_bytes(chosen.root)
        unchanged = found.verify_unchanged
        return commit_tree(repo, chosen.root, sources, branch, told, unchanged, inline, worthwhile=worthwhile)


@dataclass(slots=True)
class _Collection:
    """The files of one commit, held open until it is made."""

    repo: Repository
    stack: contextlib.ExitStack
    sources: list[SegmentSource] = field(default_factory=list)
    opened: list[FileSource] = field(default_factory=list)

    def collect(self, paths: Sequence[Path]) -> nodes.Directory:
        """The tree of files and directories by name; of a single directory, what is in it."""
        entries: dict[str, nodes.File | nodes.Directory] = {}
        for path in paths:
            name = path.name or path.resolve().name
            if name in entries:
                raise UsageError(f"two of the paths are named {name!r}; commit the directory that holds them")
            tree: FileTree | Path = safe_tree(path) if path.is_dir() else path
            for line in tree.skipped if isinstance(tree, FileTree) else ():
                self.repo.progress.note(f"skipped {line}")
            entries[name] = self._node(tree, (name,))
        first = next(iter(entries.values()), None)
        if len(entries) == 1 and isinstance(first, nodes.Directory):
            # So that `checkout -o` gives the directory back, not a directory in a directory.
            self.sources = [replace(one, path=one.path[1:], in_file=one.in_file - 1) for one in self.sources]
            return first
        return nodes.Directory(entries)

    def _node(self, tree: FileTree | Path, path: nodes.Path) -> nodes.File | nodes.Directory:
        if isinstance(tree, FileTree):
            return nodes.Directory({name: self._node(entry, (*path, name)) for name, entry in tree.entries.items()})
        file = self.stack.enter_context(FileSource(tree))
        self.opened.append(file)
        layout = scan_source(file)
        if layout.note:
            self.repo.progress.note(f"{tree}: {layout.note}")
        node = nodes.File(layout.size, layout.format, note=layout.note)
        for segment in layout.segments:
            if segment.kind == "bytes" and segment.nbytes <= _INLINE_BYTES:
                node.segments.append(((), nodes.Value(file.span(segment.offset, segment.nbytes))))
                continue
            entry = nodes.Tensor(segment.kind, segment.dtype.name, segment.shape)
            node.segments.append((segment.path, entry))
            self.sources.append(SegmentSource(file, segment, (*path, *segment.path), len(path), entry))
        return node

    def verify_unchanged(self) -> None:
        """Raise StateError when one of the files changed while it was read."""
        for file in self.opened:
            file.verify_unchanged()


def inline_bytes(root: nodes.Node) -> dict[str, int]:
    """The bytes of files that lie in the tree itself, by top-level name."""
    found: dict[str, int] = {}
    for name, file in files(root) if isinstance(root, nodes.Directory) else ():
        top = name.split("/", 1)[0]
        plain = [data.value for _, data in file.segments if isinstance(data, nodes.Value)]
        found[top] = found.get(top, 0) + sum(len(value) for value in plain if isinstance(value, bytes))
    return {top: size for top, size in found.items() if size}
