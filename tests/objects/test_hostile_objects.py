"""Objects from a hostile store: CorruptError, soon, whatever they hold."""

from __future__ import annotations

from typing import Any

import cbor2
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from castore import limits
from castore.errors import CorruptError
from castore.objects import codec, nodes, references
from castore.objects.canonical import loads
from castore.objects.read_tree import TreeReader
from castore.objects.tree import COMPOUND, DIRECTORY, FILE, FLOAT, MAP, SEQUENCE, SHARED, TENSOR, VIEW

SIZE = 16
ID = bytes(range(SIZE))
GOOD_TENSOR = [TENSOR, "tensor", "float32", [2], False, "", ID]
GOOD_VIEW = [VIEW, 0, "tensor", "float32", [2], [1], 0, False]
CYCLE = bytes.fromhex("d81c83 05 616b 82d81d00d81d00".replace(" ", ""))  # a compound that holds itself twice
LAUGHS = b"\x83\x05\x61k\x82" + b"\xd8\x1c" + b"\x80" + b"\xd8\x1d\x00"  # a list, and a reference to it


def read(data: bytes, segments: dict[bytes, bytes] | None = None) -> nodes.Node:
    objects = {b"root": data, **(segments or {})}

    def get(object_id: bytes, kind: int) -> bytes:
        if object_id not in objects:
            raise CorruptError("no such object")
        return objects[object_id]

    return TreeReader(get, SIZE).read(b"root")


MALFORMED: list[Any] = [
    [],
    [0],
    [10],
    [99, 1],
    ["text"],
    [True, 1],
    {"a": 1},
    1.5,
    [FLOAT],
    [FLOAT, 5],
    [FLOAT, b"1234567"],
    [FLOAT, b"12345678", 1],
    GOOD_TENSOR[:-1],
    [*GOOD_TENSOR, 1],
    [TENSOR, 1, "float32", [2], False, "", ID],
    [TENSOR, "tensor", "float99", [2], False, "", ID],
    [TENSOR, "tensor", ["float32"], [2], False, "", ID],
    [TENSOR, "tensor", "float32", [-1], False, "", ID],
    [TENSOR, "tensor", "float32", [1 << 63], False, "", ID],
    [TENSOR, "tensor", "float32", [1.0], False, "", ID],
    [TENSOR, "tensor", "float32", [1] * 65, False, "", ID],
    [TENSOR, "tensor", "float32", 2, False, "", ID],
    [TENSOR, "tensor", "float32", [2], 0, "", ID],
    [TENSOR, "tensor", "float32", [2], False, None, ID],
    [TENSOR, "tensor", "float32", [2], False, "", ID[:-1]],
    [TENSOR, "tensor", "float32", [2], False, "", 7],
    [TENSOR, "tensor", "float32", [2], False, "", []],
    [TENSOR, "tensor", "float32", [2], False, "", [ID, ID]],
    [TENSOR, "tensor", "float32", [2], False, "", [b"short"]],
    [TENSOR, "tensor", "float32", [2], False, "", [5]],
    GOOD_VIEW[:-1],
    [VIEW, -1, "tensor", "float32", [2], [1], 0, False],
    [VIEW, 0, "tensor", "float32", [2], [-1], 0, False],
    [VIEW, 0, "tensor", "float32", [2], "1", 0, False],
    [SHARED, 0, GOOD_TENSOR],
    [SHARED, 0, GOOD_VIEW, GOOD_TENSOR],
    [SHARED, "0", GOOD_TENSOR, GOOD_VIEW],
    [COMPOUND, "complex"],
    [COMPOUND, "complex", 5],
    [COMPOUND, 5, []],
    [MAP, "dict", [1]],
    [MAP, "dict", 5],
    [MAP, 5, []],
    [MAP, "dict", ID[:-1]],
    [MAP, "dict", b"\xff" * SIZE],
    [SEQUENCE, "list", {}],
    [SEQUENCE, None, []],
    [FILE, 5, "pt", "", [[], 5]],
    [FILE, -5, "pt", "", []],
    [FILE, 5, "pt", "", [["a"], GOOD_VIEW]],
    [FILE, 5, "pt", "", ["a", GOOD_TENSOR]],
    [FILE, 5, "pt", "", [[5], GOOD_TENSOR]],
    [DIRECTORY, ["a", 5]],
    [DIRECTORY, ["a", GOOD_TENSOR]],
    [DIRECTORY, [5, [DIRECTORY, []]]],
    [DIRECTORY, 5],
]


