"""What the exponent coder means, in NumPy and plain Python: slow, and bit for bit the same as `exponent_native`."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from castore.kernels import coder_reference as coders
from castore.kernels import reference
from castore.kernels.coder import Coder
from castore.kernels.delta import Frequencies
from castore.kernels.reference import Transform, Words

_TRANSFORMS = (Transform.PLAIN, Transform.ROTATE)


@dataclass(frozen=True, slots=True)
class Streams:
    """states: the decoder's first. planes: the lowest byte of all words, then the next, without the top one."""

    states: list[int]
    tokens: bytes
    token_bits: int
    planes: bytes


def split(words: Words, shift: int) -> NDArray[np.uint8]:
    """The planes [word bytes, n] of the words rotated left by `shift`, 0 or 1 bits; the last one holds the tokens."""
    planes = np.empty((words.itemsize, words.size), np.uint8)
    reference.split(_TRANSFORMS[shift], words, None, planes)
    return planes


def encode(words: Words, shift: int, frequencies: Frequencies, coder: Coder) -> Streams:
    """Code `words` [n]; frequencies [1, m] have every top byte that occurs."""
    planes = split(words, shift)
    states, stream, length = coders.encode(coder, planes[-1].tolist(), [0] * words.size, frequencies)
    return Streams(states, stream, length, planes[:-1].tobytes())


def decode(
    frequencies: Frequencies, shift: int, coder: Coder, streams: Streams, word: np.dtype[Any], count: int
) -> Words | None:
    """The words [count]; None if the streams are damaged."""
    found = coders.decode(coder, [0] * count, frequencies, streams.states, streams.tokens, streams.token_bits)
    if found is None:
        return None
    planes = np.frombuffer(streams.planes, np.uint8).reshape(-1, count)
    words = np.empty(count, word)
    reference.join(_TRANSFORMS[shift], [*planes, np.array(found, np.uint8)], words)
    return words
