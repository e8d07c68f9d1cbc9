# SPDX-License-Identifier: Apache-2.0
"""Vector registers for compiled loops: several float32 that one instruction works on.

A compiler makes vectors of simple inner loops, but it puts sums back into memory after each of
their steps. Where a sum runs over many steps that costs more than the sum. Here it can be said
what stays in registers:

    total = splat(np.float32(0.0))
    for k in range(depth):
        total = fma(load(left, k * LANES), load(right, k * LANES), total)

Indices count float32 from an array's first; nothing checks that they are within it. Any stage may
use it.
"""

import operator
from functools import partial
from typing import Any

import numpy as np
from llvmlite import binding, ir
from numba import float32, int32, types
from numba.core import cgutils
from numba.core.typing.templates import ConcreteTemplate, infer_global, signature
from numba.extending import intrinsic, lower_builtin, models, register_model

from motion_predictor_ros.runtime.jit import compiled


def _read_bits(typing: Any, bits: Any) -> Any:
    """Read 32 bits as a float: the exponent of a power of two is set so."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        return builder.bitcast(arguments[0], ir.FloatType())

    return float32(int32), generate


_from_bits: Any = intrinsic(_read_bits)

fused = partial(compiled, rounding=('contract',))
"""A product and a sum are one operation where the processor has it."""


@fused
def exp_of_minus(x):  # type: ignore[no-untyped-def]
    """Return exp(-x) in float32, held between 2^-126 and 2^126."""
    power = min(max(np.float32(-1.44269504) * x, np.float32(-126.0)), np.float32(126.0))
    whole = np.floor(power + np.float32(0.5))
    rest = power - whole
    two = np.float32(1.5403530e-4)
    two = two * rest + np.float32(1.3333558e-3)
    two = two * rest + np.float32(9.6181291e-3)
    two = two * rest + np.float32(5.5504109e-2)
    two = two * rest + np.float32(0.24022651)
    two = two * rest + np.float32(0.69314718)
    two = two * rest + np.float32(1.0)
    exponent = np.int32((np.int32(whole) + np.int32(127)) << np.int32(23))
    return two * _from_bits(exponent)


@fused
def sigmoid(x):  # type: ignore[no-untyped-def]
    """Return 1 / (1 + exp(-x)) in float32."""
    return np.float32(1.0) / (np.float32(1.0) + exp_of_minus(x))


@fused
def silu(x):  # type: ignore[no-untyped-def]
    """Return x / (1 + exp(-x)) in float32."""
    return x / (np.float32(1.0) + exp_of_minus(x))


def _host_has(feature: str) -> bool:
    return bool(binding.get_host_cpu_features().get(feature, False))


LANES = 16 if _host_has('avx512f') else 8
"""Numbers in a register."""

_compiled_as: Any = intrinsic  # its types are those of Python functions without the first argument

_ROUND = 1.5 * 2.0**23
"""Added to a float32, it leaves no room for digits after the point."""

_FLOATS, _INTEGERS = ir.VectorType(ir.FloatType(), LANES), ir.VectorType(ir.IntType(32), LANES)


class _Lanes(types.Type):
    """What numba calls such a register."""

    def __init__(self) -> None:
        super().__init__(name=f'Lanes({LANES})')


_lanes = _Lanes()


@register_model(_Lanes)
class _LanesModel(models.PrimitiveModel):
    def __init__(self, manager: Any, kind: Any) -> None:
        super().__init__(manager, kind, _FLOATS)


def _arithmetic(operation: Any, instruction: str) -> None:
    """Let two registers be added, subtracted, multiplied or divided."""

    @infer_global(operation)
    class _Signature(ConcreteTemplate):
        cases = (signature(_lanes, _lanes, _lanes),)

    @lower_builtin(operation, _lanes, _lanes)
    def _lower(context: Any, builder: Any, sig: Any, arguments: Any) -> Any:
        return getattr(builder, instruction)(*arguments)


for _operation, _instruction in (
    (operator.add, 'fadd'),
    (operator.sub, 'fsub'),
    (operator.mul, 'fmul'),
    (operator.truediv, 'fdiv'),
):
    _arithmetic(_operation, _instruction)


def _place(context: Any, builder: Any, kind: Any, array: Any, index: Any) -> Any:
    """Return a pointer to so many lanes from an array's element on."""
    data = context.make_array(kind)(context, builder, array).data
    return builder.bitcast(builder.gep(data, [index]), ir.PointerType(_FLOATS))


