"""Finding the tensors in a file, whatever its name is."""

from __future__ import annotations

from pathlib import Path

from castore.state.files.layout import ForeignContent, Layout, plain_layout
from castore.state.files.pt import scan_pt
from castore.state.files.safetensors import looks_like, scan_safetensors
from castore.state.files.source import FileSource
from castore.state.files.zipdir import MAGIC as ZIP_MAGIC

_TORCH_SUFFIXES = frozenset({".pt", ".pth", ".ckpt", ".bin"})
# torch.save before 1.6 starts with its magic number, pickled: 0x1950A86A20F9469CFC6C
_LEGACY_MAGIC = bytes.fromhex("80028a0a6cfc9c46f9206aa85019")
_HEAD_BYTES = 16


def scan(path: Path) -> Layout:
    """How the file is cut into segments. Bad content makes it a plain file with a note, never an error.

    Raises StateError for what is not a regular file or changes meanwhile, StorageError when it can't be read.
    """
    with FileSource(path) as source:
        layout = scan_source(source)
        source.verify_unchanged()
        return layout


def scan_source(source: FileSource) -> Layout:
    """`scan` of a file that is open; the caller verifies that it did not change."""
    head = source.span(0, min(source.size, _HEAD_BYTES))
    suffix = source.path.suffix.lower()
    try:
        if head.startswith(ZIP_MAGIC):
            return scan_pt(source)
        if looks_like(head, source.size):
            return scan_safetensors(source)
    except ForeignContent as why:
        return plain_layout(source.size, _note(str(why), suffix))
    if head.startswith(_LEGACY_MAGIC):
        return plain_layout(source.size, "kept as a plain file: the .pt format from before torch 1.6")
    return plain_layout(source.size, _note(_unlike(head, suffix), suffix))


def _unlike(head: bytes, suffix: str) -> str:
    if not head:
        return "empty"
    return "no safetensors header" if suffix == ".safetensors" else "no zip file"


def _note(why: str, suffix: str) -> str:
    """Said of files with a checkpoint's suffix only: other zips are nobody's surprise."""
    if suffix == ".bin" and why in ("no zip file", "zip without data.pkl", "empty"):
        return ""  # a suffix that all kinds of files have
    if suffix in _TORCH_SUFFIXES or suffix == ".safetensors":
        return f"kept as a plain file: {why}"
    return ""
