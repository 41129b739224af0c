"""Little input that asks for much: refused before memory or time is spent, or as large as it says and no larger."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import cbor2
import pytest
import zstandard

import castore
from castore import codecs, dtypes, limits
from castore.chunks import hashing, pack
from castore.codecs.choice import Encoded
from castore.errors import CastoreError, CorruptError, StateError
from castore.history.walk import ancestors, merge_base
from castore.objects import codec, nodes, provenance, references
from castore.objects.commit import Commit
from castore.objects.read_tree import TreeReader
from castore.objects.tree import MAP, SEQUENCE
from castore.store import Store
from tests.security.forged import PLAIN, forge

HASH = hashing.by_name("xxh3-128")
COLLIDING = [number * ((1 << 61) - 1) for number in range(30_000)]  # hash() of each is 0
COMPLAINT = (CorruptError, StateError)


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    with castore.open(tmp_path / "store", create=True) as opened:
        yield opened


def reader(objects: dict[bytes, bytes]) -> TreeReader:
    return TreeReader(lambda object_id, kind: objects[object_id], HASH.size)


def doubling(levels: int) -> tuple[bytes, dict[bytes, bytes]]:
    """A tree of a few objects that is read as 2^levels lists: each holds the one below twice. Its root's id."""
    objects: dict[bytes, bytes] = {}

    def put(value: Any) -> bytes:
        data = cbor2.dumps(value, canonical=True)
        objects[HASH.digest(data)] = data
        return HASH.digest(data)

    below = put([None] * 50)
    for _ in range(levels):
        below = put([[SEQUENCE, "list", below * 2]])
    return put([SEQUENCE, "list", below]), objects


def test_a_tree_that_names_a_part_of_itself_twice_on_each_level_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "MAX_TREE_NODES", 20_000)
    root, objects = doubling(8)
    reader(objects).read(root)
    root, objects = doubling(64)
    with pytest.raises(CorruptError, match="more values"):
        reader(objects).read(root)


def test_garbage_collection_reads_each_part_of_such_a_tree_once(store: Store) -> None:
    root, objects = doubling(64)
    repo = store._repo
    with repo.chunks.session() as session:
        for data in objects.values():
            session.put_object(pack.TREE, data)
        commit = Commit("", root.hex(), (), *_rest())
        commit_id = session.put_object(pack.COMMIT, codec.encode(commit))
        session.seal()
        with repo.lock.held():
            session.publish()
    (store.path / "refs/heads/evil").write_text(f"{commit_id.hex()}\n")
    assert store.gc().removed_chunks == 0
    store.fsck()


def _rest() -> tuple[Any, ...]:
    return ("", None, {}, "ada@host", PLAIN.time, {}, {}, None, PLAIN.stats)


def test_a_state_of_more_values_than_can_be_read_is_not_written(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "MAX_TREE_NODES", 1000)
    store.commit({"few": list(range(900))})
    with pytest.raises(StateError, match="more than 1000 values"):
        store.commit({"many": list(range(1100))})


