"""The machine and the interpreter, as far as they tell without torch."""

from __future__ import annotations

import getpass
import importlib.metadata
import platform
import sys
from collections.abc import Callable
from pathlib import Path

from castore.chunks.parallel import processors

_PROC = Path("/proc")
_MAX_BYTES = 64 << 10  # read of a file in /proc


def python() -> dict[str, str]:
    """The interpreter."""
    return {
        "version": platform.python_version(),
        "implementation": platform.python_implementation(),
        "compiler": platform.python_compiler(),
        "executable": sys.executable,
    }


def packages() -> dict[str, str]:
    """Every distribution that can be imported, and its version."""
    found: dict[str, str] = {}
    for distribution in importlib.metadata.distributions():
        metadata = distribution.metadata
        name, version = metadata["Name"], metadata["Version"]
        if name and version:
            found.setdefault(name.lower().replace("_", "-"), version)  # the first on the path is the one imported
    return dict(sorted(found.items()))


def system() -> dict[str, str]:
    """Operating system, host and user."""
    return _known(
        {
            "platform": f"{sys.platform}-{platform.machine()}",
            "release": platform.release(),
            "libc": " ".join(platform.libc_ver()).strip(),
            "host": platform.node(),
            "user": _user(),
        }
    )


def hardware() -> dict[str, str]:
    """Processor and memory; GPUs and their driver where the driver tells without being asked for a device."""
    return _known(
        {
            "cpu": _field(_PROC / "cpuinfo", "model name") or platform.processor(),
            "cores": str(processors()),
            "memory": _field(_PROC / "meminfo", "MemTotal"),
            "installed_gpus": "\n".join(_gpus()),
            "driver": _driver(),
        }
    )


def _gpus() -> list[str]:
    files = sorted((_PROC / "driver" / "nvidia" / "gpus").glob("*/information"))
    return [name for file in files if (name := _field(file, "Model"))]


def _driver() -> str:
    # "NVRM version: NVIDIA UNIX x86_64 Kernel Module  550.54.15  Tue Mar  5 ..."
    words = _read(_PROC / "driver" / "nvidia" / "version").split("\n", 1)[0].split()
    return next((word for word in words if word[:1].isdigit() and word.count(".") >= 1), "")


def _field(file: Path, name: str) -> str:
    """The first value of `name: value` in a file of /proc."""
    for line in _read(file).splitlines():
        key, _, value = line.partition(":")
        if key.strip() == name:
            return value.strip()
    return ""


def _read(file: Path) -> str:
    try:
        with file.open("rb") as opened:
            return opened.read(_MAX_BYTES).decode("utf-8", "replace")
    except OSError:  # another system, or one that hides it
        return ""


def _user() -> str:
    try:
        return getpass.getuser()
    except (KeyError, OSError, ImportError):  # a container's user without an entry in passwd
        return ""


def _known(texts: dict[str, str], keep: Callable[[str], bool] = bool) -> dict[str, str]:
    return {name: text for name, text in texts.items() if keep(text)}
