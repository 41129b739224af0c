"""Real commits, read back by a program that knows nothing but docs/format.md."""

from __future__ import annotations

import ast
import hashlib
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import xxhash
from independent_codecs import FormatError
from independent_reader import IndependentReader, Leaf
from safetensors.torch import save_file

import castore
from castore import dtypes
from castore.codecs import choice
from tests.chunks import fixture_v1

READER = [Path(__file__).with_name(f"independent_{name}.py") for name in ("reader", "codecs")]
ALLOWED = {"struct", "sys", "cbor2", "xxhash", "blake3", "zstandard", "lz4", "numpy", "tomllib", "tomli"}
ALLOWED |= {"independent_codecs", "__future__", "collections", "dataclasses", "pathlib", "typing"}


def test_the_reader_is_independent() -> None:
    imported = set()
    for node in (node for path in READER for node in ast.walk(ast.parse(path.read_text("utf-8")))):
        if isinstance(node, ast.Import):
            imported |= {alias.name.split(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            imported.add(str(node.module).split(".")[0])
    assert imported <= ALLOWED


def bytes_of(tensor: torch.Tensor) -> bytes:
    """Elements in C order."""
    whole = tensor.detach().resolve_conj().resolve_neg().contiguous()
    return whole.view(-1).view(torch.uint8).numpy().tobytes() if whole.numel() else b""


def flat(state: Any, path: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], torch.Tensor | np.ndarray]]:
    """Every tensor and array of a state, in its order."""
    if isinstance(state, torch.Tensor | np.ndarray):
        yield path, state
    elif isinstance(state, dict):
        for key, item in state.items():
            yield from flat(item, (*path, str(key)))
    elif isinstance(state, list | tuple):
        for number, item in enumerate(state):
            yield from flat(item, (*path, str(number)))


def leaves(root: Path, commit_id: str) -> tuple[IndependentReader, list[Leaf]]:
    reader = IndependentReader(root)
    return reader, list(reader.leaves(reader.tree(reader.commit(commit_id)["tree"])))


def assert_reads_as(root: Path, commit_id: str, state: Any) -> IndependentReader:
    """Every tensor of the state is in the commit, bit for bit, and nothing else."""
    reader, found = leaves(root, commit_id)
    expected = list(flat(state))
    assert [leaf.path for leaf in found] == [path for path, _ in expected]
    for leaf, (path, value) in zip(found, expected, strict=True):
        if isinstance(value, torch.Tensor):
            assert (leaf.dtype, leaf.shape) == (str(value.dtype).removeprefix("torch."), tuple(value.shape)), path
            assert leaf.data == bytes_of(value), path
        else:
            little = value.astype(value.dtype.newbyteorder("<")) if value.dtype.byteorder == ">" else value
            assert leaf.data == little.tobytes(), path
    return reader


