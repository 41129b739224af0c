"""What a tensor is called from commit to commit: its path, and without the names of files where it lies in one."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence

from castore.objects import nodes


def lineages(tensors: Sequence[tuple[int, nodes.Path]]) -> list[nodes.Path]:
    """The names of a commit's tensors, given how many parts of each path name a file, and the path.

    Where two files hold tensors of the same name (model.pt, ema.pt), the name of the file stays.
    """
    inside = Counter(path[depth:] for depth, path in tensors)
    return [path[depth:] if inside[path[depth:]] == 1 else path for depth, path in tensors]


def of_tree(root: nodes.Node) -> Iterator[tuple[nodes.Path, nodes.Tensor]]:
    """Every tensor of a tree that is there, by that name. Plain bytes of files are none."""
    everything = list(in_files(root)) or [(0, path, data) for path, data in nodes.tensors(root)]
    found = [one for one in everything if not one[2].dropped]
    names = lineages([(depth, path) for depth, path, _ in found])
    yield from zip(names, (data for _, _, data in found), strict=True)


def in_files(node: nodes.Node, path: nodes.Path = ()) -> Iterator[tuple[int, nodes.Path, nodes.Tensor]]:
    """Every tensor in a file: how many parts of its path name the file, its path, itself."""
    if isinstance(node, nodes.Directory):
        for name, entry in node.entries.items():
            yield from in_files(entry, (*path, name))
    elif isinstance(node, nodes.File):
        for inside, data in node.segments:
            if inside and isinstance(data, nodes.Tensor):
                yield len(path), (*path, *inside), data