def _splat(builder: Any, number: Any) -> Any:
    first = ir.Constant(ir.IntType(32), 0)
    one = builder.insert_element(ir.Constant(_FLOATS, ir.Undefined), number, first)
    return builder.shuffle_vector(one, one, ir.Constant(_INTEGERS, [0] * LANES))


def _constant(number: float) -> Any:
    return ir.Constant(_FLOATS, [float(np.float32(number))] * LANES)


def _fma(builder: Any, a: Any, b: Any, c: Any) -> Any:
    name = f'llvm.fmuladd.v{LANES}f32'
    kind = ir.FunctionType(_FLOATS, [_FLOATS] * 3)
    function = builder.module.globals.get(name) or ir.Function(builder.module, kind, name)
    return builder.call(function, [a, b, c])


@_compiled_as
def load(typing: Any, array: Any, index: Any) -> Any:
    """Return the lanes from an element of an array on."""

    def generate(context: Any, builder: Any, sig: Any, arguments: Any) -> Any:
        place = _place(context, builder, sig.args[0], *arguments)
        return builder.load(place, align=4, typ=_FLOATS)

    return _lanes(array, types.intp), generate


@_compiled_as
def store(typing: Any, array: Any, index: Any, lanes: Any) -> Any:
    """Write lanes from an element of an array on."""

    def generate(context: Any, builder: Any, sig: Any, arguments: Any) -> Any:
        place = _place(context, builder, sig.args[0], *arguments[:2])
        builder.store(arguments[2], place, align=4)
        return context.get_dummy_value()

    return types.void(array, types.intp, lanes), generate


@_compiled_as
def splat(typing: Any, number: Any) -> Any:
    """Return lanes that all hold a number."""

    def generate(context: Any, builder: Any, sig: Any, arguments: Any) -> Any:
        return _splat(builder, arguments[0])

    return _lanes(float32), generate


@_compiled_as
def fma(typing: Any, a: Any, b: Any, c: Any) -> Any:
    """Return a b + c."""

    def generate(context: Any, builder: Any, sig: Any, arguments: Any) -> Any:
        return _fma(builder, *arguments)

    return _lanes(_lanes, _lanes, _lanes), generate


@_compiled_as
def larger(typing: Any, a: Any, b: Any) -> Any:
    """Return the larger of each pair."""

    def generate(context: Any, builder: Any, sig: Any, arguments: Any) -> Any:
        return builder.select(builder.fcmp_ordered('>', *arguments), *arguments)

    return _lanes(_lanes, _lanes), generate


@_compiled_as
def smaller(typing: Any, a: Any, b: Any) -> Any:
    """Return the smaller of each pair."""

    def generate(context: Any, builder: Any, sig: Any, arguments: Any) -> Any:
        return builder.select(builder.fcmp_ordered('<', *arguments), *arguments)

    return _lanes(_lanes, _lanes), generate


@_compiled_as
def least(typing: Any, lanes: Any) -> Any:
    """Return the smallest number of a register."""

    def generate(context: Any, builder: Any, sig: Any, arguments: Any) -> Any:
        rest, width = arguments[0], LANES
        while width > 1:
            width //= 2
            halves = [
                builder.shuffle_vector(
                    rest, rest, ir.Constant(ir.VectorType(ir.IntType(32), width), part)
                )
                for part in (list(range(width)), list(range(width, 2 * width)))
            ]
            rest = builder.select(builder.fcmp_ordered('<', *halves), *halves)
        return builder.extract_element(rest, ir.Constant(ir.IntType(32), 0))

    return float32(_lanes), generate


# Chebyshev interpolation of 2^r over -1/2 <= r <= 1/2, divided by 2^r less than 1e-7 off.
_EXP2 = (
    np.polynomial.Chebyshev.interpolate(np.exp2, 5, domain=[-0.5, 0.5])
    .convert(kind=np.polynomial.Polynomial)
    .coef
)


