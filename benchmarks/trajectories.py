"""The trajectories that the benchmarks use: trained once, then kept in a cache outside the repository."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import os
import platform
import shutil
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from benchmarks.training.model import Shape
from benchmarks.training.run import Settings, train

KINDS = ("gpt-fp32", "gpt-bf16", "finetune", "lora", "gpt-fp32-steps", "gpt-bf16-steps", "gpt-sgd-steps")
# Where the checkpoints of a -steps kind lie after its first one: pairs 1, 10 and 100 steps apart, several of each.
OFFSETS = (0, 1, 2, 3, 10, 20, 100, 200)
# Settings that came after the first trajectories were trained: no part of a key while they have no effect.
LATER = ("resume", "save_at", "momentum")


@dataclass(frozen=True, slots=True)
class Trajectory:
    """The checkpoints of one run, oldest first. Each file is a plain torch.save of one nested state."""

    kind: str
    files: tuple[Path, ...]

    @property
    def steps(self) -> tuple[int, ...]:
        return tuple(int(path.stem.removeprefix("step-")) for path in self.files)

    @property
    def raw_bytes(self) -> int:
        return sum(path.stat().st_size for path in self.files)

    def load(self, i: int) -> dict[str, Any]:
        state: dict[str, Any] = torch.load(self.files[i], weights_only=True)
        return state


def cache_folder(chosen: Path | None = None) -> Path:
    """`chosen`, else $CASTORE_BENCH_CACHE, else ~/.cache/castore-bench."""
    folder = chosen or Path(os.environ.get("CASTORE_BENCH_CACHE", Path.home() / ".cache" / "castore-bench"))
    folder.mkdir(parents=True, exist_ok=True)
    return folder


def settings_of(kind: str, quick: bool) -> Settings:
    """The settings of a kind. quick: a toy of the same structure, trained in seconds."""
    if kind in ("finetune", "lora"):
        rate = 1e-4 if kind == "finetune" else 1e-3
        settings = Settings(kind=kind, checkpoints=6, parent="gpt-fp32", text="asyncio/", learning_rate=rate)
    elif kind.endswith("-steps"):
        return _settings_of_steps(kind, quick)
    else:
        settings = Settings(kind=kind, checkpoints=8)
    return _quick(settings) if quick else settings


def _settings_of_steps(kind: str, quick: bool) -> Settings:
    """AdamW goes on from the last checkpoint of its parent kind; SGD starts from its weights, with no momentum yet."""
    parent = "gpt-bf16" if kind == "gpt-bf16-steps" else "gpt-fp32"
    settings = Settings(kind=kind, checkpoints=len(OFFSETS), parent=parent, resume=kind != "gpt-sgd-steps")
    if not settings.resume:
        # SGD's rate and decay differ from AdamW's: without an adaptive step, 0.1 would shrink the weights away.
        settings = dataclasses.replace(settings, momentum=0.9, learning_rate=0.05, weight_decay=1e-4, warmup=10)
    if quick:
        settings = _quick(settings, checkpoints=len(OFFSETS))
    start = max(settings_of(parent, quick).steps_saved) if settings.resume else 50
    return dataclasses.replace(settings, save_at=tuple(start + offset for offset in OFFSETS))


def _quick(settings: Settings, checkpoints: int = 3) -> Settings:
    shape = Shape(layers=2, width=128, heads=2, context=32)
    return dataclasses.replace(settings, shape=shape, every=5, checkpoints=checkpoints, warmup=5, horizon=50)


def trajectory(kind: str, cache: Path, quick: bool = False) -> Trajectory:
    """The trajectory of `kind`, from the cache or else trained now (minutes), its parent kind first."""
    settings = settings_of(kind, quick)
    folder = cache / f"{kind}-{_key(settings, quick)}"
    if not folder.exists():
        parent = trajectory(settings.parent, cache, quick).files[-1] if settings.parent else None
        partial = folder.with_name(f"{folder.name}.partial-{os.getpid()}")
        shutil.rmtree(partial, ignore_errors=True)
        partial.mkdir(parents=True)
        started = time.perf_counter()
        train(settings, partial, parent)
        seconds = time.perf_counter() - started
        (partial / "settings.json").write_text(json.dumps(_facts(settings) | {"seconds": seconds}, indent=2) + "\n")
        # Renamed when complete, so that an interrupted run is never taken for a trajectory.
        partial.rename(folder)
        print(f"{kind}: {settings.checkpoints} checkpoints in {seconds:.0f} s at {folder}", file=sys.stderr)
    return Trajectory(kind, tuple(sorted(folder.glob("step-*.pt"))))


def _facts(settings: Settings) -> dict[str, Any]:
    # The corpus is Python's own library and the arithmetic is torch's: both shape what comes out.
    facts = dataclasses.asdict(settings) | {"python": platform.python_version(), "torch": torch.__version__}
    return {name: value for name, value in facts.items() if value or name not in LATER}


def _key(settings: Settings, quick: bool) -> str:
    facts = _facts(settings)
    if settings.parent:
        facts["parent_key"] = _key(settings_of(settings.parent, quick), quick)
    return hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()[:12]
