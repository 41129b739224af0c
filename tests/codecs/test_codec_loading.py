"""What codecs load, when they compile, and what they say. In fresh processes: imports and caches are global."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from castore import codecs
from castore.codecs import choice
from castore.errors import CorruptError

HEAVY = "print(sorted({'numba', 'numpy', 'torch', 'llvmlite'} & set(sys.modules)))"
COMMIT = """
import sys
from castore.codecs import choice
from castore.dtypes import by_name
from castore.kernels import compiling
lines = []
compiling.on_compile = lines.append
raw = bytes(range(256)) * (int(sys.argv[1]) // 256)
choice.choose(raw, by_name("float32"), raw[::-1])
print(len(lines), len(set(lines)), "numba" in sys.modules)
"""


STEP = """
import sys
import numpy as np
from castore.codecs import choice
from castore.dtypes import by_name
rng = np.random.default_rng(1)
before = (rng.standard_normal(int(sys.argv[1]) // 4) * 0.02).astype("<f4")
after = before + (1e-4 * rng.standard_normal(before.size)).astype("<f4")
for _ in range(int(sys.argv[2])):
    encoded = choice.choose(after.tobytes(), by_name("float32"), before.tobytes())
print(encoded.codec_id, encoded.is_delta, *("castore.kernels.delta_native" in sys.modules, "numba" in sys.modules))
"""


HASTE = """
import sys
import numpy as np
from castore.codecs import choice
from castore.dtypes import by_name
small, rest = bytes(1 << 20), np.random.default_rng(1).standard_normal(1 << 18).astype("<f4").tobytes()
for _ in range(80):  # MiB of chunks that take less than half of their size, each with so many others
    for raw in (small, *[rest] * int(sys.argv[1])):
        choice.choose(raw, by_name("float32"), None, worthwhile=choice.FAST_WORTHWHILE)
print("numba" in sys.modules)
"""


def run(code: str, cache: Path, *arguments: str) -> str:
    environment = {**os.environ, "NUMBA_CACHE_DIR": str(cache)}
    done = subprocess.run(
        [sys.executable, "-c", code, *arguments], env=environment, capture_output=True, text=True, check=True
    )
    return done.stdout.strip()


def test_plain_codecs_load_neither_numpy_nor_numba(tmp_path: Path) -> None:
    code = """
import sys
from castore import codecs
from castore.codecs import choice
from castore.dtypes import BYTES, by_name
for raw in (b"a" * 100000, b"", b"abc"):
    encoded = choice.choose(raw, BYTES, None)
    codecs.by_id(encoded.codec_id).decode(encoded.payload, BYTES, memoryview(bytearray(len(raw))))
choice.choose(bytes(400), by_name("float32"), bytes(400))
"""
    assert run(code + HEAVY, tmp_path) == "[]"


def test_a_small_tensor_does_not_load_numba(tmp_path: Path) -> None:
    assert run(COMMIT, tmp_path, str(1 << 16)) == "0 0 False"
    assert not list(tmp_path.iterdir())


def test_one_small_delta_does_not_load_numba_and_many_are_coded_as_ordered_deltas(tmp_path: Path) -> None:
    for size in (choice.TOKENS_BYTES - 4, choice.TOKENS_BYTES):
        codec, *rest = run(STEP, tmp_path, str(size), "1").split()
        assert int(codec) in (codecs.XOR_PLANES, codecs.SUB_PLANES)
        assert rest == ["True", "False", "False"]
    assert not list(tmp_path.iterdir())
    many = str(choice.WARM_BYTES // choice.TOKENS_BYTES)
    assert run(STEP, tmp_path, str(choice.TOKENS_BYTES), many) == f"{codecs.ORDERED_DELTA} True True True"


def test_each_compilation_is_announced_once_and_a_cached_kernel_is_not(tmp_path: Path) -> None:
    announced, distinct, _ = run(COMMIT, tmp_path, str(1 << 18)).split()
    assert announced == distinct
    assert int(announced) > 0
    assert run(COMMIT, tmp_path, str(1 << 18)) == "0 0 True"


def test_an_unknown_codec_is_refused_by_id() -> None:
    with pytest.raises(CorruptError, match="unknown codec 200"):
        codecs.by_id(200)


def test_ids_and_names_are_those_of_the_format() -> None:
    assert [(i, codecs.by_id(i).id, codecs.by_id(i).name, codecs.by_id(i).is_delta) for i in codecs.known_ids()] == [
        (0, 0, "raw", False),
        (1, 1, "zstd", False),
        (2, 2, "planes", False),
        (3, 3, "xor-planes", True),
        (4, 4, "sub-planes", True),
        (5, 5, "residual", True),
        (6, 6, "ordered-delta", True),
        (7, 7, "exponents", False),
        (8, 8, "predicted", True),
    ]


@pytest.mark.parametrize(("others", "loaded"), [("0", "True"), ("3", "True"), ("14", "False")])
def test_a_process_in_haste_loads_numba_where_a_tenth_of_all_gets_small(
    tmp_path: Path, others: str, loaded: str
) -> None:
    """Not for a few chunks of each commit, however many commits it makes: it takes memory that was not there before."""
    assert run(HASTE, tmp_path, others) == loaded