@_compiled_as
def exp2(typing: Any, lanes: Any) -> Any:
    """Return 2^x of each lane; below -126 that of -126. Above 127 it is wrong."""

    def generate(context: Any, builder: Any, sig: Any, arguments: Any) -> Any:
        lowest, magic = _constant(-126.0), _constant(_ROUND)
        x = builder.select(builder.fcmp_ordered('<', arguments[0], lowest), lowest, arguments[0])
        rounded = builder.fadd(x, magic)
        rest = builder.fsub(x, builder.fsub(rounded, magic))
        power = _constant(_EXP2[-1])
        for coefficient in _EXP2[-2::-1]:
            power = _fma(builder, power, rest, _constant(coefficient))
        shift = ir.Constant(_INTEGERS, [23] * LANES)
        exponent = builder.shl(builder.bitcast(rounded, _INTEGERS), shift)
        return builder.bitcast(builder.add(builder.bitcast(power, _INTEGERS), exponent), _FLOATS)

    return _lanes(_lanes), generate


def products(rows: int, columns: int) -> Any:
    """Return what multiplies so many rows of one matrix by so many registers' width of another.

    Sums stay in registers, so there must be fewer than registers: rows x columns of them. The
    returned function takes, each time as array, index of its first element and, but for the
    right, distance between rows: what the sums begin with, the left factor, the right factor
    (rows directly one after the other), the factors' common size, and where sums are written.
    """

    @_compiled_as
    def multiply(
        typing: Any,
        start: Any,
        start_at: Any,
        start_stride: Any,
        left: Any,
        left_at: Any,
        left_stride: Any,
        right: Any,
        right_at: Any,
        depth: Any,
        out: Any,
        out_at: Any,
        out_stride: Any,
    ) -> Any:
        def generate(context: Any, builder: Any, sig: Any, arguments: Any) -> Any:
            _multiply(context, builder, sig.args, arguments, rows, columns)
            return context.get_dummy_value()

        at = types.intp
        own = types.void(start, at, at, left, at, at, right, at, at, out, at, at)
        return own, generate

    return multiply


def _index(builder: Any, first: Any, stride: Any, row: int, column: int) -> Any:
    """Return where a register of a tile begins."""
    number = first.type
    step = builder.mul(stride, ir.Constant(number, row))
    return builder.add(builder.add(first, step), ir.Constant(number, column * LANES))


def _multiply(
    context: Any, builder: Any, kinds: Any, arguments: Any, rows: int, columns: int
) -> None:
    start, start_at, start_stride, left, left_at, left_stride, *others = arguments
    right, right_at, depth, out, out_at, out_stride = others
    index = partial(_index, builder)
    tile = [(row, column) for row in range(rows) for column in range(columns)]
    sums = {}
    for row, column in tile:
        sums[row, column] = cgutils.alloca_once(builder, _FLOATS)
        place = _place(
            context, builder, kinds[0], start, index(start_at, start_stride, row, column)
        )
        builder.store(builder.load(place, align=4, typ=_FLOATS), sums[row, column])
    data = context.make_array(kinds[3])(context, builder, left).data
    with cgutils.for_range(builder, depth) as loop:
        step = builder.mul(loop.index, ir.Constant(loop.index.type, columns * LANES))
        first = builder.add(right_at, step)
        factors = [
            builder.load(
                _place(context, builder, kinds[6], right, index(first, step, 0, column)),
                align=4,
                typ=_FLOATS,
            )
            for column in range(columns)
        ]
        for row in range(rows):
            at = builder.add(index(left_at, left_stride, row, 0), loop.index)
            number = _splat(builder, builder.load(builder.gep(data, [at])))
            for column in range(columns):
                own = sums[row, column]
                total = _fma(builder, number, factors[column], builder.load(own, typ=_FLOATS))
                builder.store(total, own)
    for row, column in tile:
        place = _place(context, builder, kinds[9], out, index(out_at, out_stride, row, column))
        builder.store(builder.load(sums[row, column], typ=_FLOATS), place, align=4)