@pytest.mark.parametrize("twice", [1, 2])
def test_a_tree_that_holds_itself_is_refused(twice: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """No hash allows it but one that somebody has broken, as XXH3 can be."""
    monkeypatch.setattr(limits, "MAX_TREE_OBJECTS", 50_000)
    objects = {b"i" * 16: cbor2.dumps([[SEQUENCE, "list", b"i" * 16 * twice]])}
    objects[b"r" * 16] = cbor2.dumps([SEQUENCE, "list", b"i" * 16])
    with pytest.raises(CorruptError):
        reader(objects).read(b"r" * 16)


def test_a_history_that_leads_back_to_itself_ends() -> None:
    class Circle:
        def commit(self, commit_id: str) -> Commit:
            return Commit(commit_id, "", ("b" if commit_id == "a" else "a", commit_id), *_rest())

    assert {one.id for one in ancestors(["a"], Circle())} <= {"a", "b"}
    merge_base("a", "b", Circle())


@pytest.mark.parametrize(
    "read", [lambda data: codec.decode("00" * 16, data), lambda data: provenance.decode(data, "it")]
)
def test_keys_that_were_chosen_to_collide_are_refused(read: Any) -> None:
    """A dict of n of them takes n * n steps."""
    for keys in (COLLIDING, [str(one) for one in range(3)] + COLLIDING):
        head = b"\xba" + len(keys).to_bytes(4, "big")
        with pytest.raises(CorruptError):
            read(head + b"".join(cbor2.dumps(one) + b"\xa0" for one in keys))


def test_keys_of_a_state_that_were_chosen_to_collide_are_refused(store: Store) -> None:
    items: list[tuple[nodes.Node, nodes.Node]] = [(nodes.Value(one), nodes.Value(None)) for one in COLLIDING]
    for name, root in {
        "dict": nodes.Map("dict", items),
        "set": nodes.Sequence("set", [key for key, _ in items]),
        "tuples": nodes.Map("dict", [(nodes.Compound("tuple", [key]), item) for key, item in items]),
    }.items():
        forge(store, root, branch=name)
        with pytest.raises(CorruptError, match="collide"):
            store.load(name)


@pytest.mark.parametrize(
    "data",
    [
        b"\x9a\x00\x7f\xff\xff" + b"\x80" * 0x7FFFFF,  # eight million empty lists
        b"\x82\x07" + b"\x81" * 1_000_000,
        b"\x5a\xff\xff\xff\xff",
        b"\x9b" + b"\xff" * 8,
        b"\xba\xff\xff\xff\xff",
    ],
    ids=["lists", "nested", "bytes", "array", "map"],
)
def test_objects_that_claim_much_are_refused(data: bytes) -> None:
    for read in (
        lambda: reader({b"r": data}).read(b"r"),
        lambda: codec.decode("00" * 16, data),
        lambda: provenance.decode(data, "it"),
        lambda: references.of_node(data, HASH.size),
    ):
        with pytest.raises(CorruptError):
            read()
    assert MAP  # the type of the node that holds them is of no importance


HUGE = [(1 << 40,), (1 << 61,), (0, 1 << 61, 1 << 61), (1 << 31, 1 << 31), (1 << 20, 1 << 20, 1 << 20)]


@pytest.mark.parametrize("shape", HUGE, ids=str)
@pytest.mark.parametrize("kind", ["tensor", "parameter", "array"])
def test_a_shape_larger_than_its_chunks_is_refused_before_memory_is_taken(
    store: Store, tmp_path: Path, kind: str, shape: tuple[int, ...]
) -> None:
    forge(
        store,
        nodes.Map("dict", [(nodes.Value("x"), nodes.Tensor(kind, "float32", shape, chunks=HASH.digest(b"1234")))]),
        [b"1234"],
    )
    for work in (
        lambda: store.load("evil"),
        lambda: store.checkout("evil", tmp_path / "out.pt"),
        lambda: store.load_into("evil", {"x": 1.0}),
    ):
        with pytest.raises(CastoreError):
            work()
    list(store.entries("evil"))
    store.fsck()


def test_a_tensor_of_one_chunk_many_times_over_asks_for_memory_and_says_when_there_is_none(store: Store) -> None:
    """2 KB that decode to 16 MiB, a million times: a state may be as large as it says."""
    chunk = bytes(limits.MAX_CHUNK_BYTES)
    count = 1 << 22
    forge(store, nodes.Tensor("tensor", "uint8", (count * len(chunk),), chunks=HASH.digest(chunk) * count), [chunk])
    with pytest.raises(StateError, match="no memory"):
        store.load("evil")


WINDOW = """
import resource, sys
from pathlib import Path
from castore.codecs import zstd_frames
from castore.errors import CorruptError
pages = int(Path("/proc/self/statm").read_text().split()[0])
limit = pages * resource.getpagesize() + (300 << 20)
resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
frame, raw = bytes.fromhex(sys.argv[1]), int(sys.argv[2])
for cut in range(len(frame) + 1):
    try:
        assert len(zstd_frames.decompress(frame[:cut], raw)) == raw
    except CorruptError:
        pass
"""


def frame(content: bytes, **parameters: int) -> bytes:
    made = zstandard.ZstdCompressionParameters(format=zstandard.FORMAT_ZSTD1_MAGICLESS, **parameters)
    return zstandard.ZstdCompressor(compression_params=made).compress(content)


@pytest.mark.parametrize(
    ("what", "raw"),
    [
        (frame(bytes(1000), window_log=31, write_content_size=1), 1000),
        (frame(bytes(32 << 20)), 100),
        (frame(bytes(100)), 32 << 20),
        (bytes([0xA0]) + limits.MAX_OBJECT_BYTES.to_bytes(4, "little") + bytes([1, 0, 0]), limits.MAX_OBJECT_BYTES),
        (bytes([0x00, 0xFF, 1, 0, 0]), 1000),  # a window of 2 TB, no content size
        (bytes([0x80, 0xFF]) + (1000).to_bytes(4, "little") + bytes([1, 0, 0]), 1000),
    ],
    ids=["window", "holds more", "holds less", "claims 64 MiB", "no size", "window of 2 TB"],
)
def test_a_frame_takes_no_more_memory_than_the_record_says(what: bytes, raw: int) -> None:
    subprocess.run([sys.executable, "-c", WINDOW, what.hex(), str(raw)], check=True)


def linked(store: Store, links: dict[bytes, bytes | None]) -> None:
    """Records, each a delta to another one or none, in a pack."""
    repo, uint8 = store._repo, dtypes.by_name("uint8")
    with repo.chunks.session() as session:
        for raw, base in links.items():
            if base is None:
                session._add(HASH.digest(raw), (), pack.CHUNK, uint8, len(raw), Encoded(codecs.RAW, raw, False))
                continue
            payload = codecs.by_id(codecs.XOR_PLANES).encode(raw, uint8, base)
            session._add(
                HASH.digest(raw),
                (HASH.digest(base),),
                pack.CHUNK,
                uint8,
                len(raw),
                Encoded(codecs.XOR_PLANES, payload, True),
            )
        session.seal()
        with repo.lock.held():
            session.publish()


def raw(number: int) -> bytes:
    return number.to_bytes(4, "little") * 4


CHAINS: dict[str, dict[bytes, bytes | None]] = {
    "itself": {raw(0): raw(0)},
    "two": {raw(0): raw(1), raw(1): raw(0)},
    "long circle": {raw(number): raw((number + 1) % 50) for number in range(50)},
    "tail into a circle": {raw(0): raw(1), raw(1): raw(2), raw(2): raw(1)},
    "too deep": {raw(number): raw(number + 1) for number in range(limits.MAX_DEPTH + 2)}
    | {raw(limits.MAX_DEPTH + 2): None},
    "very deep": {raw(number): raw(number + 1) for number in range(300)} | {raw(300): None},
    "no base": {raw(0): raw(1)},
}


@pytest.mark.parametrize("rebuilt", [False, True], ids=["index", "rebuilt"])
@pytest.mark.parametrize("name", CHAINS)
def test_bases_that_form_a_circle_or_a_chain_too_long_are_refused(store: Store, name: str, rebuilt: bool) -> None:
    linked(store, CHAINS[name])
    if rebuilt:
        store._repo.chunks.access.rebuild()
    forge(store, nodes.Tensor("tensor", "uint8", (16,), chunks=HASH.digest(raw(0))))
    with pytest.raises(CorruptError):
        store.load("evil")
    assert not store.fsck().ok
    store.gc()


def test_the_deepest_chain_is_read(store: Store) -> None:
    linked(store, {raw(number): raw(number + 1) for number in range(limits.MAX_DEPTH)} | {raw(limits.MAX_DEPTH): None})
    forge(store, nodes.Tensor("tensor", "uint8", (16,), chunks=HASH.digest(raw(0))))
    assert bytes(store.load("evil").numpy()) == raw(0)


def test_an_integer_of_more_digits_than_python_writes_is_shown(store: Store) -> None:
    long = 10**5000
    store.commit({"x": long, "y": [long, -long]})
    assert store.load("main") == {"x": long, "y": [long, -long]}
    assert hex(long) in {entry.value for entry in store.entries("main")}
    forge(store, nodes.Map("dict", [(nodes.Value(long), nodes.Value(1))]))
    assert [entry.path for entry in store.entries("evil")] == [hex(long)]
    assert store.diff("main", "evil").values
