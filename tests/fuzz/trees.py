"""Trees of objects in CBOR: what is read of them, listed, made into a state, and marked by garbage collection."""

from __future__ import annotations

import contextlib
import io
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from random import Random
from typing import Any

import cbor2
import torch

from castore import dtypes
from castore.chunks import hashing, pack
from castore.cli.commands.show import entry_record, what
from castore.cli.output import print_json, print_table, printable
from castore.errors import CastoreError, CorruptError, UnsafePathError
from castore.objects import nodes, references
from castore.objects.read_tree import TreeReader
from castore.objects.tree import TreeWriter
from castore.operations.entries import leaves
from castore.operations.load import walk_files
from castore.state.files.names import safe_join
from castore.state.live import Builder
from castore.testing import states
from tests.fuzz.chains import rehashed
from tests.fuzz.mutations import mutated_bytes
from tests.fuzz.objects import assert_harmless, mutated_cbor
from tests.fuzz.target import MIB, Target

_HASH = hashing.by_name("xxh3-128")
_ROOT = Path("/target")
_MOST_BYTES = 8 * MIB  # of tensors that are allocated here: a state may be as large as it says


def _written(root: nodes.Node) -> bytes:
    """A tree as one input: its objects, the root last."""
    objects: dict[bytes, bytes] = {}

    def put(kind: int, data: bytes) -> bytes:
        objects.setdefault(_HASH.digest(data), data)
        return _HASH.digest(data)

    root_id = TreeWriter(put).write(root)
    return cbor2.dumps([*(data for one, data in objects.items() if one != root_id), objects[root_id]])


def _state() -> Any:
    from collections import Counter, OrderedDict, defaultdict, deque

    import numpy as np

    base = torch.arange(12, dtype=torch.float32)
    return {
        "model": OrderedDict(w=torch.nn.Parameter(base[:4].clone()), half=torch.ones(2, 3, dtype=torch.bfloat16)),
        "views": [base.view(3, 4), base[2:5], base.view(3, 4).t()],
        3: (1, -5, 2**70, 1.5, float("nan"), None, True, b"x", "text"),
        "kinds": [Counter("aab"), defaultdict(list, {"a": [1]}), deque([1], 3), {1, "x"}, frozenset({2.5}), range(3)],
        "numpy": [
            np.arange(3, dtype=">f4"),
            np.zeros(2, [("a", "<i4"), ("b", "<U3")]),
            np.float64(2),
            np.array(["ab"]),
        ],
        "sparse": torch.eye(3).to_sparse(),
        "csr": torch.eye(3).to_sparse_csr(),
        "torch": [torch.float32, torch.device("cpu"), torch.Size([2])],
        (1, "k"): torch.empty(0, 5),
    }


def _of_state(state: Any) -> nodes.Node:
    """The tree of a state, with ids of chunks that name nothing."""
    from castore.state.live import flatten

    flat = flatten(state)
    for source in flat.sources:
        source.entry.chunks = _HASH.digest(source.entry.dtype.encode()) if source.nbytes else b""
    return flat.root


def _files() -> nodes.Node:
    data = nodes.Tensor("bytes", "bytes", (3,), chunks=_HASH.digest(b"abc"))
    tensor = nodes.Tensor("tensor", "float32", (2,), chunks=_HASH.digest(b"12345678"))
    file = nodes.File(12, "pt", [(("model", "w"), tensor), ((), nodes.Value(b"abcd"))])
    return nodes.Directory(
        {"a.txt": nodes.File(3, "plain", [((), data)], "why"), "sub": nodes.Directory({"b.pt": file, "CON.x": file})}
    )


