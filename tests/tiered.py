"""Stores with tiers, and directories for their copies."""

from __future__ import annotations

from pathlib import Path

import castore
from castore.store import Store


def tiered(path: Path, tables: str) -> Store:
    """A store, new if need be, whose castore.toml has these tables beside what it says by itself."""
    castore.open(path, create=True).close()
    file = path / ".castore" / "castore.toml"
    file.write_text(file.read_text().split("\n[tiers")[0] + "\n" + tables)
    return castore.open(path)
