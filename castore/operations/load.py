"""Load: a tree's tensors decoded into fresh or existing memory, and made into the state that was committed."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from castore.errors import StateError
from castore.objects import nodes
from castore.objects.patterns import files
from castore.operations.elsewhere import reading
from castore.operations.fetch import SegmentReader, check_present, check_sizes, fill
from castore.operations.select import choose_files, patterns, pick, select
from castore.quiet import no_collection
from castore.repo import Repository
from castore.state.files.reader import segment_bytes

if TYPE_CHECKING:
    import torch


def load(repo: Repository, rev: str, only: str | Sequence[str] | None, device: torch.device | str | None) -> Any:
    """The state of a commit, every chunk verified; of a commit of files, what each of them holds by name.

    Raises RevisionError, StateError (`only` fits nothing; a file that torch cannot load; DroppedError), CorruptError,
    MissingError.
    """
    with no_collection():  # once around all of it: each time that it is switched on again, it goes through everything
        return reading(repo, rev, lambda one, commit_id: load_here(one, commit_id, only, device))


def load_here(
    repo: Repository, commit_id: str, only: str | Sequence[str] | None, device: torch.device | str | None
) -> Any:
    """The same, of this very store: copies in second directories don't count. Raises as `load`, and DroppedError."""
    root = repo.tree(repo.commit(commit_id))
    if not isinstance(root, nodes.Directory):
        return _state(repo, select(root, patterns(only)), device)
    return _files(repo, root, patterns(only), device)


def load_into(repo: Repository, rev: str, state: Any) -> None:
    """Load a commit into an existing state, in place. Raises StateError, with nothing written, if it does not fit."""

    def work(repo: Repository, commit_id: str) -> None:
        root = repo.tree(repo.commit(commit_id))
        if isinstance(root, nodes.Directory):
            raise StateError(f"{rev} is a commit of files; load it and copy what you need, or check it out")
        restore(repo, root, state)

    reading(repo, rev, work)


def restore(repo: Repository, root: nodes.Node, state: Any, strict: bool = True) -> list[str]:
    """Load a tree into an existing state, in place; returns what does not fit and was left as it is, a line each.

    Raises StateError, with nothing written, where `strict` and something does not fit; CorruptError.
    """
    from castore.state.live import fill_in_place

    check_sizes(root, repo.hash.size)
    target = fill_in_place(root, state, strict)
    sinks = target.sinks()
    fill(repo, sinks, _paths(root, sinks))
    target.finish()
    return target.left


def _state(repo: Repository, root: nodes.Node, device: torch.device | str | None) -> Any:
    from castore.state.live import Builder

    check_sizes(root, repo.hash.size)
    builder = Builder(root, device)
    sinks = builder.sinks()
    fill(repo, sinks, _paths(root, sinks))
    return builder.build()


def _paths(root: nodes.Node, sinks: Sequence[tuple[nodes.Tensor, memoryview]]) -> list[nodes.Path]:
    by_entry = {id(entry): path for path, entry in nodes.tensors(root)}
    return [by_entry.get(id(entry), ()) for entry, _ in sinks]


def _files(
    repo: Repository, root: nodes.Directory, only: tuple[str, ...] | None, device: torch.device | str | None
) -> Any:
    """For a commit of one file its state; for several a dict of what each chosen one holds, by relative name."""
    found = dict(walk_files(root))
    chosen = choose_files(found, only)
    for name in chosen:
        check_present(found[name], (name,))
    loaded = {name: load_file(repo, found[name], inside, device) for name, inside in chosen.items()}
    return next(iter(loaded.values())) if len(found) == 1 else loaded


def load_file(repo: Repository, node: nodes.File, only: Sequence[str] | None, device: torch.device | str | None) -> Any:
    """What one file holds: the state of a .pt or .safetensors (the part that `only` selects), else its bytes."""
    reader = FileReader(repo)
    if node.format == "plain":
        return b"".join(reader.read(entry, 0, segment_bytes(entry)) for _, entry in node.segments)
    from castore.state.files.reader import SegmentFile, load_pt, load_safetensors

    if node.format == "safetensors":
        state: Any = load_safetensors(node, reader.read)
    else:
        state = load_pt(SegmentFile(node, reader.read))
    state = state if only is None else pick(state, only)
    return state if device is None else _moved(state, device)


def _moved(state: Any, device: torch.device | str) -> Any:
    """A loaded state with its tensors on a device, through the same nodes as any other state."""
    from castore.state.live import Builder, flatten

    flat = flatten(state)
    builder = Builder(flat.root, device)
    for source, (_, memory) in zip(flat.sources, builder.sinks(), strict=True):
        memory[:] = source.span(0, source.numel)
    return builder.build()


def walk_files(root: nodes.Directory) -> list[tuple[str, nodes.File]]:
    """Every file below a directory, by its path with slashes."""
    return list(files(root))


class FileReader:
    """Random access to the segments of one file."""

    def __init__(self, repo: Repository) -> None:
        self._repo = repo
        self._readers: dict[int, SegmentReader] = {}

    def read(self, entry: nodes.Tensor | nodes.Value, offset: int, length: int) -> bytes:
        """`length` bytes of a segment from `offset`."""
        if isinstance(entry, nodes.Value):
            return entry.value[offset : offset + length] if isinstance(entry.value, bytes) else b""
        reader = self._readers.get(id(entry))
        if reader is None:
            reader = self._readers[id(entry)] = SegmentReader(self._repo, entry)
        return reader.read(offset, length)
