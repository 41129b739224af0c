"""Readers that are not right, to see that the fuzzer tells."""

from __future__ import annotations

import ctypes
from collections.abc import Sequence
from dataclasses import dataclass
from random import Random

from tests.fuzz.target import MIB, Target


@dataclass(frozen=True)
class Wrong:
    """Fails, in its way, at inputs that begin with `bad`."""

    way: str
    growth_bytes: int = 32 * MIB
    mapped_bytes: int = 0

    def seeds(self) -> Sequence[bytes]:
        return [b"good"]

    def mutated(self, data: bytes, rng: Random) -> bytes:
        return rng.choice((b"good", b"bad")) + rng.randbytes(3)

    def run(self, data: bytes) -> bool:
        if data.startswith(b"bad"):
            if self.way == "raise":
                raise KeyError("what no reader may raise")
            if self.way == "memory":
                bytearray(200 * MIB)[::4096] = b"x" * (200 * MIB // 4096)
            if self.way == "crash":
                ctypes.string_at(0)
            while self.way == "hang":
                pass
        return True


def target(name: str) -> Target:
    return Wrong(name.removeprefix("selftest-"))
