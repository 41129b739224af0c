"""castore.toml, and all that reads a part of it."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from random import Random

from castore import config, limits
from castore.chunks import hashing
from castore.errors import CastoreError
from castore.history.protection import Protection
from castore.maintenance.upkeep.settings import of_config
from castore.maintenance.upkeep.tasks import EVERY
from castore.monitoring.alerts import read_table
from castore.monitoring.settings import alert_settings
from castore.retention import tiers
from castore.retention.rules import Rules
from castore.training.policy import Policy
from tests.fuzz.mutations import TEXTS, mutated_text
from tests.fuzz.target import MIB, Target

_SEED = b"""format_version = 1
required_features = [ "packs-2" , "provenance" , "retention" , "tiers" ]
uuid = "5e2f1c9a-7a0b-4f53-9d0c-1f7c1f2f6c11"
hash = "xxh3-128"
chunk_elements = 262144
[delta]
max_depth = 1
max_span = 12
[gc]
reflog_expire_days = 30
[repack]
newest = 1
max_depth = 8
[policy]
every_steps = 100
every_seconds = 60.5
[retention]
keep_last = 5
keep_every = 1000
keep_best = "loss:3"
max_bytes = "10GB"
[tiers.recovery]
exclude = [ "analysis" ]
keep_last = 5
[tiers.archive]
every_steps = 1000
max_depth = 8
directory = "/second"
[protect]
branches = [ "main" , "release-*" ]
tags = [ "v*" ]
[signing]
key = "../key"
[maintain]
gc = "1d"
time = "10m"
rate = "50MB"
[scrub]
within = "30d"
[alerts]
command = [ "notify" , "--urgent" ]
webhook = "https://example.org/x"
events = [ "damage" ]
no_commit_for = "2h"
"""
_WORDS = (
    *TEXTS, "[", "]", "[[tiers]]", "[" * 3000, "{a={", "=", "\"", "'''", "#", "true", "nan", "-inf", "1e999",
    "9" * 5000, "0x" + "f" * 5000, "a.b.c.d", "\"\\uD800\"", "[" + "1," * 500 + "]", "blake3", "2", "[a]\n[a]",
)  # fmt: skip


@dataclass(frozen=True)
class ConfigTarget:
    root: Path
    growth_bytes: int = 128 * MIB
    mapped_bytes: int = 0

    def seeds(self) -> Sequence[bytes]:
        config.write(config.Config(uuid="u"), self.root)
        return [_SEED, (self.root / config.NAME).read_bytes()]

    def mutated(self, data: bytes, rng: Random) -> bytes:
        return mutated_text(data, rng, _WORDS)

    def run(self, data: bytes) -> bool:
        (self.root / config.NAME).write_bytes(data)
        found = config.read(self.root)
        assert limits.MIN_CHUNK_ELEMENTS <= found.chunk_elements <= limits.MAX_CHUNK_ELEMENTS
        assert 0 <= found.max_depth < limits.MAX_DEPTH and found.features <= config.KNOWN_FEATURES
        readers: list[Callable[[], object]] = [
            lambda: hashing.by_name(found.hash),
            lambda: Protection.from_mapping(found.protect),
            lambda: tiers.read(found.tiers),
            lambda: Rules.from_mapping(found.retention),
            lambda: Policy.from_mapping(found.policy),
            lambda: of_config(found, EVERY),
            lambda: alert_settings(read_table(self.root)[0]),
        ]
        for reader in readers:
            with suppress(CastoreError):
                reader()
        config.require(self.root)
        config.read(self.root)
        return True


def target(name: str) -> Target:
    return ConfigTarget(Path(tempfile.mkdtemp(prefix="castore-fuzz-")))
