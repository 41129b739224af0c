"""No payload makes a decoder crash, hang, fail otherwise than by CorruptError, or touch memory that is not its own.

In processes of their own, which such a decoder would kill.
"""

from __future__ import annotations

import hashlib
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

import castore

ROOT, KERNELS = Path(__file__).parents[2], Path(castore.__file__).parent / "kernels"
CASES = "3000"
TIMEOUT_S = 900


def run(*arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, *arguments],
        cwd=ROOT,
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
        timeout=TIMEOUT_S,
    )


def outcome(*arguments: str, **environment: str) -> str:
    done = run("-m", "tests.codecs.hostile", *arguments, **environment)
    assert done.returncode == 0, f"exit {done.returncode} in {done.stderr[-2000:]}"
    return done.stdout.strip()


TOUCH = """
import sys
from tests.codecs.guarded import Guarded
import ctypes
room = Guarded(100)
data = room.take(100, at_end=sys.argv[1] == "end")
address = ctypes.addressof(ctypes.c_char.from_buffer(data)) + int(sys.argv[2])
print(ctypes.c_ubyte.from_address(address).value)
"""


@pytest.mark.parametrize(("side", "first", "beyond"), [("end", 99, 100), ("start", 0, -1)])
def test_a_byte_beyond_the_guarded_memory_kills(side: str, first: int, beyond: int) -> None:
    assert run("-c", TOUCH, side, str(first)).returncode == 0
    assert run("-c", TOUCH, side, str(beyond)).returncode in (-signal.SIGSEGV, -signal.SIGBUS)


@pytest.mark.parametrize("side", ["end", "start"])
def test_codecs_stay_within_their_memory_whatever_a_payload_holds(side: str) -> None:
    counts = outcome("1", CASES, side).split()
    assert int(counts[counts.index("refused") + 1]) > int(CASES) // 2
    assert int(counts[counts.index("taken") + 1]) > int(CASES) // 6


def test_kernels_with_checked_bounds_and_for_any_processor_do_the_same(pytestconfig: pytest.Config) -> None:
    """Compiled apart, once for each state of their sources: Numba's cache knows nothing of either setting."""
    sources = b"".join(path.read_bytes() for path in sorted(KERNELS.glob("*.py")))
    digest = hashlib.sha256(sources).hexdigest()[:16]
    arguments = ("2", "1000", "end", "float32")
    expected = outcome(*arguments)
    for name, setting in (("bounds-checked", {"NUMBA_BOUNDSCHECK": "1"}), ("generic", {"NUMBA_CPU_NAME": "generic"})):
        cache = pytestconfig.cache.mkdir(f"kernels-{name}-{digest}")
        assert outcome(*arguments, NUMBA_CACHE_DIR=str(cache), **setting) == expected, name
