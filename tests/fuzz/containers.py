""".pt and .safetensors files: cut into segments, and loaded from these."""

from __future__ import annotations

import io
import json
import pickletools
import struct
import tempfile
import zipfile
from collections import OrderedDict
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from random import Random
from typing import Any

import torch
from safetensors.torch import load as reference_load
from safetensors.torch import save as save_safetensors

from castore.errors import CastoreError
from castore.objects import nodes
from castore.state.files import scan
from castore.state.files.layout import Layout
from castore.state.files.reader import SegmentFile, load_pt, load_safetensors
from tests.fuzz.mutations import TEXTS, mutated_bytes, mutated_value
from tests.fuzz.target import MIB, Target
from tests.security.pickle_payloads import executing, in_zip, lying
from tests.security.zip_attacks import attacks


def scanned(path: Path, data: bytes) -> Layout:
    """The layout of a file of these bytes, which it must cover exactly."""
    path.write_bytes(data)
    layout = scan(path)
    position = 0
    for segment in layout.segments:
        assert segment.offset == position and segment.nbytes > 0, "segments with a gap, an overlap or nothing"
        position += segment.nbytes
    assert position == layout.size == len(data), "segments that are not the file"
    return layout


def committed(layout: Layout, data: bytes) -> SegmentFile:
    """The file as it is read back from a store."""
    node, read = node_of(layout, data)
    return SegmentFile(node, read)


def node_of(layout: Layout, data: bytes) -> tuple[nodes.File, Any]:
    segments: list[tuple[nodes.Path, nodes.Tensor | nodes.Value]] = []
    starts: dict[int, int] = {}
    for one in layout.segments:
        entry = nodes.Tensor(one.kind, one.dtype.name, one.shape)
        starts[id(entry)] = one.offset
        segments.append((one.path, entry))

    def read(entry: nodes.Tensor | nodes.Value, offset: int, length: int) -> bytes:
        start = starts[id(entry)] + offset
        return data[start : start + length]

    return nodes.File(layout.size, layout.format, segments), read


@dataclass(frozen=True)
class PtTarget:
    root: Path
    growth_bytes: int = 512 * MIB
    mapped_bytes: int = 0

    marker: Path = Path("/tmp/castore-fuzz-executed")  # in inputs that are kept, and so the same everywhere

    def seeds(self) -> Sequence[bytes]:
        weight = torch.arange(12, dtype=torch.float32)
        state = {
            "model": OrderedDict(
                w=torch.nn.Parameter(weight[:4].clone()), v=weight.view(3, 4), t=weight.view(3, 4).t()
            ),
            "optimizer": {"state": {0: {"step": torch.tensor(1.0)}}, "param_groups": [{"lr": 0.1, "params": [0]}]},
            "half": torch.ones(3, dtype=torch.bfloat16),
            "epoch": 3,
        }
        made = []
        for protocol in (2, 4, 5):
            out = io.BytesIO()
            torch.save(state, out, pickle_protocol=protocol)
            made.append(out.getvalue())
        hostile = [in_zip(data) for data in (executing(self.marker) | lying()).values()]
        return [*made * 8, *hostile, *attacks().values()]

    def mutated(self, data: bytes, rng: Random) -> bytes:
        if rng.random() < 0.3:
            return mutated_bytes(data, rng)
        try:
            with zipfile.ZipFile(io.BytesIO(data)) as archive:
                members = {one.filename: archive.read(one) for one in archive.infolist()}
        except Exception:  # an input that is no zip any more
            return mutated_bytes(data, rng)
        for name in list(members):
            if name.endswith("data.pkl"):
                members[name] = mutated_pickle(members[name], rng)
            elif rng.random() < 0.05:
                members[name] = mutated_bytes(members[name], rng)
        out = io.BytesIO()
        with zipfile.ZipFile(out, "w", zipfile.ZIP_STORED if rng.random() < 0.97 else zipfile.ZIP_DEFLATED) as archive:
            for name, content in members.items():
                archive.writestr(name, content)
        return out.getvalue()

    def run(self, data: bytes) -> bool:
        layout = scanned(self.root / "x.pt", data)
        taken = layout.format == "pt"
        if taken:
            with suppress(CastoreError):  # what torch refuses is a container all the same
                load_pt(committed(layout, data))
        assert not self.marker.exists(), "code of the file was executed"
        return taken


