"""Products of matrices in Numba, of which one side is thin. Matrices are flat arrays, row after row.

Not BLAS: a library that starts threads of its own for each product, in each of our threads, takes twice as long for
all of them as one thread would for each.
"""

from __future__ import annotations

from typing import Any

from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic

from castore.kernels.bits import U
from castore.kernels.compiling import helper, kernel
from castore.kernels.vectors import called

_VECTOR = 16  # numbers
_VECTORS = 4  # that are summed up beside each other
PANEL = _VECTOR * _VECTORS  # columns

_build: Any = cgutils


def _typed_panel(
    _context: Any, left: Any, at: Any, stride: Any, right: Any, start: Any, columns: Any, inner: Any, out: Any, to: Any
) -> Any:
    """out[to ... to + PANEL] = sum over k of left[at + k * stride] * right[start + k * columns ... + PANEL], with the
    sums in registers; multiplied and added in one where the processor can."""
    n = types.intp
    signature = types.void(left, n, n, right, n, n, n, out, n)

    def generate(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        arrays = {k: context.make_array(sig.args[k])(context, builder, args[k]).data for k in (0, 3, 7)}
        number = arrays[0].type.pointee
        vector, width = ir.VectorType(number, _VECTOR), sig.args[0].dtype.bitwidth
        zeros, lanes = ir.Constant(vector, [0.0] * _VECTOR), ir.VectorType(ir.IntType(32), _VECTOR)

        def place(array: int, index: Any, v: int) -> Any:
            index = builder.add(index, ir.Constant(index.type, v * _VECTOR))
            return builder.bitcast(builder.gep(arrays[array], [index]), vector.as_pointer())

        sums = [_build.alloca_once(builder, vector) for _ in range(_VECTORS)]
        for one in sums:
            builder.store(zeros, one)
        with _build.for_range(builder, args[6]) as loop:
            factor = builder.load(builder.gep(arrays[0], [builder.add(args[1], builder.mul(loop.index, args[2]))]))
            first = builder.insert_element(ir.Constant(vector, ir.Undefined), factor, ir.Constant(ir.IntType(32), 0))
            factors = builder.shuffle_vector(first, first, ir.Constant(lanes, [0] * _VECTOR))
            row = builder.add(args[4], builder.mul(loop.index, args[5]))
            for v, one in enumerate(sums):
                given = [factors, builder.load(place(3, row, v), align=width // 8), builder.load(one)]
                builder.store(called(builder, f"llvm.fmuladd.v{_VECTOR}f{width}", vector, given), one)
        for v, one in enumerate(sums):
            builder.store(builder.load(one), place(7, args[8], v), align=width // 8)
        return context.get_dummy_value()

    return signature, generate


_panel: Any = intrinsic(_typed_panel)


@helper
def _product(
    left: Any, row_stride: Any, stride: Any, right: Any, rows: Any, inner: Any, columns: Any, panel: Any, out: Any
) -> None:
    """out [rows, columns]: of left[i * row_stride + k * stride] and right [inner, columns].

    panel [(inner + 1) * PANEL]: scratch for columns that are together what the first cache holds, zeros behind the last
    of them, and for a row of what comes out.
    """
    last = inner * PANEL
    for j in range(0, columns, PANEL):
        count = PANEL if columns - j >= PANEL else columns - j
        for k in range(inner):
            for c in range(PANEL):
                panel[U(k * PANEL + c)] = right[U(k * columns + j + c)] if c < count else out.dtype.type(0)
        for i in range(rows):
            if count == PANEL:
                _panel(left, i * row_stride, stride, panel, 0, PANEL, inner, out, i * columns + j)
            else:
                _panel(left, i * row_stride, stride, panel, 0, PANEL, inner, panel, last)
                for c in range(count):
                    out[U(i * columns + j + c)] = panel[U(last + c)]


@kernel
def times(left: Any, right: Any, rows: Any, inner: Any, columns: Any, panel: Any, out: Any) -> None:
    """out [rows, columns] = left [rows, inner] @ right [inner, columns]. panel: scratch, see `_product`."""
    _product(left, inner, 1, right, rows, inner, columns, panel, out)


@kernel
def turned_times(left: Any, right: Any, inner: Any, rows: Any, columns: Any, panel: Any, out: Any) -> None:
    """out [rows, columns] = left [inner, rows] turned, @ right [inner, columns]. panel: scratch, see `_product`."""
    _product(left, 1, rows, right, rows, inner, columns, panel, out)
