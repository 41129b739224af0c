"""What is in a commit, path by path."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from castore.objects import nodes
from castore.objects.patterns import matches
from castore.operations.elsewhere import reading
from castore.operations.fetch import raw_bytes
from castore.operations.load import walk_files
from castore.operations.reports import TreeEntry
from castore.operations.select import choose_files, patterns, select
from castore.repo import Repository


def entries(repo: Repository, rev: str, only: str | Sequence[str] | None) -> Iterator[TreeEntry]:
    """The leaves of a commit's tree in its own order; of a commit of files, each file and the tensors in it."""
    root = reading(repo, rev, lambda one, commit_id: one.tree(one.commit(commit_id)))
    if isinstance(root, nodes.Directory):
        files = dict(walk_files(root))
        for name, inside in choose_files(files, patterns(only)).items():
            node = files[name]
            yield TreeEntry(name, f"file ({node.format})", raw_bytes=node.size, value=node.note)
            for path, data in node.segments:
                if isinstance(data, nodes.Tensor) and path and (inside is None or matches(path, inside)):
                    yield _tensor(f"{name}.{'.'.join(path)}", data)
        return
    yield from leaves(select(root, patterns(only)))


def _tensor(path: str, data: nodes.Tensor) -> TreeEntry:
    gone = "dropped" if data.dropped else ""
    return TreeEntry(path, data.kind, data.numpy_dtype or data.dtype, data.shape, raw_bytes(data), gone)


def leaves(node: nodes.Node, path: nodes.Path = ()) -> Iterator[TreeEntry]:
    """The leaves of a state's tree in its own order."""
    dotted = ".".join(path)
    if isinstance(node, nodes.Value):
        yield TreeEntry(dotted, "value", type(node.value).__name__, value=nodes.value_text(node.value))
    elif isinstance(node, nodes.Tensor):
        yield _tensor(dotted, node)
    elif isinstance(node, nodes.Shared):
        gone = "dropped" if node.data.dropped else ""
        yield TreeEntry(dotted, node.view.kind, node.view.dtype, node.view.shape, raw_bytes(node.data), gone)
    elif isinstance(node, nodes.View):
        yield TreeEntry(dotted, node.kind, node.dtype, node.shape, 0, f"shares memory {node.base}")
    elif isinstance(node, nodes.Map):
        for key, item in node.items:
            yield from leaves(item, (*path, nodes.key_text(key)))
    elif isinstance(node, nodes.Sequence) and node.items and all(isinstance(i, nodes.Value) for i in node.items):
        values = [item.value for item in node.items if isinstance(item, nodes.Value)]
        shown = ", ".join(map(nodes.value_text, values[:8])) + (", ..." if len(values) > 8 else "")
        yield TreeEntry(dotted, node.kind, shape=(len(values),), value=shown)
    elif isinstance(node, nodes.Sequence | nodes.Compound):
        for index, item in enumerate(node.items if isinstance(node, nodes.Sequence) else node.parts):
            yield from leaves(item, (*path, str(index)))
