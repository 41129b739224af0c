"""The peers, each in the unit and with the settings that suit it best.

One without a delta of its own is fed the XOR of the two checkpoints, or the difference of the ordered integers where
it takes numbers, and also the newer checkpoint alone; the smallest counts.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

import numpy as np

from benchmarks.codecs import transforms
from benchmarks.codecs.backends import Blosc2, OpenZL, Pcodec, ZipNN, Zstd
from benchmarks.codecs.coder import Peer, Transform, transformed
from benchmarks.codecs.streams import CHUNK, Words
from benchmarks.codecs.with_delta import TensorX, Z4ai

LARGE = 1 << 21  # elements, for peers that cut what they get into blocks themselves


def _alone(new: Words, old: Words) -> Words:
    return new


def _undo_alone(coded: Words, old: Words, out: Words) -> None:
    np.copyto(out, coded)


def _numbers(new: Words, old: Words) -> Words:
    # pcodec reads fp32 as it is; bf16, which it doesn't know, as ordered integers.
    return new if new.itemsize == 4 else transforms.ordered(new)


def _undo_numbers(coded: Words, old: Words, out: Words) -> None:
    if coded.itemsize == 4:
        np.copyto(out, coded)
    else:
        transforms.undo_ordered(coded, out)


XOR = Transform("xor", transforms.xor, transforms.undo_xor)
ALONE = Transform("alone", _alone, _undo_alone)
NUMBERS = Transform("alone", _numbers, _undo_numbers)
DIFFERENCE = Transform("difference", transforms.difference, transforms.undo_difference)
ZIGZAG = Transform("difference", transforms.zigzag, transforms.undo_zigzag)


def _tensorx() -> Peer:
    return Peer("TensorX", "XOR, byte planes, zstd -1, in blocks of 2 MiB", (TensorX(True), TensorX(False)))


def _zipnn() -> Peer:
    what = "2 Mi elements at once, which it cuts into blocks of 256 KiB"
    return Peer("ZipNN", what, transformed(ZipNN(), (XOR, ALONE), LARGE, "own"))


def _z4ai() -> Peer:
    return Peer("z4ai", "a whole stream at once, with its own delta", (Z4ai(True), Z4ai(False)))


def _pcodec() -> Peer:
    coders = transformed(Pcodec(True), (DIFFERENCE,), CHUNK) + transformed(Pcodec(False), (NUMBERS,), CHUNK)
    return Peer("pcodec", "level 8, 256 Ki elements at once", coders)


def _openzl() -> Peer:
    planes = transformed(OpenZL(floats=False), (XOR,), CHUNK, "processes")
    parts = transformed(OpenZL(floats=True), (ALONE,), CHUNK, "processes")
    what = "byte planes (of a delta) or the parts of a float (alone), entropy-coded, 256 Ki elements at once"
    return Peer("OpenZL", what, planes + parts)


def _openzl_differences() -> Peer:
    what = "the same, fed with castore's own zigzag differences, which it does not have: for comparison only"
    return Peer("OpenZL fed", what, transformed(OpenZL(floats=False), (ZIGZAG,), CHUNK, "processes"), reference=True)


def _shuffle() -> Peer:
    what = "shuffle and zstd -1, 2 Mi elements at once in blocks of 1 MiB"
    return Peer("Blosc2 shuffle", what, transformed(Blosc2(bytedelta=False), (XOR, ALONE), LARGE, "own"))


def _bytedelta() -> Peer:
    what = "shuffle, bytedelta and zstd -1, 2 Mi elements at once in blocks of 1 MiB"
    return Peer("Blosc2 bytedelta", what, transformed(Blosc2(bytedelta=True), (XOR, ALONE), LARGE, "own"))


def _zstd() -> Peer:
    return Peer("zstd -3", "256 Ki elements at once", transformed(Zstd(3), (XOR, ALONE), CHUNK))


PEERS: Mapping[str, Callable[[], Peer]] = {  # making one raises ImportError if it isn't installed
    "TensorX": _tensorx,
    "ZipNN": _zipnn,
    "z4ai": _z4ai,
    "pcodec": _pcodec,
    "OpenZL": _openzl,
    "OpenZL fed": _openzl_differences,
    "Blosc2 shuffle": _shuffle,
    "Blosc2 bytedelta": _bytedelta,
    "zstd -3": _zstd,
}
