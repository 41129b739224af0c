"""What of a state a tier lets in."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Protocol, TypeVar

from castore.errors import UsageError
from castore.objects import nodes
from castore.objects.commit import LEFT_OUT
from castore.operations.details import Details
from castore.operations.select import Views
from castore.retention.tiers import Tier

_MOST_NAMED = 20


class _WithEntry(Protocol):
    @property
    def entry(self) -> nodes.Tensor: ...


Of = TypeVar("Of", bound=_WithEntry)


@dataclass(frozen=True, slots=True)
class Content:
    """root: what goes in. left: the paths of what does not, whole components first and only the first few others."""

    root: nodes.Node
    left: tuple[str, ...]

    def sources(self, of: Sequence[Of]) -> list[Of]:
        """Those of the sources of the whole that what goes in has."""
        if not self.left:
            return list(of)
        held = {id(entry) for _, entry in nodes.tensors(self.root)}
        return [source for source in of if id(source.entry) in held]

    def noted(self, details: Details) -> Details:
        """What is said of the commit, with a note of what its tier left out of it."""
        return replace(details, meta={**details.meta, LEFT_OUT: ", ".join(self.left)}) if self.left else details


def content(root: nodes.Node, tiers: Sequence[Tier]) -> Content:
    """The part of a state, or of files, that one of some tiers lets in. No tier: all of it.

    An entry of a list or tuple that is left out is None in its place, so that the others keep theirs. Raises UsageError
    when nothing is left.
    """
    if not all(tier.include or tier.exclude for tier in tiers) or not tiers:
        return Content(root, ())
    found = _Content(root, tiers)
    chosen = found.below(root, ())
    if chosen is None:
        names = " and ".join(tier.name for tier in tiers)
        raise UsageError(f"tier {names} lets in nothing of this: {', '.join(found.left[:_MOST_NAMED])}")
    whole = [path for path in found.left if "." not in path]
    inner = [path for path in found.left if "." in path]
    more = ["..."] if len(inner) > _MOST_NAMED else []
    return Content(chosen, (*whole, *inner[:_MOST_NAMED], *more))


class _Content:
    def __init__(self, root: nodes.Node, tiers: Sequence[Tier]) -> None:
        self._tiers = tiers
        self._of_files = isinstance(root, nodes.Directory)
        self._views = Views(root)
        self.left: list[str] = []

    def part(self, node: nodes.Node, path: nodes.Path) -> nodes.Node | None:
        """What goes in of a node; None for nothing, whose path is then in `left`."""
        before = len(self.left)
        found = self.below(node, path)
        if found is None:
            self.left[before:] = [".".join(path)]
        return found

    def below(self, node: nodes.Node, path: nodes.Path) -> nodes.Node | None:
        """The same, with what lies below it in `left`."""
        if path and all(tier.shuts_out(*self._written(path)) for tier in self._tiers):
            return None
        if isinstance(node, nodes.Map) and node.items:
            items = [(key, self.part(item, (*path, nodes.key_text(key)))) for key, item in node.items]
            kept = [(key, item) for key, item in items if item is not None]
            return nodes.Map(node.kind, kept) if kept else None
        if isinstance(node, nodes.Sequence) and node.items:
            parts = [self.part(item, (*path, str(index))) for index, item in enumerate(node.items)]
            if all(part is None for part in parts):
                return None
            return nodes.Sequence(node.kind, [nodes.Value(None) if part is None else part for part in parts])
        if isinstance(node, nodes.Directory) and node.entries:
            entries = {name: self.part(entry, (*path, name)) for name, entry in node.entries.items()}
            files = {name: e for name, e in entries.items() if isinstance(e, nodes.File | nodes.Directory)}
            return nodes.Directory(files) if files else None
        if not path or any(tier.lets_in(*self._written(path)) for tier in self._tiers):
            return self._views.whole(node)
        return None

    def _written(self, path: nodes.Path) -> tuple[nodes.Path, ...]:
        """A path as patterns may mean it: the names of files have slashes too."""
        return (path, ("/".join(path),)) if self._of_files else (path,)