@pytest.mark.parametrize("value", MALFORMED, ids=repr)
def test_a_malformed_node_is_refused(value: Any) -> None:
    with pytest.raises(CorruptError) as caught:
        read(cbor2.dumps(value))
    assert "\n" not in str(caught.value)
    with pytest.raises(CorruptError):
        read(cbor2.dumps([MAP, "dict", ["key", value]]))
    assert_only_corrupt(lambda: references.of_node(cbor2.dumps([MAP, "dict", ["key", value]]), SIZE))


def assert_only_corrupt(work: Any) -> None:
    try:
        work()
    except CorruptError as error:
        assert "\n" not in str(error)


@pytest.mark.parametrize(
    "data", [CYCLE, LAUGHS, b"\xd8\x1d\x00", b"\xd8\x23\x64(a+)", b"\xc4\x82\x1a\x3b\x9a\xca\x00\x01"]
)
def test_tags_that_castore_does_not_write_are_refused(data: bytes) -> None:
    with pytest.raises(CorruptError):
        read(data)
    with pytest.raises(CorruptError):
        references.of_node(data, SIZE)


@pytest.mark.parametrize("number", [2**64, -(2**64) - 1, 2**4000, -1, 0])
def test_integers_of_any_size_are_read(number: int) -> None:
    assert read(cbor2.dumps(number)) == nodes.Value(number)


@pytest.mark.parametrize(
    "data",
    [
        *(
            b"",
            b"\x9f\xff",
            b"\x5f\xff",
            b"\x9b\x00\x00\xff\xff\xff\xff\xff\xff",
            b"\x5b\xff\xff\xff\xff\xff\xff\xff\xff",
        ),
        *(
            b"\x81" * 100_000,
            b"\x83\x05\x61k" + b"\x81\x83\x05\x61k" * 5000 + b"\x80",
            b"\xff",
            b"\x62\xff\xff",
            b"\xf7",
        ),
    ],
    ids=lambda data: data[:8].hex(),
)
def test_what_is_no_object_at_all_is_refused(data: bytes) -> None:
    with pytest.raises(CorruptError):
        read(data)
    assert_only_corrupt(lambda: references.of_node(data, SIZE))
    with pytest.raises(CorruptError):
        codec.decode("ab" * SIZE, data)


def test_a_tree_that_nests_too_deep_is_refused() -> None:
    data = cbor2.dumps(1)
    for _ in range(limits.MAX_TREE_NESTING + 2):
        data = b"\x83\x05\x61k\x81" + data
    with pytest.raises(CorruptError, match="nests"):
        read(data)
    with pytest.raises(CorruptError, match="nests"):
        references.of_node(data, SIZE)


