"""Explicit vectors for kernels: LANES words in one step, whatever registers the machine has.

Left to itself LLVM picks the vector length of the widest type in a loop, and NumPy's promotion of small words to 64
bits gets into it; written out, a step is as wide as its words.
"""

from __future__ import annotations

from typing import Any

from llvmlite import ir

from castore.kernels.blocks import LANES

_I32 = ir.IntType(32)


def called(builder: Any, name: str, result: Any, arguments: list[Any]) -> Any:
    """A call of one of LLVM's own functions."""
    kind = ir.FunctionType(result, [argument.type for argument in arguments])
    function = builder.module.globals.get(name) or ir.Function(builder.module, kind, name)
    return builder.call(function, arguments)


class Lanes:
    """Vectors of LANES words of `bits`, loaded from and stored to the array arguments of an intrinsic."""

    def __init__(self, context: Any, builder: Any, signature: Any, arguments: Any, bits: int) -> None:
        self.context, self.builder, self.signature, self.arguments = context, builder, signature, arguments
        self.bits = bits

    def kind(self, bits: int | None = None) -> Any:
        return ir.VectorType(ir.IntType(self.bits if bits is None else bits), LANES)

    def constant(self, value: int) -> Any:
        return ir.Constant(self.kind(), [value & ((1 << self.bits) - 1)] * LANES)

    def pointer(self, argument: int, index: Any, bits: int) -> Any:
        array = self.context.make_array(self.signature.args[argument])(
            self.context, self.builder, self.arguments[argument]
        )
        words = self.builder.bitcast(array.data, ir.IntType(bits).as_pointer())
        return self.builder.bitcast(self.builder.gep(words, [index]), self.kind(bits).as_pointer())

    def load(self, argument: int, index: Any, bits: int | None = None) -> Any:
        """Words of the array's own width, or of `bits` that its memory is taken for, widened or narrowed."""
        width = self.signature.args[argument].dtype.bitwidth if bits is None else bits
        found = self.builder.load(self.pointer(argument, index, width), align=1)
        return self.resized(found, width, self.bits)

    def store(self, value: Any, argument: int, index: Any, bits: int | None = None) -> None:
        width = self.signature.args[argument].dtype.bitwidth if bits is None else bits
        self.builder.store(self.resized(value, self.bits, width), self.pointer(argument, index, width), align=1)

    def resized(self, value: Any, old: int, new: int) -> Any:
        if new == old:
            return value
        return (self.builder.trunc if new < old else self.builder.zext)(value, self.kind(new))

    def splat(self, value: Any) -> Any:
        """A scalar of at least `bits` bits in every lane."""
        if value.type.width > self.bits:
            value = self.builder.trunc(value, ir.IntType(self.bits))
        first = self.builder.insert_element(ir.Constant(self.kind(), ir.Undefined), value, ir.Constant(_I32, 0))
        return self.builder.shuffle_vector(first, first, ir.Constant(ir.VectorType(_I32, LANES), [0] * LANES))

    def ordered(self, word: Any) -> Any:
        """Sign and magnitude to two's complement, or back: integers in the order of the floats."""
        sign = self.builder.ashr(word, self.constant(self.bits - 1))
        return self.builder.xor(word, self.builder.lshr(sign, self.constant(1)))

    def zigzag(self, difference: Any) -> Any:
        b = self.builder
        return b.xor(b.shl(difference, self.constant(1)), b.ashr(difference, self.constant(self.bits - 1)))

    def unzigzag(self, word: Any) -> Any:
        b = self.builder
        sign = b.sub(self.constant(0), b.and_(word, self.constant(1)))
        return b.xor(b.lshr(word, self.constant(1)), sign)

    def least(self, a: Any, b: Any) -> Any:
        return self.builder.select(self.builder.icmp_unsigned("<", a, b), a, b)

    def leading_zeros(self, word: Any) -> Any:
        """How many; `bits` for 0."""
        given = [word, ir.Constant(ir.IntType(1), 0)]
        return called(self.builder, f"llvm.ctlz.v{LANES}i{self.bits}", self.kind(), given)

    def bit_length_less_one(self, word: Any) -> Any:
        """floor(log2(word)); of no use for 0."""
        b = self.builder
        if self.bits != 32:
            return b.sub(self.constant(self.bits - 1), self.leading_zeros(word))
        # A float's exponent is faster than what AVX2 takes to count zeros; cleared bits keep it from rounding up.
        floats = ir.VectorType(ir.FloatType(), LANES)
        leading = b.and_(word, b.not_(b.lshr(word, self.constant(1))))
        exponent = b.lshr(b.bitcast(b.sitofp(leading, floats), self.kind()), self.constant(23))
        negative = b.icmp_signed("<", word, self.constant(0))
        return b.select(negative, self.constant(31), b.sub(exponent, self.constant(127)))

    def ones(self, count: Any) -> Any:
        """The lowest `count` bits set, for counts from 0 to `bits`."""
        b, width = self.builder, self.constant(self.bits)
        missing = b.sub(width, count)
        shift = b.and_(missing, self.constant(self.bits - 1))
        return b.select(b.icmp_unsigned("==", missing, width), self.constant(0), b.lshr(self.constant(-1), shift))
