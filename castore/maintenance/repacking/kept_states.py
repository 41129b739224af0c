"""The states that repack works for: along which lines they lie, and which chunks of them lie where."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

from castore import dtypes
from castore.dtypes import DType
from castore.errors import DroppedError
from castore.history.drops import Drop
from castore.objects import nodes
from castore.objects.commit import Commit
from castore.objects.lineages import of_tree
from castore.repo import Repository

DepthOf = Callable[[Commit], int]


@dataclass(slots=True)
class Column:
    """One place of one tensor along a line: the chunks that lay there, newest first, each where it was met first.

    states: for each chunk, the position of its state on the line. number: which chunk of the tensor it is. width: words
    in a row of a matrix, 0 for none. together: its rows and columns change together.
    """

    dtype: DType
    number: int
    width: int
    together: bool
    ids: list[bytes]
    states: list[int]


class KeptStates:
    """Lines of commits whose states are there, wholly or in part.

    Each commit is on one line: that of the first tip from which first parents lead to it; branches come first, then
    HEAD, tags and pins, then what only a merge's other parents lead to.
    """

    def __init__(self, repo: Repository) -> None:
        self._repo = repo
        self._drops = repo.drops.read()
        self._size = repo.hash.size
        self._taken: set[bytes] = set()
        self.lines: list[list[str]] = []
        refs = repo.refs
        heads = list(dict.fromkeys(commit_id for _, commit_id in sorted(refs.branches().items())))
        self.heads = heads + [one for one in (refs.head().commit,) if one is not None and one not in heads]
        tips = [*self.heads, *(commit_id for _, commit_id in sorted(refs.tags().items())), *repo.pins.read()]
        seen: set[str] = set()
        while tips:
            others: list[str] = []
            for tip in tips:
                line = []
                for commit in self._first_parents(tip):
                    if commit.id in seen:
                        break
                    seen.add(commit.id)
                    others.extend(commit.parents[1:])
                    if self._has_state(commit.id):
                        line.append(commit.id)
                if line:
                    self.lines.append(line)
            tips = others

    def _first_parents(self, tip: str) -> Iterator[Commit]:
        open_id: str | None = tip
        while open_id is not None:
            commit = self._repo.commit(open_id)
            yield commit
            open_id = commit.parents[0] if commit.parents else None

    def _has_state(self, commit_id: str) -> bool:
        drop: Drop | None = self._drops.get(commit_id)
        return drop is None or bool(drop.components)

    def most_depths(self, depth_of: DepthOf, newest: int, bound: int) -> dict[bytes, int]:
        """How deep each chunk that these states need may lie: as the strictest of them says, `bound` at most.

        newest: so many states of each branch are to load fastest, from chunks that stand alone.
        """
        fast: set[str] = set()
        for head in self.heads:
            left = newest
            for commit in self._first_parents(head):
                if left == 0:
                    break
                if self._has_state(commit.id):
                    fast.add(commit.id)
                    left -= 1
        most: dict[bytes, int] = {}
        self._repo.progress.start("Reading trees", sum(map(len, self.lines)), "commits")
        for line in self.lines:
            for commit_id in line:
                commit = self._repo.commit(commit_id)
                depth = 0 if commit_id in fast else min(depth_of(commit), bound)
                for _, _, chunks in self._tensors(commit):
                    for chunk in chunks:
                        if most.get(chunk, depth + 1) > depth:
                            most[chunk] = depth
                self._repo.progress.advance(1)
        self._repo.progress.finish()
        return most

    def _tensors(self, commit: Commit) -> Iterator[tuple[nodes.Path, nodes.Tensor, list[bytes]]]:
        """Each tensor of a state that is there, by what it is called from commit to commit, with its chunks' ids."""
        try:
            root = self._repo.tree(commit)
        except DroppedError:
            return  # since the lines were read
        names = {id(entry): name for name, entry in of_tree(root)}
        for path, entry in nodes.tensors(root):
            if not entry.dropped:
                ids = entry.chunks
                chunks = [ids[start : start + self._size] for start in range(0, len(ids), self._size)]
                yield names.get(id(entry), path), entry, chunks

    def columns(self, line: Sequence[str]) -> list[Column]:
        """The columns of a line, each chunk in the first of them where it is met, and on the first line."""
        from castore.state.roles import row_width

        found: dict[tuple[nodes.Path, str, tuple[int, ...]], list[Column]] = {}
        last: dict[tuple[nodes.Path, str, tuple[int, ...]], bytes] = {}
        widths = self._widths(self._repo.commit(line[0]))
        for position, commit_id in enumerate(line):
            for name, entry, chunks in self._tensors(self._repo.commit(commit_id)):
                key = (name, entry.dtype, entry.shape)
                if last.get(key) == entry.chunks:
                    continue
                last[key] = entry.chunks
                of_tensor = found.setdefault(key, [])
                dtype, width = dtypes.by_name(entry.dtype), widths.get(name) or row_width(entry.shape)
                numbers = range(len(of_tensor), len(chunks))
                of_tensor += [Column(dtype, number, width, bool(widths.get(name)), [], []) for number in numbers]
                for column, chunk in zip(of_tensor, chunks, strict=False):
                    if chunk not in self._taken:
                        self._taken.add(chunk)
                        column.ids.append(chunk)
                        column.states.append(position)
        return [column for of_tensor in found.values() for column in of_tensor if column.ids]

    def _widths(self, newest: Commit) -> dict[nodes.Path, int]:
        """The widths of rows of the tensors whose rows and columns change together, as the newest state tells."""
        from castore.state.roles import relations

        try:
            root = self._repo.tree(newest)
        except DroppedError:
            return {}
        return {path: found.width for path, found in relations(root, lambda path: None).items() if found.width}
