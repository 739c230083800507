"""Thirty-two samples as one value in compiled code: vectors that the compiler need not find by itself.

Compilers leave loops over a fixed number of lanes scalar where sums run inside them (20 ns instead of 0.5 ns
a phase). So a lane vector is a type here: load, store, spread, fma and the four operators below act on 32
samples, by whatever vector registers the processor has (two of AVX-512, four of AVX2, eight of NEON). Two
registers at once share each coupling's load. Offsets count float32 values of a flat array; arrays that start
on 64 bytes (`aligned`) are fastest.
"""

from __future__ import annotations

import math
import operator
from collections.abc import Callable
from typing import Any

import numpy as np
from llvmlite import ir
from numba import njit, types
from numba.core import cgutils
from numba.core.errors import TypingError
from numba.extending import intrinsic, lower_builtin, models, register_model, type_callable
from numpy.typing import NDArray

LANES = 32
HALF = LANES // 2
_ALIGNMENT = 64  # bytes: the widest vector register
_F = np.float32
Float32 = NDArray[np.float32]


def aligned(*shape: int, fill: float | None = 0.0) -> NDArray[np.float32]:
    """An array of float32 that starts on 64 bytes, filled with one value; with None, not filled."""
    size = math.prod(shape)
    raw = np.empty(size + _ALIGNMENT // 4, np.float32)  # zeros would ask the system for new pages each time
    if fill is not None:
        raw.fill(fill)
    skip = (-raw.__array_interface__["data"][0] % _ALIGNMENT) // 4
    return raw[skip : skip + size].reshape(shape)


class _Vector(types.Type):
    """The compiler's view of some float32 lanes."""

    def __init__(self, count: int) -> None:
        super().__init__(name=f"float32 x {count}")
        self.ir = ir.VectorType(ir.FloatType(), count)


class _Full(_Vector):
    """32 lanes."""

    def __init__(self) -> None:
        super().__init__(LANES)


class _Half(_Vector):
    """16 lanes: what gradients of shared tables are summed in."""

    def __init__(self) -> None:
        super().__init__(HALF)


FULL, HALF_VECTOR = _Full(), _Half()
_BITS = ir.VectorType(ir.IntType(32), LANES)
_INDEX = ir.IntType(32)


@register_model(_Full)
@register_model(_Half)
class _VectorModel(models.PrimitiveModel):
    def __init__(self, manager: Any, kind: _Vector) -> None:
        super().__init__(manager, kind, kind.ir)  # type: ignore[no-untyped-call]


def _arithmetic(symbol: Any, instruction: str) -> None:
    @type_callable(symbol)
    def typed(context: Any) -> Any:
        return lambda x, y: FULL if isinstance(x, _Full) and isinstance(y, _Full) else None

    @lower_builtin(symbol, _Full, _Full)  # type: ignore[untyped-decorator, no-untyped-call]
    def lowered(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        return getattr(builder, instruction)(*args)


_arithmetic(operator.add, "fadd")
_arithmetic(operator.sub, "fsub")
_arithmetic(operator.mul, "fmul")


def _pointer(context: Any, builder: Any, signature: Any, args: Any) -> Any:
    if signature.args[0].layout != "C":
        raise TypingError(f"lanes lie in flat contiguous arrays, not in {signature.args[0]}")
    array = cgutils.create_struct_proxy(signature.args[0])(context, builder, args[0])  # type: ignore[no-untyped-call]
    return builder.gep(array.data, [args[1]])


def _loader(kind: _Vector) -> Any:
    def build(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        place = builder.bitcast(_pointer(context, builder, signature, args), kind.ir.as_pointer())
        return builder.load(place, align=4)  # no fault elsewhere, and as fast where arrays are aligned

    return build


def _storer(kind: _Vector) -> Any:
    def build(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        place = builder.bitcast(_pointer(context, builder, signature, args), kind.ir.as_pointer())
        for number, value in enumerate(args[2:]):
            builder.store(value, builder.gep(place, [ir.Constant(_INDEX, number)]), align=4)
        return context.get_dummy_value()

    return build


def _spread(builder: Any, value: Any) -> Any:
    nothing = ir.Constant(FULL.ir, ir.Undefined)
    first = builder.insert_element(nothing, value, ir.Constant(_INDEX, 0))
    return builder.shuffle_vector(first, nothing, ir.Constant(ir.VectorType(_INDEX, LANES), [0] * LANES))


def _call(builder: Any, name: str, args: Any) -> Any:
    kind = args[0].type
    function = cgutils.get_or_insert_function(  # type: ignore[no-untyped-call]
        builder.module, ir.FunctionType(kind, [kind] * len(args)), f"{name}.v{kind.count}f32"
    )
    return builder.call(function, args)


def _in_compiled_code(definition: Callable[..., Any]) -> Any:
    """An operation of compiled code: called without the first argument, which is the compiler's."""
    return intrinsic(definition)


@_in_compiled_code
def load(typing: Any, array: Any, offset: Any) -> Any:
    """The 32 values that begin at array[offset]."""
    return FULL(array, types.intp), _loader(FULL)


@_in_compiled_code
def load_half(typing: Any, array: Any, offset: Any) -> Any:
    """The 16 values that begin at array[offset]."""
    return HALF_VECTOR(array, types.intp), _loader(HALF_VECTOR)


@_in_compiled_code
def store(typing: Any, array: Any, offset: Any, value: Any) -> Any:
    """array[offset : offset + 32] = value."""
    return types.void(array, types.intp, FULL), _storer(FULL)


@_in_compiled_code
def store_pair(typing: Any, array: Any, offset: Any, first: Any, second: Any) -> Any:
    """array[offset : offset + 32] = first, array[offset + 32 : offset + 64] = second."""
    return types.void(array, types.intp, FULL, FULL), _storer(FULL)


@_in_compiled_code
def store_half(typing: Any, array: Any, offset: Any, value: Any) -> Any:
    """array[offset : offset + 16] = value."""
    return types.void(array, types.intp, HALF_VECTOR), _storer(HALF_VECTOR)


@_in_compiled_code
def spread(typing: Any, value: Any) -> Any:
    """One float32 in every lane."""
    return FULL(types.float32), lambda context, builder, signature, args: _spread(builder, args[0])


@_in_compiled_code
def spread_at(typing: Any, array: Any, place: Any) -> Any:
    """array[place] (float32) in every lane."""

    def build(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        return _spread(builder, builder.load(_pointer(context, builder, signature, args)))

    return FULL(array, types.intp), build


@_in_compiled_code
def whole_at(typing: Any, array: Any, place: Any) -> Any:
    """array[place] (int32), for a place that is never negative: without the test for one."""

    def build(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        return builder.sext(builder.load(_pointer(context, builder, signature, args)), ir.IntType(64))

    return types.int64(array, types.intp), build


@_in_compiled_code
def fma(typing: Any, x: Any, y: Any, z: Any) -> Any:
    """x y + z, in one rounding where the processor has it."""
    return FULL(FULL, FULL, FULL), lambda context, builder, signature, args: _call(
        builder, "llvm.fmuladd", args
    )


@_in_compiled_code
def nearest(typing: Any, x: Any) -> Any:
    """The nearest whole number, ties to even."""
    return FULL(FULL), lambda context, builder, signature, args: _call(builder, "llvm.rint", args)


@_in_compiled_code
def negated_if_odd(typing: Any, x: Any, count: Any) -> Any:
    """x, with its sign turned in lanes where the whole number `count` is odd."""

    def build(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        odd = builder.shl(builder.fptosi(args[1], _BITS), ir.Constant(_BITS, [31] * LANES))
        return builder.bitcast(builder.xor(builder.bitcast(args[0], _BITS), odd), FULL.ir)

    return FULL(FULL, FULL), build


@_in_compiled_code
def folded(typing: Any, total: Any, x: Any, y: Any) -> Any:
    """total + x y with the upper 16 lanes' products added onto the lower ones'."""

    def build(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        total = args[0]
        for first in (0, HALF):
            mask = ir.Constant(ir.VectorType(_INDEX, HALF), list(range(first, first + HALF)))
            x, y = (builder.shuffle_vector(v, v, mask) for v in args[1:])
            total = _call(builder, "llvm.fmuladd", [x, y, total])
        return total

    return HALF_VECTOR(HALF_VECTOR, FULL, FULL), build


# Minimax on +-pi/2: sin r = r + r^3 p(r^2) within 5e-9, cos r = 1 + r^2 q(r^2) within 6e-8.
_SINE = (-0.16666656732559204, 0.008333017118275166, -0.00019806588534265757, 2.5999938770837616e-06)
_COSINE = (-0.4999993145465851, 0.04166398569941521, -0.0013855901779606938, 2.319376108061988e-05)
_PI_HIGH, _PI_LOW = 3.1415927410125732, -8.742277657347586e-08  # pi in two float32


@njit(inline="always")
def sine_cosine(x: Any) -> Any:  # pragma: no cover - compiled
    """(sin x, cos x) of 32 lanes; absolute error below 2e-7 for |x| up to 100 rad (tested)."""
    n = nearest(x * spread(_F(1 / np.pi)))
    r = fma(n, spread(_F(-_PI_LOW)), fma(n, spread(_F(-_PI_HIGH)), x))
    u = r * r
    p = fma(u, spread(_F(_SINE[3])), spread(_F(_SINE[2])))
    p = fma(u, fma(u, p, spread(_F(_SINE[1]))), spread(_F(_SINE[0])))
    q = fma(u, spread(_F(_COSINE[3])), spread(_F(_COSINE[2])))
    q = fma(u, fma(u, q, spread(_F(_COSINE[1]))), spread(_F(_COSINE[0])))
    return negated_if_odd(fma(u * r, p, r), n), negated_if_odd(fma(u, q, spread(_F(1))), n)


@njit(cache=True, nogil=True)
def sine_cosine_into(x: Any, sine: Any, cosine: Any) -> None:  # pragma: no cover - compiled
    """sin and cos of a flat aligned array whose length is a multiple of 32."""
    for at in range(0, x.size, LANES):
        s, c = sine_cosine(load(x, at))
        store(sine, at, s)
        store(cosine, at, c)
