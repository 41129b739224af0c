"""A run: all that is the same for its thousand commits, gathered once."""

from __future__ import annotations

import functools
import os
import re
import shlex
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from castore._version import __version__
from castore.objects.provenance import Provenance, encode
from castore.state.provenance import machine, numerics
from castore.state.provenance.code import code
from castore.state.provenance.given import Data, data_version, flattened, noted
from castore.state.provenance.secrets import Masker

_MAX_ARGV_CHARS = 4096
_QUOTED = re.compile(r"[\s'\"\\$`;&|<>()]")
Sections = Mapping[str, Mapping[str, str]]


@dataclass(frozen=True, slots=True)
class Recorded:
    """What a commit says of how it was made. data: the object. summary: a few words that lie in the commit itself."""

    provenance: Provenance
    data: bytes
    summary: Mapping[str, str]


class Run:
    """What produces commits: code, command, configuration, seeds, packages, machine, data.

        run = castore.Run(config=vars(args), data="data/manifest.txt", notes="lower-cased, without duplicates")
        ckpt = castore.Checkpointer(store, run=run, model=model, optimizer=optimizer)

    Nearly all of it is gathered here, once (it takes some 0.1 s); flags of torch, which may change, at each commit.
    Secrets in arguments, in variables of the environment and under such names in the configuration are not recorded.
    """

    def __init__(
        self,
        config: object = None,
        *,
        seeds: Mapping[str, int] | None = None,
        data: Data | None = None,
        notes: str | Mapping[str, str] | None = None,
        code_directory: str | Path | None = None,
    ) -> None:
        """config: hyperparameters and settings: a mapping, a dataclass or a namespace, nested as it may be.

        seeds: those of the caller's own; torch's are found. data: a version, or the path of a manifest, which is
        hashed, or a function that gives either. notes: what else counts, such as preprocessing. code_directory: where
        the training code lies; default: where the program does, else the current directory.
        Raises UsageError.
        """
        argv = sys.argv
        masker = Masker(os.environ, argv)
        arguments = " ".join(shlex.quote(one) if _QUOTED.search(one) else one for one in masker.arguments())
        sections: dict[str, Mapping[str, str]] = {
            "code": code(Path(code_directory) if code_directory is not None else None),
            "command": {"argv": arguments[:_MAX_ARGV_CHARS], "directory": str(Path.cwd())},
            "config": {} if config is None else flattened(config),
            "data": {} if data is None else data_version(data),
            "hardware": machine.hardware(),
            "notes": {} if notes is None else noted(notes),
            "packages": {**machine.packages(), "castore": __version__},
            "python": machine.python(),
            "seeds": numerics.seeds() | {str(name): str(seed) for name, seed in (seeds or {}).items()},
            "system": machine.system(),
        }
        self._fixed: Sections = {
            section: {name: masker.text(text) for name, text in texts.items()} for section, texts in sections.items()
        }
        self._last: tuple[Sections, Recorded] | None = None

    def record(self, more: Sections | None = None) -> Recorded:
        """What to say of a commit that is made now. more: sections beside those of the run.

        Raises UsageError when it is too large.
        """
        changing: dict[str, Mapping[str, str]] = {
            "numerics": numerics.numerics(),
            "torch": numerics.build(),
            "distributed": numerics.distributed(),
            "hardware": {**self._fixed["hardware"], **numerics.devices()},
            **(more or {}),
        }
        if self._last is not None and self._last[0] == changing:
            return self._last[1]
        provenance = Provenance({**self._fixed, **changing})
        recorded = Recorded(provenance, encode(provenance), summary(provenance))
        self._last = changing, recorded
        return recorded


def summary(provenance: Provenance) -> dict[str, str]:
    """The few words of a provenance that a commit holds itself, so that `castore show` reads nothing else for them."""
    get = provenance.get
    found = {
        "python": get("python", "version"),
        "platform": get("system", "platform"),
        "host": get("system", "host"),
        "user": get("system", "user"),
        "argv": get("command", "argv"),
        "git": get("code", "commit"),
        "castore": get("packages", "castore"),
        "torch": get("torch", "version") or get("packages", "torch"),
        "numpy": get("packages", "numpy"),
    }
    return {name: text for name, text in found.items() if text}


@functools.lru_cache(maxsize=1)
def _run_of(process: int) -> Run:
    return Run()


def run_of_process() -> Run:
    """The run of commits for which the caller names none: gathered at the first of them."""
    return _run_of(os.getpid())
