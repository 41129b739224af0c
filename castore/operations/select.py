"""Which part of a tree is meant: `only=` patterns over dotted paths."""

from __future__ import annotations

import fnmatch
from collections.abc import Collection, Sequence
from typing import Any

from castore.errors import StateError
from castore.objects import nodes
from castore.objects.patterns import matches


def patterns(only: str | Sequence[str] | None) -> tuple[str, ...] | None:
    """The patterns of an `only` argument; None selects everything."""
    if only is None:
        return None
    return (only,) if isinstance(only, str) else tuple(only)


def select(root: nodes.Node, only: Sequence[str] | None) -> nodes.Node:
    """The tree with nothing but what the patterns select, in the containers that hold it.

    Selected from a list or tuple, what is left closes up. Raises StateError when nothing fits.
    """
    if only is None:
        return root
    pruned = _Selection(only, root).prune(root, ())
    if pruned is None:
        names = ", ".join(_top_names(root)) or "nothing"
        raise StateError(f"nothing in the commit fits {', '.join(map(repr, only))}; at its top are: {names}")
    return pruned


def choose_files(names: Collection[str], only: Sequence[str] | None) -> dict[str, tuple[str, ...] | None]:
    """The files that patterns select, each with the patterns for what is inside it; None: the whole file.

    A pattern names files (`*.pt`, a directory), or goes on behind a file's name (`step3.pt.model`); where there is only
    one file its name may be left out. Raises StateError when no file is selected.
    """
    chosen: dict[str, tuple[str, ...] | None] = {}
    for name in names:
        inside = tuple(pattern[len(name) + 1 :] for pattern in only or () if pattern.startswith(name + "."))
        if only is None or any(fnmatch.fnmatchcase(name, p) or name.startswith(p.rstrip("/") + "/") for p in only):
            chosen[name] = None
        elif inside or len(names) == 1:
            chosen[name] = inside or tuple(only)
    if not chosen:
        files = ", ".join(list(names)[:20])
        raise StateError(f"no file in the commit fits {', '.join(map(repr, only or ()))}; it has: {files}")
    return chosen


def pick(state: Any, only: Sequence[str]) -> Any:
    """The part of a loaded state that patterns select, in the dicts and lists that hold it. Raises StateError."""
    found = _pick(state, only, ())
    if found is _NOTHING:
        raise StateError(f"nothing in the file fits {', '.join(map(repr, only))}")
    return found


_NOTHING = object()


def _pick(state: Any, only: Sequence[str], path: nodes.Path) -> Any:
    if path and matches(path, only):
        return state
    if isinstance(state, dict):
        picked = {key: _pick(item, only, (*path, str(key))) for key, item in state.items()}
        kept = {key: item for key, item in picked.items() if item is not _NOTHING}
        return kept or _NOTHING
    if isinstance(state, list | tuple):
        items = [_pick(item, only, (*path, str(index))) for index, item in enumerate(state)]
        return [item for item in items if item is not _NOTHING] or _NOTHING
    return _NOTHING


def _top_names(root: nodes.Node) -> list[str]:
    if isinstance(root, nodes.Map):
        return [nodes.key_text(key) for key, _ in root.items[:20]]
    if isinstance(root, nodes.Directory):
        return list(root.entries)[:20]
    return []


class _Selection:
    def __init__(self, only: Sequence[str], root: nodes.Node) -> None:
        self._only = only
        self._views = Views(root)

    def prune(self, node: nodes.Node, path: nodes.Path) -> nodes.Node | None:
        if path and matches(path, self._only):
            return self._views.whole(node)
        if isinstance(node, nodes.Map):
            items = [(key, self.prune(item, (*path, nodes.key_text(key)))) for key, item in node.items]
            kept = [(key, item) for key, item in items if item is not None]
            return nodes.Map(node.kind, kept) if kept else None
        if isinstance(node, nodes.Sequence):
            parts = [self.prune(item, (*path, str(index))) for index, item in enumerate(node.items)]
            present = [part for part in parts if part is not None]
            return nodes.Sequence(node.kind, present) if present else None
        if isinstance(node, nodes.Directory):
            entries = {name: self.prune(entry, (*path, name)) for name, entry in node.entries.items()}
            files = {name: e for name, e in entries.items() if isinstance(e, nodes.File | nodes.Directory)}
            return nodes.Directory(files) if files else None
        return None


class Views:
    """Takes nodes out of a tree with the memory that they look into."""

    def __init__(self, root: nodes.Node) -> None:
        self._bases: dict[int, nodes.Tensor] = {}
        self._kept: set[int] = set()
        self._find_bases(root)

    def _find_bases(self, node: nodes.Node) -> None:
        if isinstance(node, nodes.Shared):
            self._bases[node.number] = node.data
        for child in _children(node):
            self._find_bases(child)

    def whole(self, node: nodes.Node) -> nodes.Node:
        """A node that is taken; a view whose base lies outside of what is taken brings the base along."""
        if isinstance(node, nodes.Shared):
            return self._view(node.view)
        if isinstance(node, nodes.View):
            return self._view(node)
        if isinstance(node, nodes.Map):
            return nodes.Map(node.kind, [(key, self.whole(item)) for key, item in node.items])
        if isinstance(node, nodes.Sequence):
            return nodes.Sequence(node.kind, [self.whole(item) for item in node.items])
        if isinstance(node, nodes.Compound):
            return nodes.Compound(node.kind, [self.whole(part) for part in node.parts])
        return node

    def _view(self, view: nodes.View) -> nodes.Node:
        base = self._bases.get(view.base)
        if base is None or view.base in self._kept:
            return view
        self._kept.add(view.base)
        return nodes.Shared(view.base, base, view)


def _children(node: nodes.Node) -> list[nodes.Node]:
    if isinstance(node, nodes.Map):
        return [item for _, item in node.items]
    if isinstance(node, nodes.Sequence):
        return node.items
    if isinstance(node, nodes.Compound):
        return node.parts
    return []
