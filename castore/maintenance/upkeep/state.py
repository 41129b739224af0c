"""What upkeep remembers from one run to the next: a small file. Without it everything is due, and no more is lost."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Any

from castore import _fs, limits
from castore.history.ref_files import read_small

NAME = "maintenance"
LOCK = "maintenance.lock"


@dataclass(slots=True)
class ScrubState:
    """Where the scrub is. began: when this round did, in seconds since 1970; None between two rounds.

    pack, offset: where it goes on: the id in hex, "" before the first, and the first byte that was not read.
    damaged: records and packs found damaged in this round; damaged_before: in the last whole one. finished: when that
    was over; None before the first.
    """

    began: float | None = None
    pack: str = ""
    offset: int = 0
    damaged: int = 0
    damaged_before: int = 0
    finished: float | None = None


@dataclass(slots=True)
class State:
    """finished: when each task was last done, by its name, in seconds since 1970."""

    finished: dict[str, float] = field(default_factory=dict)
    scrub: ScrubState = field(default_factory=ScrubState)

    @classmethod
    def read(cls, root: Path) -> State:
        """The state of a store; a new one where there is none, or a damaged one. Raises CorruptError as refs do."""
        import json

        data = read_small(root, NAME, limits.MAX_MAINTENANCE_BYTES)
        if data is None:
            return cls()
        try:
            return cls._of(json.loads(data))
        except (ValueError, TypeError, KeyError, RecursionError):
            return cls()

    @classmethod
    def _of(cls, table: Mapping[str, Any]) -> State:
        scrub = ScrubState(**{one.name: table["scrub"][one.name] for one in fields(ScrubState)})
        bytes.fromhex(scrub.pack)
        times = [*table["finished"].values(), *(one for one in (scrub.began, scrub.finished) if one is not None)]
        counts = (scrub.offset, scrub.damaged, scrub.damaged_before)
        if not all(math.isfinite(one) for one in times) or not all(type(one) is int and one >= 0 for one in counts):
            raise ValueError
        return cls({str(name): float(when) for name, when in table["finished"].items()}, scrub)

    def write(self, root: Path, lock: _fs.Lock) -> None:
        """Replace what is there. lock: the store's, since gc takes a file that is being written for what a crash left.

        Raises StorageError.
        """
        import json

        with lock.held():
            _fs.replace(root / NAME, json.dumps(asdict(self), indent=1).encode() + b"\n")
