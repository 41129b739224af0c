"""What of torch decides how sums come out: build, devices, flags, seeds, processes. Asked only where torch is loaded.

Nothing here starts CUDA: in a process that has not used a GPU yet, what torch says of GPUs is left out.
"""

from __future__ import annotations

import functools
import os
import sys
from collections.abc import Callable
from typing import Any

# No other variable of the environment is recorded. What each does is in docs/reproducibility.md.
VARIABLES = (
    "PYTHONHASHSEED",
    "CUBLAS_WORKSPACE_CONFIG",
    "NVIDIA_TF32_OVERRIDE",
    "TORCH_ALLOW_TF32_CUBLAS_OVERRIDE",
    "CUDA_LAUNCH_BLOCKING",
    "NCCL_ALGO",
    "NCCL_PROTO",
    "OMP_NUM_THREADS",
    "MKL_NUM_THREADS",
    "OPENBLAS_NUM_THREADS",
    "MKL_CBWR",
    "ATEN_CPU_CAPABILITY",
    "ONEDNN_MAX_CPU_ISA",
)


def numerics() -> dict[str, str]:
    """Flags of determinism and precision, threads, and the variables that set some of them."""
    found = {name: os.environ[name] for name in VARIABLES if name in os.environ}
    torch = sys.modules.get("torch")
    if torch is None:
        return found
    cuda, cudnn = torch.backends.cuda.matmul, torch.backends.cudnn
    flags: dict[str, Callable[[], Any]] = {
        "deterministic_algorithms": torch.are_deterministic_algorithms_enabled,
        "deterministic_warn_only": torch.is_deterministic_algorithms_warn_only_enabled,
        "cudnn.enabled": lambda: cudnn.enabled,
        "cudnn.deterministic": lambda: cudnn.deterministic,
        "cudnn.benchmark": lambda: cudnn.benchmark,
        "cudnn.allow_tf32": lambda: cudnn.allow_tf32,
        "matmul.allow_tf32": lambda: cuda.allow_tf32,
        "matmul.allow_fp16_reduction": lambda: cuda.allow_fp16_reduced_precision_reduction,
        "matmul.allow_bf16_reduction": lambda: cuda.allow_bf16_reduced_precision_reduction,
        "float32_matmul_precision": torch.get_float32_matmul_precision,
        "default_dtype": torch.get_default_dtype,
        "threads": torch.get_num_threads,
        "interop_threads": torch.get_num_interop_threads,
    }
    return found | {name: text for name, flag in flags.items() if (text := _asked(flag)) is not None}


def _asked(flag: Callable[[], Any]) -> str | None:
    try:
        return str(flag())
    except (AttributeError, RuntimeError):  # a torch that lacks it, or whose old and new names of it were both used
        return None


def seeds() -> dict[str, str]:
    """The seeds that torch's generators were given last. Those of Python's and NumPy's can't be asked for."""
    torch = sys.modules.get("torch")
    if torch is None:
        return {}
    found = {"torch": str(torch.initial_seed())}
    if torch.cuda.is_available() and torch.cuda.is_initialized():
        found["torch.cuda"] = str(torch.cuda.initial_seed())
    return found


def build() -> dict[str, str]:
    """torch's version, how it was compiled, its CUDA, and its cuDNN once a GPU was used."""
    torch = sys.modules.get("torch")
    if torch is None:
        return {}
    if not torch.cuda.is_available() or not torch.cuda.is_initialized():
        return dict(_build(torch))
    return {**dict(_build(torch)), "cudnn": str(torch.backends.cudnn.version())}  # which would start CUDA


@functools.cache
def _build(torch: Any) -> tuple[tuple[str, str], ...]:
    found = {
        "version": torch.__version__,
        "git": torch.version.git_version,
        "cuda": torch.version.cuda,
        "hip": torch.version.hip,
        "build": torch.__config__.show().strip(),
        "cpu_capability": torch.backends.cpu.get_cpu_capability(),
    }
    return tuple((name, str(value)) for name, value in found.items() if value is not None)


def devices() -> dict[str, str]:
    """The GPUs of this process, once it has used one."""
    torch = sys.modules.get("torch")
    if torch is None or not torch.cuda.is_available() or not torch.cuda.is_initialized():
        return {}
    return {"gpus": _gpus(torch)}


@functools.cache
def _gpus(torch: Any) -> str:
    return "\n".join(torch.cuda.get_device_name(number) for number in range(torch.cuda.device_count()))


def distributed() -> dict[str, str]:
    """How many processes train together, and by which backend."""
    torch = sys.modules.get("torch")
    if torch is not None and torch.distributed.is_available() and torch.distributed.is_initialized():
        return {
            "world_size": str(torch.distributed.get_world_size()),
            "backend": str(torch.distributed.get_backend()),
        }
    return {"world_size": os.environ.get("WORLD_SIZE", "1")}
