"""The text that the models learn: the sources of Python's own standard library, as bytes."""

from __future__ import annotations

import sysconfig
from pathlib import Path

import torch

CORPUS_BYTES = 8 << 20


def library_text(prefix: str = "", limit_bytes: int = CORPUS_BYTES) -> bytes:
    """The first `limit_bytes` of the library's .py files, sorted, whose relative path starts with `prefix`."""
    root = Path(sysconfig.get_path("stdlib"))
    text = bytearray()
    for path in sorted(root.rglob("*.py")):
        relative = path.relative_to(root).as_posix()
        # What pip installed lies below the same root and differs from machine to machine.
        if relative.startswith(("site-packages/", "dist-packages/", "test/")) or not relative.startswith(prefix):
            continue
        text += path.read_bytes()
        if len(text) >= limit_bytes:
            break
    return bytes(text[:limit_bytes])


class Batches:
    """Random windows of a text. tokens: int64, (batch, context); targets: the same, one byte later."""

    def __init__(self, text: bytes, batch: int, context: int, seed: int) -> None:
        self._data = torch.frombuffer(bytearray(text), dtype=torch.uint8)
        self._batch = batch
        self._context = context
        self._generator = torch.Generator().manual_seed(seed)

    def next(self) -> tuple[torch.Tensor, torch.Tensor]:
        last = self._data.numel() - self._context - 1
        starts = torch.randint(last, (self._batch,), generator=self._generator)
        windows = torch.stack([self._data[s : s + self._context + 1] for s in starts.tolist()]).long()
        return windows[:, :-1], windows[:, 1:]

    def state_dict(self) -> dict[str, torch.Tensor]:
        return {"generator": self._generator.get_state()}

    def load_state_dict(self, state: dict[str, torch.Tensor]) -> None:
        self._generator.set_state(state["generator"])