@dataclass(frozen=True)
class TreeTarget:
    growth_bytes: int = 256 * MIB
    mapped_bytes: int = 0

    def seeds(self) -> Sequence[bytes]:
        many: Any = {f"layer{number}.weight": number for number in range(3000)}
        return [
            _written(root)
            for root in (
                _of_state(_state()),
                _of_state({"many": many, "list": list(range(5000))}),
                _files(),
                nodes.Value(7),
                nodes.Tensor("tensor", "float32", (1 << 20,), chunks=_HASH.digest(b"x") * 300),
            )
        ]

    def mutated(self, data: bytes, rng: Random) -> bytes:
        objects = _objects(data)
        if not objects or rng.random() < 0.02:
            return mutated_bytes(data, rng)
        at = len(objects) - 1 if rng.random() < 0.5 else rng.randrange(len(objects))
        return cbor2.dumps(rehashed(objects, at, mutated_cbor(objects[at], rng), _HASH))

    def run(self, data: bytes) -> bool:
        objects = _objects(data)
        if not objects:
            return False
        by_id = {_HASH.digest(one): one for one in objects}

        def get(object_id: bytes, kind: int) -> bytes:
            if object_id not in by_id:
                raise CorruptError("no such object")
            return by_id[object_id]

        reader = TreeReader(get, _HASH.size)
        root = reader.read(_HASH.digest(objects[-1]))
        _assert_marked(reader, root, get, _HASH.digest(objects[-1]))
        _list(root)
        if isinstance(root, nodes.Directory):
            for name, _ in walk_files(root):
                with contextlib.suppress(UnsafePathError):
                    path = safe_join(_ROOT, name)
                    assert ".." not in path.parts and path.is_relative_to(_ROOT) and path != _ROOT
            return True
        _build(root)
        return True


def _objects(data: bytes) -> list[bytes]:
    try:
        found = cbor2.loads(data)
    except Exception:  # an input that is no list of objects tells nothing
        return []
    return [one for one in found if type(one) is bytes] if type(found) is list else []


def _assert_marked(reader: TreeReader, root: nodes.Node, get: Any, root_id: bytes) -> None:
    """Garbage collection keeps every object that was read, and every chunk that is needed."""
    seen, lists, chunks = {root_id}, set(), set()
    pending = [references.of_node(get(root_id, pack.TREE), _HASH.size)]
    while pending:
        found = pending.pop()
        chunks.update(found.chunks[at : at + _HASH.size].hex() for at in range(0, len(found.chunks), _HASH.size))
        lists.update(found.lists)
        for one in set(found.segments) - seen:
            seen.add(one)
            pending.append(references.of_segment(get(one, pack.TREE), _HASH.size))
    for one in lists:
        data = get(one, pack.CHUNK_LIST)
        chunks.update(data[at : at + _HASH.size].hex() for at in range(0, len(data), _HASH.size))
    assert {one for one, _ in reader.object_ids} <= seen | lists, "gc would take an object that a load reads"
    needed = {
        entry.chunks[at : at + _HASH.size].hex()
        for _, entry in nodes.tensors(root)
        for at in range(0, len(entry.chunks), _HASH.size)
    }
    assert needed <= chunks, "gc would take a chunk that a load reads"


def _list(root: nodes.Node) -> None:
    """As `castore show --tensors` does."""
    if isinstance(root, nodes.Directory):
        return
    found = list(leaves(root))
    with contextlib.redirect_stdout(io.StringIO()) as out:
        print_table(("path", "what", "value"), [(printable(e.path), what(e), printable(e.value)) for e in found])
        print_json([entry_record(entry) for entry in found])
    assert_harmless(out.getvalue())


def _build(root: nodes.Node) -> None:
    sizes = 0
    for _, entry in nodes.tensors(root):
        count = 1
        for one in entry.shape:
            count *= one
        sizes += count * dtypes.by_name(entry.dtype).width
    if sizes > _MOST_BYTES:
        if sizes > 1 << 62:
            with contextlib.suppress(CastoreError):
                Builder(root).sinks()
                raise AssertionError("took a size that no memory has")
        return
    builder = Builder(root)
    for _, memory in builder.sinks():
        if memory:
            memory[:] = bytes(len(memory))
    state = builder.build()
    states.equal_states(state, state)


def target(name: str) -> Target:
    return TreeTarget()