def mutated_pickle(data: bytes, rng: Random) -> bytes:
    """Opcodes left out, doubled, put elsewhere and with other operands."""
    try:
        starts = [at for _, _, at in pickletools.genops(data) if at is not None]
    except Exception:  # an input that is no pickle any more
        return mutated_bytes(data, rng)
    parts = [data[start:end] for start, end in zip(starts, [*starts[1:], len(data)], strict=True)]
    for _ in range(rng.choice((1, 1, 2, 4))):
        at, other = rng.randrange(len(parts)), rng.randrange(len(parts))
        how = rng.randrange(6)
        if how == 0:
            parts[at] = b""
        elif how == 1:
            parts.insert(at, parts[other])
        elif how == 2:
            parts[at], parts[other] = parts[other], parts[at]
        elif how == 3:
            parts[at] = parts[other]
        elif how == 4:
            parts[at] = mutated_bytes(parts[at], rng)
        else:
            number = rng.choice((0, 1, -1, 255, 1 << 31, 1 << 62, -(1 << 62)))
            parts[at] = b"\x8a\x09" + number.to_bytes(9, "little", signed=True)
    return b"".join(parts)


@dataclass(frozen=True)
class SafetensorsTarget:
    root: Path
    growth_bytes: int = 256 * MIB
    mapped_bytes: int = 0

    def seeds(self) -> Sequence[bytes]:
        tensors = {
            "w": torch.arange(6.0).view(2, 3),
            "half": torch.ones(5, dtype=torch.bfloat16),
            "none": torch.empty(0),
        }
        return [
            save_safetensors(tensors, {"k": "v"}),
            save_safetensors({}),
            save_safetensors({"b": torch.ones(3).bool()}),
        ]

    def mutated(self, data: bytes, rng: Random) -> bytes:
        if rng.random() < 0.3:
            return mutated_bytes(data, rng)
        (size,) = struct.unpack_from("<Q", data.ljust(8, b"\0"))
        try:
            header: Any = json.loads(data[8 : 8 + size])
        except (ValueError, RecursionError, OverflowError):
            return mutated_bytes(data, rng)
        new = json.dumps(mutated_value(header, rng), default=str).encode()
        if rng.random() < 0.1:
            new = new.replace(b'"w"', json.dumps(rng.choice(TEXTS)).encode())
        body = data[8 + size :] if rng.random() < 0.9 else mutated_bytes(data[8 + size :], rng)
        return struct.pack("<Q", len(new)) + new + body

    def run(self, data: bytes) -> bool:
        layout = scanned(self.root / "x.safetensors", data)
        if layout.format != "safetensors":
            return False
        found = load_safetensors(*node_of(layout, data))
        try:
            expected = reference_load(data)
        except Exception:  # the library may refuse what only its own rules forbid
            return True
        assert found.keys() == expected.keys()
        for name, tensor in expected.items():
            mine = found[name]
            assert mine.dtype == tensor.dtype and mine.shape == tensor.shape, "another tensor than the library's"
            if tensor.numel():
                assert bytes(mine.reshape(-1).view(torch.uint8).numpy()) == bytes(
                    tensor.reshape(-1).view(torch.uint8).numpy()
                )
        return True


def target(name: str) -> Target:
    root = Path(tempfile.mkdtemp(prefix="castore-fuzz-"))
    return PtTarget(root) if name == "pt" else SafetensorsTarget(root)