@pytest.fixture(params=["xxh3-128", "blake3"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[castore.Store]:
    with castore.init(tmp_path / "run", hash=request.param) as opened:
        yield opened


def random_bits(dtype: torch.dtype, shape: tuple[int, ...], seed: int) -> torch.Tensor:
    """Any bit pattern: NaN payloads, infinities, denormals."""
    torch.manual_seed(seed)
    width = torch.empty(0, dtype=dtype).element_size()
    data = torch.randint(0, 256, (*shape, width), dtype=torch.uint8)
    if dtype is torch.bool:
        data &= 1
    return data.view(dtype).reshape(shape)


def test_every_dtype_and_shape(store: castore.Store) -> None:
    names = "uint8 int8 bool uint16 int16 uint32 int32 uint64 int64 float16 bfloat16 float32 float64"
    names += " complex64 complex128 float8_e4m3fn float8_e4m3fnuz float8_e5m2 float8_e5m2fnuz"
    state: dict[str, Any] = {name: random_bits(getattr(torch, name), (3, 1024), 1) for name in names.split()}
    state["patterned"] = {str(dtype): torch.arange(5000).to(dtype) for dtype in (torch.int64, torch.bfloat16)}
    state["zeros"] = torch.zeros(10_000)
    state["scalar"], state["empty"] = torch.tensor(3.5), torch.empty(0, 7)
    state["transposed"], state["conj"] = torch.randn(50, 60).T, torch.randn(10, dtype=torch.complex64).conj()
    state["arrays"] = [np.arange(4, dtype=">f4"), np.array(["a", "bcd"]), np.array(["2025-01-02"], "M8[D]")]
    state["values"] = [None, True, 1 << 100, 0.1, "x", b"y", (1, "z")]
    commit = store.commit(state)
    assert_reads_as(store.path, commit.id, state)


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_deltas_of_deltas(store: castore.Store, dtype: str) -> None:
    """Every step changes all weights a little; deltas stand on deltas where a store asks for it."""
    torch.manual_seed(2)
    large = torch.randn(1 << 18).numpy().tobytes()
    for _ in range(choice.WARM_BYTES // len(large)):  # a process that has met little data does not use residuals yet
        choice.choose(large, dtypes.by_name("float32"), large)
    settings = store.path / "castore.toml"
    text = settings.read_text().replace("max_depth = 1", "max_depth = 4")
    settings.write_text(text.replace("max_depth_half = 1", "max_depth_half = 4"))
    store = castore.open(store.path)
    weights = torch.randn(70_000)
    states = []
    for _ in range(5):
        states.append({"model": {"weight": weights.to(getattr(torch, dtype)), "count": torch.arange(20_000)}})
        weights = weights * (1 + 1e-5 * torch.randn_like(weights))
    commits = [store.commit(state, step=step) for step, state in enumerate(states)]
    for commit, state in zip(commits, states, strict=True):
        reader = assert_reads_as(store.path, commit.id, state)
    assert max(map(reader.depth, reader.records)) >= 2
    assert 6 in {record.codec for record in reader.records.values()}


def test_steps_of_an_optimizer(store: castore.Store) -> None:
    """Weights and second moments are predicted from several chunks."""
    torch.manual_seed(7)
    model = torch.nn.Linear(512, 512)
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3)
    large = torch.randn(1 << 18).numpy().tobytes()
    for _ in range(choice.WARM_BYTES // len(large)):
        choice.choose(large, dtypes.by_name("float32"), large)
    commits = []
    for _ in range(5):
        optimizer.zero_grad()
        model(torch.randn(32, 512)).square().mean().backward()
        optimizer.step()
        state = {"model": model.state_dict(), "optimizer": optimizer.state_dict()}
        commits.append((store.commit(state), [bytes_of(tensor) for _, tensor in flat(state)]))
    for commit, expected in commits:
        reader, found = leaves(store.path, commit.id)
        assert [leaf.data for leaf in found] == expected
    assert {7, 8} <= {record.codec for record in reader.records.values()}


def test_tied_weights_are_one_span_of_memory(store: castore.Store) -> None:
    embedding = torch.nn.Embedding(1000, 64)
    head = torch.nn.Linear(64, 1000, bias=False)
    head.weight = embedding.weight
    window = torch.arange(100.0)
    state = {
        "embedding": dict(embedding.state_dict()),
        "head": dict(head.state_dict()),
        "windows": [window[10:60], window[40:].view(6, 10)[:, ::2], window.view(torch.int32)[5:50]],
        "expanded": torch.randn(8, 1).expand(8, 5),
    }
    reader = assert_reads_as(store.path, store.commit(state).id, state)
    stored = sum(record.raw_length for record in reader.records.values() if record.kind == 1)
    assert stored < embedding.weight.nbytes + 2048


def test_three_thousand_small_tensors_fan_out(store: castore.Store) -> None:
    torch.manual_seed(3)
    state = {"model": {f"layers.{n}.weight": torch.randn(16) for n in range(3000)}, "list": list(torch.randn(500, 4))}
    reader = assert_reads_as(store.path, store.commit(state).id, state)
    assert reader.objects_read > 30
    before = len(reader.records)
    state["model"]["layers.1500.weight"] += 1
    reader = assert_reads_as(store.path, store.commit(state).id, state)
    assert len(reader.records) - before <= 5  # a chunk, a segment, the node that lists it, a commit


def test_a_tensor_of_many_chunks_has_a_chunk_list(store: castore.Store) -> None:
    config = store.path / "castore.toml"
    config.write_text(re.sub(r"chunk_elements = \d+", "chunk_elements = 1024", config.read_text()))
    with castore.open(store.path) as small:
        state = {"w": torch.randn(1024 * 300 + 7)}
        reader = assert_reads_as(store.path, small.commit(state).id, state)
    lists = [one for one, record in reader.records.items() if record.kind == 4]
    assert [len(reader.chunk_ids([one])) for one in lists] == [301]


def test_long_bytes_and_text(store: castore.Store) -> None:
    data, text = bytes(range(256)) * 1000, "snow \u2603 " * 20_000
    commit = store.commit({"data": data, "text": text})
    _, found = leaves(store.path, commit.id)
    assert [(leaf.kind, leaf.data) for leaf in found] == [("bytes", data), ("bytes", text.encode())]


def test_files_come_back_byte_for_byte(store: castore.Store, tmp_path: Path) -> None:
    folder = tmp_path / "checkpoint"
    (folder / "deep").mkdir(parents=True)
    torch.manual_seed(4)
    model = torch.nn.TransformerEncoderLayer(64, 4, 128)
    optimizer = torch.optim.AdamW(model.parameters())
    model(torch.randn(3, 2, 64)).sum().backward()
    optimizer.step()
    torch.save({"model": model.state_dict(), "optimizer": optimizer.state_dict(), "step": 3}, folder / "step3.pt")
    weights = {name: value.to(torch.bfloat16) for name, value in model.state_dict().items()}
    save_file(weights, folder / "model.safetensors")
    (folder / "empty").touch()
    (folder / "deep" / "log.txt").write_bytes(np.random.default_rng(5).integers(0, 64, 3 << 20, np.uint8).tobytes())
    commit = store.commit_files([folder], branch="files")
    reader = IndependentReader(store.path)
    root = reader.tree(reader.commit(commit.id)["tree"])
    found = dict(files(reader, root))
    assert set(found) == {"step3.pt", "model.safetensors", "empty", "deep/log.txt"}
    for name, (node, data) in found.items():
        original = (folder / name).read_bytes()
        assert node[1] == len(data), name
        assert hashlib.sha256(data).digest() == hashlib.sha256(original).digest(), name
    segments = {leaf.path: leaf.data for leaf in reader.leaves(root)}
    assert segments["step3.pt", "model", "linear1.weight"] == bytes_of(model.linear1.weight)
    assert segments["model.safetensors", "linear1.weight"] == bytes_of(weights["linear1.weight"])
    assert [found[name][0][2] for name in ("step3.pt", "model.safetensors", "empty")] == ["pt", "safetensors", "plain"]
    state_commit = store.commit({"model": dict(model.state_dict())}, branch="files")
    assert state_commit.stats.total.new_raw_bytes == 0  # the same chunks, whether from a file or from memory
    assert_reads_as(store.path, state_commit.id, {"model": dict(model.state_dict())})


def files(reader: IndependentReader, node: list[Any], above: str = "") -> Iterator[tuple[str, tuple[list[Any], bytes]]]:
    """Every file of a directory node: its path, its node and its bytes."""
    flat_items = reader.items(node[-1])
    for name, entry in zip(flat_items[::2], flat_items[1::2], strict=True):
        if entry[0] == 9:
            yield from files(reader, entry, f"{above}{name}/")
        else:
            yield above + name, (entry, b"".join(map(reader.tensor, reader.items(entry[-1])[1::2])))


def test_history_reads_from_refs_and_logs(store: castore.Store) -> None:
    first = store.commit({"a": torch.zeros(3)}, message="first", metrics={"loss": float("nan")}, meta={"k": "v"})
    second = store.commit({"a": torch.ones(3)}, message="second", step=12, tier="gold")
    store.tag("v1", "main~1")
    reader = IndependentReader(store.path)
    assert reader.ref("HEAD") == reader.ref("refs/heads/main") == second.id
    assert reader.ref("refs/tags/v1") == first.id
    newest = reader.commit(second.id)
    assert newest["parents"] == [bytes.fromhex(first.id)]
    assert (newest["message"], newest["step"], newest["tier"]) == ("second", 12, "gold")
    assert newest["time"][0] == round(second.time.timestamp() * 1_000_000)
    assert np.isnan(np.frombuffer(reader.commit(first.id)["metrics"]["loss"], "<f8")[0])
    assert reader.commit(first.id)["meta"] == {"k": "v"}
    assert reader.provenance(first.id) == reader.provenance(second.id) == store.provenance(first.id).sections
    for name in ("logs/HEAD", "logs/refs/heads/main"):
        checked = [line.split(" ", 1) for line in (store.path / name).read_text("utf-8").splitlines()]
        assert [check for check, _ in checked] == [xxhash.xxh3_64_hexdigest(line.encode()) for _, line in checked]
        lines = [line for _, line in checked]
        assert [line.split(" ")[:2] for line in lines] == [["0" * len(first.id), first.id], [first.id, second.id]]
        assert [line.split("\t")[1] for line in lines] == ["commit: first", "commit: step 12: second"]


def test_what_gc_left_reads_back(store: castore.Store) -> None:
    """Packs that gc has rewritten, and dead records whose bases are gone."""
    torch.manual_seed(6)
    kept = torch.randn(70_000)
    states = [{"w": kept}, {"w": kept * (1 + 1e-6 * torch.randn_like(kept)), "more": torch.randn(50_000)}]
    store.commit({"w": torch.randn(70_000)}, branch="gone")
    commits = [store.commit(state) for state in states]
    store.branch("gone-too", "main")
    store.commit({"w": kept * (1 + 1e-6 * torch.randn_like(kept))}, branch="gone-too")
    for name in ("gone", "gone-too"):
        store.delete_branch(name, force=True)
    removed = store.gc().removed_chunks
    assert removed
    for commit, state in zip(commits, states, strict=True):
        assert_reads_as(store.path, commit.id, state)


def test_packs_of_version_1_read_back_beside_those_of_version_2(tmp_path: Path) -> None:
    root = fixture_v1.copy_of_the_store(tmp_path / ".castore")
    state_of, kept = fixture_v1.state, {"kept": fixture_v1.KEPT}
    reader = IndependentReader(root)
    assert {len(record.bases) for record in reader.records.values()} == {0, 1}
    assert max(map(reader.depth, reader.records)) == 2
    assert_reads_as(root, reader.ref("refs/heads/main"), state_of(2))
    assert_reads_as(root, reader.ref("refs/tags/first"), state_of(0))
    assert_reads_as(root, reader.ref("refs/heads/gone"), {"noise": fixture_v1.noise(), **kept})
    with castore.open(root) as store:
        store.delete_branch("gone", force=True)
        assert store.gc().rewritten_packs == 1
        newest = store.commit(state_of(3))
        assert newest.stats.total.delta_bytes
    assert_reads_as(root, newest.id, state_of(3))
    assert_reads_as(root, reader.ref("refs/heads/kept"), kept)
    assert {path.read_bytes()[8] for path in root.glob("packs/*/*.pack")} == {1, 2}


def test_a_flipped_bit_is_found(store: castore.Store) -> None:
    commit = store.commit({"w": torch.randn(1000)})
    (path,) = store.path.glob("packs/*/*.pack")
    data = bytearray(path.read_bytes())
    data[16 + 4 + len(commit.id) // 2 + 29 + 100] ^= 1
    path.chmod(0o600)
    path.write_bytes(data)
    with pytest.raises(FormatError):
        leaves(store.path, commit.id)
