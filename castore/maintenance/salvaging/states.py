"""What is left of each commit's state, and what is told of the rest: as of a state that retention took a part of."""

from __future__ import annotations

from collections.abc import Collection, Iterable
from dataclasses import dataclass
from datetime import datetime

from castore.errors import CorruptError, UsageError
from castore.history.drops import Drop
from castore.history.marks import Mark, encode
from castore.objects import nodes
from castore.objects.commit import Commit
from castore.objects.patterns import files, fitting, leaves
from castore.repo import Repository

RULE = "castore salvage, since it could not be read"


@dataclass(frozen=True, slots=True)
class Left:
    """What is left of a state. drop: what is to be noted as dropped, with what was before; None for nothing.

    lost: the paths of the tensors that can't be read, dotted; all: nor can the tree, and nobody knows what was in it.
    """

    drop: Drop | None
    lost: tuple[str, ...] = ()
    all: bool = False


def left_of(repo: Repository, commit: Commit, before: Drop | None, time: datetime) -> Left:
    """Look at the state of a commit in a store whose index has what can be decoded, and nothing else.

    before: what retention had dropped of it.
    """
    if before is not None and not before.components:
        return Left(before)
    try:
        root = repo.tree_reader().read(bytes.fromhex(commit.tree))
    except CorruptError:
        return Left(Drop(commit.id, time, RULE), all=True)
    gone = {id(entry) for entry in fitting(root, before.components)} if before is not None else set()
    kept = [(path, entry) for path, entry in nodes.tensors(root) if id(entry) not in gone]
    lost = [(path, entry) for path, entry in kept if not _is_there(repo, entry)]
    if not lost:
        return Left(before)
    paths = tuple(".".join(path) for path, _ in lost)
    if len(lost) == len(kept):
        return Left(Drop(commit.id, time, RULE), paths)
    patterns = patterns_of(root, {id(entry) for _, entry in lost})
    earlier = before.components if before is not None else ()
    rule = RULE if before is None else f"{before.rule}, {RULE}"
    return Left(Drop(commit.id, time, rule, _that_fit(commit.id, time, rule, (*earlier, *patterns))), paths)


def _is_there(repo: Repository, entry: nodes.Tensor) -> bool:
    size = repo.hash.size
    ids = [entry.chunks[start : start + size] for start in range(0, len(entry.chunks), size)]
    return None not in repo.chunks.access.index.get_many(ids)


def patterns_of(root: nodes.Node, lost: Collection[int]) -> list[str]:
    """Patterns that fit these tensors of a tree, by their `id()`, and no others; of files, whole files."""
    if isinstance(root, nodes.Directory):
        return [
            _exact(name, ())
            for name, file in files(root)
            if any(id(data) in lost for _, data in file.segments if isinstance(data, nodes.Tensor))
        ]
    paths: list[str] = []
    others: list[str] = []
    numbers: set[int] = set()
    for path, node in leaves(root):
        if isinstance(node, nodes.Shared) and id(node.data) in lost:
            numbers.add(node.number)
        is_lost = (
            (isinstance(node, nodes.Tensor) and id(node) in lost)
            or (isinstance(node, nodes.Shared) and node.number in numbers)
            or (isinstance(node, nodes.View) and node.base in numbers)
        )
        (paths if is_lost else others).append(".".join(path))
    return [_exact(path, others) for path in paths]


def _exact(path: str, others: Iterable[str]) -> str:
    """A pattern for a path. As it is it would fit what lies below it too; in brackets, no more than itself."""
    is_special = any(character in path for character in "*?[")
    if not is_special and not any(other.startswith(f"{path.rstrip('.')}.") for other in others):
        return path
    escaped = "".join(f"[{character}]" if character in "*?[" else character for character in path)
    if is_special or not path:
        return escaped
    at = next((number for number in range(len(path) - 1, -1, -1) if path[number].isalnum()), None)
    return path if at is None else f"{path[:at]}[{path[at]}]{path[at + 1 :]}"


def _that_fit(commit: str, time: datetime, rule: str, patterns: tuple[str, ...]) -> tuple[str, ...]:
    """The patterns, or fewer and shorter ones that take more than was lost, if a line has no room for them."""
    while True:
        try:
            encode(Mark(commit, time, (rule, *patterns)))
        except UsageError:
            deepest = max(one.count(".") for one in patterns)
            if not deepest:
                return ()  # names beyond all measure: the whole state
            shorter = (one.rpartition(".")[0] if one.count(".") == deepest else one for one in patterns)
            patterns = tuple(dict.fromkeys(shorter))
        else:
            return patterns
