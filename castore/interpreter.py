"""Another Python beside this one: the command line that calls a function of castore there."""

from __future__ import annotations

import sys

_START = (
    "import importlib, json, sys; sys.path[:] = json.loads(sys.argv.pop(1)); "
    "module, name = sys.argv.pop(1).split(':'); sys.exit(getattr(importlib.import_module(module), name)(sys.argv[1:]))"
)


def command(function: str, *arguments: str) -> list[str]:
    """function: `module:name`. It gets `arguments` as one list, and what it returns is the exit code.

    Modules are found where this process finds them. Not multiprocessing: its children run the user's main module once
    more.
    """
    import json

    return [sys.executable, "-c", _START, json.dumps(sys.path), function, *arguments]
