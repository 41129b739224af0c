"""Single instructions that Numba has no name for: unaligned loads and stores, and the bit fields of BMI2.

Where the processor lacks BMI2, or does it in microcode (the first two Zens), the same is done word by word.
"""

from __future__ import annotations

import platform
from typing import Any

import llvmlite.binding as llvm
import numpy as np
from llvmlite import ir
from numba import config, types
from numba.core import cgutils
from numba.extending import intrinsic

from castore.kernels.compiling import step
from castore.kernels.vectors import called

U = np.uint64

_build: Any = cgutils

_I64 = ir.IntType(64)
_SLOW = ("znver1", "znver2")


def is_told() -> bool:
    """Whether somebody told Numba which processor to compile for."""
    return bool(getattr(config, "CPU_NAME", None) or getattr(config, "CPU_FEATURES", None))


def has_fast_fields() -> bool:
    """Whether kernels are compiled for this very processor, and it has a fast `pext` and `pdep`."""
    if platform.machine().lower() not in ("x86_64", "amd64") or is_told():
        return False
    return bool(llvm.get_host_cpu_features().get("bmi2")) and llvm.get_host_cpu_name() not in _SLOW


def _address(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
    data = context.make_array(signature.args[0])(context, builder, arguments[0]).data
    return builder.bitcast(builder.gep(data, [arguments[1]]), _I64.as_pointer())


def _typed_load(_context: Any, array: Any, offset: Any) -> Any:
    def generate(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        return builder.load(_address(context, builder, sig, args), align=1)

    return types.uint64(array, offset), generate


def _typed_store(_context: Any, array: Any, offset: Any, value: Any) -> Any:
    def generate(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        builder.store(args[2], _address(context, builder, sig, args), align=1)
        return context.get_dummy_value()

    return types.void(array, offset, types.uint64), generate


def _typed_copy(_context: Any, target: Any, at: Any, source: Any, start: Any, count: Any) -> Any:
    def generate(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        to, origin = (
            builder.gep(context.make_array(sig.args[k])(context, builder, args[k]).data, [args[k + 1]]) for k in (0, 2)
        )
        _build.raw_memcpy(builder, to, origin, args[4], 1)
        return context.get_dummy_value()

    return types.void(target, types.uint64, source, types.uint64, types.uint64), generate


def _typed_clear(_context: Any, target: Any, at: Any, count: Any) -> Any:
    def generate(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        data = context.make_array(sig.args[0])(context, builder, args[0]).data
        _build.memset(builder, builder.gep(data, [args[1]]), args[2], 0)
        return context.get_dummy_value()

    return types.void(target, types.uint64, types.uint64), generate


def _typed_ones(_context: Any, value: Any) -> Any:
    return types.uint64(types.uint64), lambda _context, builder, _sig, args: builder.ctpop(args[0])


def _instruction(name: str) -> Any:
    def typed(_context: Any, value: Any, mask: Any) -> Any:
        return types.uint64(types.uint64, types.uint64), lambda _context, b, _sig, args: called(b, name, _I64, args)

    return intrinsic(typed)


load_64: Any = intrinsic(_typed_load)  # (bytes, offset) -> 8 bytes from there, little-endian
store_64: Any = intrinsic(_typed_store)  # (bytes, offset, value)
copy_bytes: Any = intrinsic(_typed_copy)  # (bytes, offset, other bytes, offset there, count)
clear_bytes: Any = intrinsic(_typed_clear)  # (bytes, offset, count)
count_ones: Any = intrinsic(_typed_ones)


@step
def lowest_portable(value: Any, count: Any) -> Any:
    """The lowest `count` bits of `value`; of `count` itself only the lowest byte counts, which is below 64."""
    return value & ((U(1) << (count & U(63))) - U(1))


@step
def gather_portable(value: Any, mask: Any, width: Any) -> Any:
    """The bits of `value` under `mask`, moved together; the mask has the low bits of each word of `width` bits."""
    found = count = U(0)
    one_word = U(0xFFFFFFFFFFFFFFFF) >> U(64 - width)
    for at in range(0, 64, width):
        word_mask = (mask >> U(at)) & one_word
        found |= ((value >> U(at)) & word_mask) << (count & U(63))
        count += count_ones(word_mask)
    return found


@step
def scatter_portable(value: Any, mask: Any, width: Any) -> Any:
    """The inverse of `gather_portable`."""
    found = U(0)
    one_word = U(0xFFFFFFFFFFFFFFFF) >> U(64 - width)
    for at in range(0, 64, width):
        word_mask = (mask >> U(at)) & one_word
        found |= (value & word_mask) << U(at)
        value >>= count_ones(word_mask) & U(63)  # a whole word of 64 bits is the only one
    return found


_bzhi, _pext, _pdep = (_instruction(f"llvm.x86.bmi.{name}.64") for name in ("bzhi", "pext", "pdep"))


@step
def _lowest_x86(value: Any, count: Any) -> Any:
    return _bzhi(value, count)


@step
def _gather_x86(value: Any, mask: Any, width: Any) -> Any:
    return _pext(value, mask)


@step
def _scatter_x86(value: Any, mask: Any, width: Any) -> Any:
    return _pdep(value, mask)


if has_fast_fields():
    lowest, gather, scatter = _lowest_x86, _gather_x86, _scatter_x86
else:
    lowest, gather, scatter = lowest_portable, gather_portable, scatter_portable
