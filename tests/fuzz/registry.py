"""The targets, by name; each is loaded on its own."""

from __future__ import annotations

from importlib import import_module

from castore import codecs
from tests.fuzz.target import Target

_MODULES = {
    "pack": "packs",
    "footer": "footers",
    "commit": "objects",
    "provenance": "objects",
    "tree": "trees",
    "refs": "small_files",
    "reflog": "small_files",
    "audit": "small_files",
    "marks": "small_files",
    "events": "small_files",
    "config": "settings",
    "pt": "containers",
    "safetensors": "containers",
    "index": "indexes",
    **{f"codec-{codecs.name_of(one)}": "payloads" for one in codecs.known_ids()},
}

NAMES = tuple(_MODULES)


def by_name(name: str) -> Target:
    """A target. Raises KeyError."""
    module = "selftest" if name.startswith("selftest-") else _MODULES[name]
    made: Target = import_module(f"tests.fuzz.{module}").target(name)
    return made
