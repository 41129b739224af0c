"""Patterns over the paths of a state: `only=` selects by them, and retention drops components by them."""

from __future__ import annotations

import fnmatch
from collections.abc import Iterator, Sequence

from castore.objects import nodes


def matches(path: nodes.Path, patterns: Sequence[str]) -> bool:
    """Whether a path, joined by dots, is one of the patterns, lies below one, or fits its wildcards."""
    return _matches(".".join(path), patterns)


def _matches(dotted: str, patterns: Sequence[str]) -> bool:
    return any(
        dotted == pattern or dotted.startswith(pattern.rstrip(".") + ".") or fnmatch.fnmatchcase(dotted, pattern)
        for pattern in patterns
    )


def may_touch(component: str, patterns: Sequence[str]) -> bool:
    """Whether something in a component (the first part of paths, or a file) may fit one of the patterns."""
    if _matches(component, patterns) or component == "(others)":
        return True
    return any(
        pattern.startswith(component + ".") or fnmatch.fnmatchcase(component, pattern.split(".", 1)[0])
        for pattern in patterns
    )


def fitting(root: nodes.Node, patterns: Sequence[str]) -> list[nodes.Tensor]:
    """The tensors of a tree that fit patterns.

    In a commit of files a pattern fits whole files, by their names with slashes: half of a file is of no use. Memory
    that several tensors share fits when all of them do.
    """
    if isinstance(root, nodes.Directory):
        return [data for name, file in files(root) if _file_matches(name, patterns) for data in _data(file)]
    looks: dict[int, list[nodes.Path]] = {}
    shared: dict[int, nodes.Tensor] = {}
    found: list[nodes.Tensor] = []
    for path, node in leaves(root):
        if isinstance(node, nodes.Tensor):
            if matches(path, patterns):
                found.append(node)
        elif isinstance(node, nodes.Shared):
            shared[node.number] = node.data
            looks.setdefault(node.number, []).append(path)
        elif isinstance(node, nodes.View):
            looks.setdefault(node.base, []).append(path)
    return found + [data for number, data in shared.items() if all(matches(path, patterns) for path in looks[number])]


def _file_matches(name: str, patterns: Sequence[str]) -> bool:
    return _matches(name, patterns) or any(name.startswith(pattern.rstrip("/") + "/") for pattern in patterns)


def _data(file: nodes.File) -> Iterator[nodes.Tensor]:
    return (data for _, data in file.segments if isinstance(data, nodes.Tensor))


def files(root: nodes.Directory, above: str = "") -> Iterator[tuple[str, nodes.File]]:
    """Every file below a directory, by its path with slashes."""
    for name, entry in root.entries.items():
        if isinstance(entry, nodes.File):
            yield above + name, entry
        else:
            yield from files(entry, f"{above}{name}/")


def leaves(node: nodes.Node, path: nodes.Path = ()) -> Iterator[tuple[nodes.Path, nodes.Node]]:
    """Every tensor, view and shared memory of a state, with its path, in the tree's order."""
    if isinstance(node, nodes.Map):
        for key, item in node.items:
            yield from leaves(item, (*path, nodes.key_text(key)))
    elif isinstance(node, nodes.Sequence | nodes.Compound):
        for index, item in enumerate(node.items if isinstance(node, nodes.Sequence) else node.parts):
            yield from leaves(item, (*path, str(index)))
    else:
        yield path, node
