"""Trees: what is written is read, one tree has one encoding, and a small change is a small change in objects too."""

from __future__ import annotations

import hashlib
import struct
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import castore
from castore import dtypes, limits
from castore.chunks import pack
from castore.errors import StateError
from castore.objects import nodes, references
from castore.objects.read_tree import TreeReader
from castore.objects.tree import TreeWriter

SIZE = 16


class Objects:
    """Where a tree's objects go: a dict by content."""

    def __init__(self) -> None:
        self.found: dict[bytes, tuple[int, bytes]] = {}

    def put(self, kind: int, data: bytes) -> bytes:
        object_id = hashlib.blake2b(data, digest_size=SIZE).digest()
        self.found[object_id] = (kind, data)
        return object_id

    def get(self, object_id: bytes, kind: int) -> bytes:
        assert self.found[object_id][0] == kind
        return self.found[object_id][1]

    def read(self, tree_id: bytes) -> nodes.Node:
        return TreeReader(self.get, SIZE).read(tree_id)


def write(node: nodes.Node) -> tuple[Objects, bytes]:
    objects = Objects()
    return objects, TreeWriter(objects.put).write(node)


def bits(node: Any) -> Any:
    """A node such that equality is of bits: NaN equals itself, 0.0 differs from -0.0, 1 from True."""
    if isinstance(node, nodes.Value):
        value = node.value
        return type(value).__name__, struct.pack("<d", value) if isinstance(value, float) else value
    if isinstance(node, list | tuple):
        return [bits(one) for one in node]
    if isinstance(node, dict):
        return [(key, bits(one)) for key, one in node.items()]
    if hasattr(node, "__dataclass_fields__"):
        return type(node).__name__, [bits(getattr(node, name)) for name in node.__dataclass_fields__]
    return type(node).__name__, node


text = st.text(st.characters(exclude_categories=["Cs"]), max_size=5)
any_float = st.binary(min_size=8, max_size=8).map(lambda data: struct.unpack("<d", data)[0])
values = st.one_of(
    st.none(), st.booleans(), st.integers(), st.integers(-(2**200), 2**200), any_float, text, st.binary(max_size=9)
).map(nodes.Value)
dimensions = st.lists(st.integers(0, 2**40), max_size=4).map(tuple)
names = st.sampled_from(sorted(dtypes.BY_NAME))
ids = st.integers(0, 5).map(lambda count: bytes(range(SIZE)) * count)
tensors = st.builds(
    nodes.Tensor,
    text,
    names,
    dimensions,
    st.booleans(),
    text,
    st.one_of(ids, st.integers(300, 400).map(lambda count: bytes(SIZE) * count)),
)
views = st.builds(
    nodes.View, st.integers(0, 9), text, names, dimensions, dimensions, st.integers(0, 2**40), st.booleans()
)
shared = st.builds(nodes.Shared, st.integers(0, 9), tensors, views)
segments = st.one_of(
    st.tuples(st.lists(text, max_size=3).map(tuple), tensors),
    st.tuples(st.just(()), st.binary(min_size=1, max_size=9).map(nodes.Value)),
)
files = st.builds(nodes.File, st.integers(0, 2**50), text, st.lists(segments, max_size=5), text)
directories = st.recursive(
    st.builds(nodes.Directory, st.dictionaries(text, files, max_size=3)),
    lambda inner: st.builds(nodes.Directory, st.dictionaries(text, inner, max_size=3)),
    max_leaves=4,
)


def containers(inner: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    keys = st.one_of(values, st.builds(nodes.Compound, text, st.lists(values, max_size=2)))
    return st.one_of(
        st.builds(nodes.Map, text, st.lists(st.tuples(keys, inner), max_size=4)),
        st.builds(nodes.Sequence, text, st.lists(inner, max_size=4)),
        st.builds(nodes.Compound, text, st.lists(inner, max_size=3)),
    )


def wide(count: int, item: nodes.Node, is_map: bool) -> nodes.Node:
    """A container that needs segments."""
    if is_map:
        return nodes.Map("dict", [(nodes.Value(f"name{number}"), item) for number in range(count)])
    return nodes.Sequence("list", [item] * count)


wides = st.builds(wide, st.integers(100, 900), st.one_of(tensors, shared), st.booleans())
trees = st.one_of(directories, st.recursive(st.one_of(values, tensors, views, shared, wides), containers, max_leaves=5))


@given(trees)
@settings(max_examples=80, suppress_health_check=list(HealthCheck))
def test_a_tree_that_is_written_is_read_and_has_one_encoding(tree: nodes.Node) -> None:
    objects, tree_id = write(tree)
    found = objects.read(tree_id)
    assert bits(found) == bits(tree)
    again, same_id = write(found)
    assert (same_id, again.found) == (tree_id, objects.found)


@given(trees)
@settings(max_examples=40, suppress_health_check=list(HealthCheck))
def test_references_names_what_reading_meets(tree: nodes.Node) -> None:
    objects, tree_id = write(tree)
    reader = TreeReader(objects.get, SIZE)
    chunks = b"".join(entry.chunks for _, entry in nodes.tensors(reader.read(tree_id)))
    met, named = {tree_id}, b""
    pending = [(tree_id, True)]
    while pending:
        object_id, is_root = pending.pop()
        data = objects.get(object_id, pack.TREE)
        found = (references.of_node if is_root else references.of_segment)(data, SIZE)
        met |= {*found.segments, *found.lists}
        named += bytes(found.chunks) + b"".join(objects.get(one, pack.CHUNK_LIST) for one in found.lists)
        pending.extend((one, False) for one in found.segments)
    assert met == {object_id for object_id, _ in reader.object_ids} == set(objects.found)
    assert {named[i : i + SIZE] for i in range(0, len(named), SIZE)} == {
        chunks[i : i + SIZE] for i in range(0, len(chunks), SIZE)
    }


@pytest.mark.parametrize("depth", [limits.MAX_TREE_NESTING, limits.MAX_TREE_NESTING + 1])
@pytest.mark.parametrize("kind", ["map", "sequence", "compound"])
def test_the_deepest_tree_is_read_and_a_deeper_one_refused_before_it_is_written(depth: int, kind: str) -> None:
    node: nodes.Node = nodes.Value(1)
    for _ in range(depth):
        if kind == "map":
            node = nodes.Map("dict", [(nodes.Value("k"), node)])
        else:
            node = nodes.Sequence("list", [node]) if kind == "sequence" else nodes.Compound("complex", [node])
    if depth > limits.MAX_TREE_NESTING:
        with pytest.raises(StateError):
            write(node)
    else:
        objects, tree_id = write(node)
        assert write(objects.read(tree_id))[1] == tree_id


def test_one_changed_tensor_of_many_costs_little_and_the_same_state_again_less(tmp_path: Path) -> None:
    many = {f"layer{number}.weight": torch.full((8,), float(number)) for number in range(20_000)}
    with castore.open(tmp_path, create=True) as store:
        store.commit(many)
        store.commit(many)
        assert store.last_new_bytes < 16 << 10
        for where in ("layer0.weight", "layer9999.weight"):
            many[where] = torch.full((8,), -1.0)
            store.commit(many)
            assert store.last_new_bytes <= (64 << 10) + 32
        many["another"] = torch.zeros(8)
        store.commit({"first": torch.zeros(8), **many})
        assert store.last_new_bytes <= 128 << 10
        loaded = store.load()
        assert list(loaded) == ["first", *many]
        assert torch.equal(loaded["layer9999.weight"], many["layer9999.weight"])
