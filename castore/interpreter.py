"""Another Python beside this one: the command line that calls a function of castore there."""

from __future__ import annotations

import sys
from collections.abc import Sequence

_START = (
    "import importlib, json, sys; sys.path[:] = json.loads(sys.argv.pop(1)); "
    "module, name = sys.argv.pop(1).split(':'); sys.exit(getattr(importlib.import_module(module), name)(sys.argv[1:]))"
)


def command(function: str, *arguments: str, path: Sequence[str] | None = None) -> list[str]:
    """function: `module:name`. It gets `arguments` as one list, and what it returns is the exit code.

    path: where modules are found; default: where this process finds them. Not multiprocessing: its children run the
    user's main module once more.
    """
    import json

    return [sys.executable, "-c", _START, json.dumps(sys.path if path is None else list(path)), function, *arguments]
