"""Payloads of every codec, beside memory that nobody may touch; what is made of them is `tests/codecs/hostile.py`'s."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from random import Random

import numpy as np

from castore import codecs
from castore.dtypes import BY_NAME
from castore.kernels import scratch
from tests.codecs.guarded import GuardedScratch
from tests.codecs.hostile import decode_guarded
from tests.fuzz.target import MIB, Target


@dataclass(frozen=True)
class PayloadTarget:
    """An input is a dtype, a side of the guarded memory, and the seed of a payload."""

    codec_id: int
    growth_bytes: int = 192 * MIB
    mapped_bytes: int = 0

    def seeds(self) -> Sequence[bytes]:
        return [
            bytes([number, seed % 2]) + seed.to_bytes(8, "little") for number in self._dtypes() for seed in range(8)
        ]

    def _dtypes(self) -> list[int]:
        """Their numbers; predictions are of two alone."""
        wanted = _PREDICTED if self.codec_id == codecs.PREDICTED else BY_NAME
        return [number for number, name in enumerate(BY_NAME) if name in wanted]

    def mutated(self, data: bytes, rng: Random) -> bytes:
        number = rng.choice(self._dtypes()) if rng.random() < 0.95 else rng.randrange(len(BY_NAME))
        return bytes([number, rng.randrange(2)]) + rng.randbytes(8)

    def run(self, data: bytes) -> bool:
        dtype, at_end = list(BY_NAME.values())[data[0] % len(BY_NAME)], bool(data[1])
        scratch.array = _SCRATCH[at_end]  # type: ignore[assignment]
        rng = np.random.default_rng(int.from_bytes(data[2:], "little"))
        return decode_guarded(self.codec_id, dtype, rng, at_end) is not None


_PREDICTED = ("float32", "bfloat16")
_SCRATCH = [GuardedScratch(False), GuardedScratch(True)]


def target(name: str) -> Target:
    (codec_id,) = (one for one in codecs.known_ids() if f"codec-{codecs.name_of(one)}" == name)
    return PayloadTarget(codec_id)
