"""What a stream of tokens means, by the reference of its coder."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from numpy.typing import NDArray

from castore.kernels import rans_reference, tans_reference
from castore.kernels.coder import Coder


def encode(
    coder: Coder, tokens: Sequence[int], contexts: Sequence[int], frequencies: NDArray[Any]
) -> tuple[list[int], bytes, int]:
    """(the decoder's first states, the stream, its bits). A token without a frequency is coded as the last one."""
    one = rans_reference.encode if coder.is_rans else tans_reference.encode
    return one(tokens, contexts, frequencies, 1 << coder.table_bits)


def decode(
    coder: Coder, contexts: Sequence[int], frequencies: NDArray[Any], first: Sequence[int], stream: bytes, length: int
) -> list[int] | None:
    """The tokens of a stream of so many bits; None if it is not one."""
    one = rans_reference.decode if coder.is_rans else tans_reference.decode
    return one(contexts, frequencies, 1 << coder.table_bits, first, stream, length)