def test_segments_that_multiply_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each of a few objects refers twice to the next: reading them all would never end."""
    monkeypatch.setattr(limits, "MAX_TREE_OBJECTS", 5000)
    segments = {}
    for level in range(60):
        following = (level + 1).to_bytes(SIZE, "big")
        segments[level.to_bytes(SIZE, "big")] = cbor2.dumps([[SEQUENCE, "list", following * 2]])
    segments[(60).to_bytes(SIZE, "big")] = cbor2.dumps([])
    with pytest.raises(CorruptError, match="more objects"):
        read(cbor2.dumps([SEQUENCE, "list", bytes(SIZE)]), segments)


junk = st.recursive(
    st.one_of(
        *(st.none(), st.booleans(), st.integers(-2, 12), st.integers(), st.floats(), st.text(max_size=3)),
        *(st.binary(max_size=3), st.just(ID), st.just(GOOD_TENSOR), st.just(GOOD_VIEW)),
    ),
    lambda inner: st.one_of(
        st.lists(inner, max_size=5),
        st.tuples(st.integers(0, 10), st.lists(inner, max_size=7)).map(lambda pair: [pair[0], *pair[1]]),
        st.dictionaries(st.text(max_size=2), inner, max_size=2),
    ),
    max_leaves=12,
)


@given(junk)
@settings(max_examples=300)
def test_anything_at_all_is_read_or_refused(value: Any) -> None:
    data = cbor2.dumps(value)
    assert_only_corrupt(lambda: read(data))
    assert_only_corrupt(lambda: references.of_node(data, SIZE))
    assert_only_corrupt(lambda: references.of_segment(data, SIZE))
    assert_only_corrupt(lambda: codec.decode("ab" * SIZE, data))


@given(st.binary(max_size=60))
@settings(max_examples=300)
def test_any_bytes_at_all_are_read_or_refused(data: bytes) -> None:
    assert_only_corrupt(lambda: read(data))
    assert_only_corrupt(lambda: references.of_segment(data, SIZE))
    assert_only_corrupt(lambda: codec.decode("ab" * SIZE, data))


def good_commit() -> dict[str, Any]:
    return {
        "tree": ID,
        "parents": [ID],
        "message": "m",
        "step": None,
        "metrics": {"loss": bytes(8)},
        "author": "a",
        "time": [0, 60],
        "environment": {},
        "meta": {},
        "tier": None,
        "stats": {"model": [1, 2, 3, 4, 5]},
    }


def test_a_commit_is_read() -> None:
    found = codec.decode("ab" * SIZE, cbor2.dumps(good_commit()))
    assert (found.tree, found.parents, found.time.utcoffset().seconds) == (ID.hex(), (ID.hex(),), 3600)  # type: ignore[union-attr]
    assert found.stats.total.raw_bytes == 1
    assert codec.encode(found) == cbor2.dumps(good_commit(), canonical=True)


@pytest.mark.parametrize(
    ("field", "value"),
    [
        *(("tree", 5), ("tree", 2**40), ("tree", b""), ("tree", ID[:-1]), ("tree", ID.hex()), ("parents", ID)),
        *(("parents", [5]), ("parents", [ID] * 65), ("parents", [b""]), ("parents", None), ("message", 5)),
        *(("message", b"m"), ("step", "1"), ("step", True), ("step", 1.0), ("metrics", []), ("metrics", {"a": 1.5})),
        *(("metrics", {5: bytes(8)}), ("metrics", {"a": bytes(9)}), ("author", None), ("time", 5), ("time", [0])),
        *(("time", [2**80, 0]), ("time", [0, 10_000]), ("time", ["0", 0]), ("time", [0.5, 0]), ("environment", [1])),
        *(
            ("environment", {"a": 1}),
            ("meta", {1: "a"}),
            ("tier", 5),
            ("stats", {"a": [1] * 6}),
            ("stats", {"a": ["x"]}),
        ),
        *(("stats", {"a": 5}), ("stats", [])),
    ],
    ids=repr,
)
def test_a_commit_with_a_field_of_the_wrong_type_is_refused(field: str, value: Any) -> None:
    with pytest.raises(CorruptError):
        codec.decode("ab" * SIZE, cbor2.dumps({**good_commit(), field: value}))
    without = good_commit()
    del without[field]
    with pytest.raises(CorruptError):
        codec.decode("ab" * SIZE, cbor2.dumps(without))


def test_an_object_beyond_the_bound_is_refused_before_it_is_decoded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "MAX_CBOR_BYTES", 10)
    with pytest.raises(CorruptError, match="larger"):
        loads(cbor2.dumps(b"x" * 20), "an object")
