"""exp and its like as polynomials, which a vectorized loop computes for a whole vector at once.

TVM's LLVM back end calls the C library for each element instead. With `pipeline`, `tvm.compile` does what it does
otherwise, except that exp, exp2, log, tanh, sigmoid and erf of float32 and float16 become arithmetic just before it
lowers intrinsics. What else a process compiles stays as it is::

    tvm.compile(module, target=target, tir_pipeline=vector_math.pipeline())

The largest relative error, with or without fused multiply-add: exp, exp2 and log 9e-8, erf 1.1e-7, sigmoid 1.5e-7, tanh
1.8e-7. Infinities, NaN and zeros are as in C, with their signs. Arguments may be denormal. Results below the smallest
normal number, 1.2e-38, are 0 for exp and exp2, as is sigmoid where exp(-x) overflows.

The reductions to small ranges, with ln 2 in two parts, are those of expf and logf in Cephes (S. Moshier,
https://www.netlib.org/cephes); tanh is expm1(2 |x|) / (expm1(2 |x|) + 2); erf is 1 - exp(-|x| q(|x|)) beyond 0.93. The
coefficients are minimax fits of the relative error, by the Remez algorithm in 40 digits.

This file needs nothing but TVM, because exported kernels carry a copy of it.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import tvm
import tvm_ffi
from tvm import tirx

_NAME, _DEFAULT = "vector_math", "default"

_LOG2E = 1.44269504088896341
_LN2 = (0.693359375, -2.12194440e-4)
"""In two parts: an integer below 2^14 times the first is exact."""
_MAGIC = 12582912.0
"""1.5 * 2^23: the sum with a small number has the nearest integer in its last bits."""
_ONE_BITS, _SQRT_HALF_BITS = 0x3F800000, 0x3F3504F3
_EXP = (4.999999702e-1, 1.666654348e-1, 4.166720062e-2, 8.366580121e-3, 1.388250850e-3)
"""(exp(r) - 1 - r) / r^2, |r| <= ln(2) / 2."""
_LOG = (
    3.333333135e-1,
    -2.500081956e-1,
    2.000122666e-1,
    -1.662335694e-1,
    1.420175731e-1,
    -1.316018105e-1,
    1.276157796e-1,
    -7.634502649e-2,
)
"""(log(1 + u) - u + u^2 / 2) / u^3, sqrt(1/2) <= 1 + u <= sqrt(2)."""
_ERF = (1.283791512e-1, -3.761247993e-1, 1.128168255e-1, -2.676171996e-2, 4.985941108e-3, -5.953743239e-4)
"""erf(x) / x - 1 in x^2, x <= 0.93."""
_ERFC = (1.128514409, 6.357183456e-1, 1.052618399e-1, -2.288996242e-2, 3.214955330e-3, -2.139849094e-4)
"""-log(1 - erf(x)) / x, 0.92 <= x <= 4."""


def pipeline(on: bool = True) -> str:
    """What to give `tvm.compile` as ``tir_pipeline``; not `on`, it is TVM's own pipeline."""
    if not on:
        return _DEFAULT
    tirx.register_tir_pipeline(_NAME, _pipeline)
    return _NAME


def _pipeline() -> tuple[Any, Any, Any]:
    """TVM's own, with one more pass where loops are vectorized and intrinsics are not yet lowered."""
    lower, finalize_host, finalize_device = tirx.get_tir_pipeline(_DEFAULT)
    polynomials = tirx.transform.prim_func_pass(_polynomials, opt_level=0, name="VectorMath")

    def finalize() -> Any:
        return tvm.ir.transform.Sequential([polynomials, finalize_host()])

    return lower, finalize, finalize_device


def _polynomials(function: Any, module: Any, context: Any) -> Any:
    return function.with_body(tvm_ffi.structural_map(function.body, [(tvm.ir.Call, _lowered)]))


def _lowered(call: Any) -> Any:
    """A call as arithmetic, if it is one of those that are known."""
    rule = _RULES.get(call.op.name) if isinstance(call.op, tvm.ir.Op) else None
    if rule is None:
        return call
    dtype = call.ty.dtype
    element, lanes = dtype.with_lanes(1), dtype.lanes
    if element not in ("float32", "float16") or lanes < 1:  # negative: scalable vectors
        return call
    math = _Math(lanes)
    x = math.let(call.args[0].astype(math.float))
    return math.closed(rule(math, x)).astype(dtype)


class _Math:
    """Expressions of vectors of one length, and names for those that are used more than once."""

    def __init__(self, lanes: int) -> None:
        suffix = f"x{lanes}" if lanes > 1 else ""
        self.float, self.int = f"float32{suffix}", f"int32{suffix}"
        self._lets: list[tuple[Any, Any]] = []

    def let(self, value: Any) -> Any:
        """A variable for `value`."""
        name = tirx.Var("v", str(value.ty.dtype))
        self._lets.append((name, value))
        return name

    def closed(self, value: Any) -> Any:
        """`value` with all variables defined."""
        for name, known in reversed(self._lets):
            value = tirx.Let(name, known, value)
        return value

    def constant(self, value: float) -> Any:
        return tirx.const(value, self.float)

    def bits(self, x: Any) -> Any:
        return tirx.reinterpret(self.int, x)

    def from_bits(self, bits: Any) -> Any:
        return tirx.reinterpret(self.float, bits)

    def magnitude(self, x: Any) -> Any:
        return self.let(self.from_bits(self.bits(x) & 0x7FFFFFFF))

    def with_sign(self, magnitude: Any, x: Any) -> Any:
        """A number that is not negative, with the sign of `x`."""
        return self.from_bits(self.bits(magnitude) | (self.bits(x) & tirx.const(-0x80000000, self.int)))

    def at_most(self, x: Any, limit: float) -> Any:
        """The smaller one; NaN stays."""
        return self.let(tirx.Select(x > limit, self.constant(limit), x))

    def split(self, x: Any) -> tuple[Any, Any]:
        """n and r of x = n ln(2) + r, |r| <= ln(2) / 2; n is shifted into the exponent of a float."""
        shifted = self.let(x * _LOG2E + _MAGIC)
        n = self.let(shifted - _MAGIC)
        return self.bits(shifted) << 23, self.let(x - n * _LN2[0] - n * _LN2[1])

    def expm1(self, exponent: Any, r: Any) -> Any:
        """exp(x) - 1 of a split x."""
        power = self.let(self.from_bits(exponent + _ONE_BITS))
        return self.let(power * _expm1(r) + (power - 1.0))


def _expm1(r: Any) -> Any:
    """exp(r) - 1, |r| <= ln(2) / 2, to the last bits even where r is small."""
    return _horner(r, _EXP) * (r * r) + r


def _horner(x: Any, coefficients: tuple[float, ...]) -> Any:
    """A polynomial, given from the lowest degree up."""
    *rest, value = coefficients
    for coefficient in reversed(rest):
        value = value * x + coefficient
    return value


def _scaled(math: _Math, exponent: Any, r: Any, x: Any, lowest: float, highest: float) -> Any:
    """exp(r) times a power of two; 0 for x < lowest, infinity for x > highest, and NaN for NaN."""
    value = math.from_bits(math.bits(_expm1(r) + 1.0) + exponent)
    normal = tirx.Select(x >= lowest, value, math.constant(0.0))
    return tirx.Select(x <= highest, normal, x + math.constant(float("inf")))


def _exp(math: _Math, x: Any) -> Any:
    exponent, r = math.split(x)
    return _scaled(math, exponent, r, x, -87.33654, 88.72283)


def _exp2(math: _Math, x: Any) -> Any:
    shifted = math.let(x + _MAGIC)
    r = math.let((x - (shifted - _MAGIC)) * math.constant(_LN2[0] + _LN2[1]))
    return _scaled(math, math.bits(shifted) << 23, r, x, -126.0, 127.99999)


def _log(math: _Math, x: Any) -> Any:
    denormal = x < 1.17549435e-38
    bits = math.let(math.bits(tirx.Select(denormal, x * 8388608.0, x)))
    exponent = math.let((bits - _SQRT_HALF_BITS) >> 23)
    u = math.let(math.from_bits(bits - (exponent << 23)) - 1.0)
    n = math.let(exponent.astype(math.float) - tirx.Select(denormal, math.constant(23.0), math.constant(0.0)))
    square = math.let(u * u)
    low = _horner(u, _LOG) * (square * u) + n * _LN2[1] - square * 0.5
    value = n * _LN2[0] + (low + u)
    value = tirx.Select(x < math.constant(float("inf")), value, x)
    value = tirx.Select(x < 0.0, math.constant(float("nan")), value)
    return tirx.Select(tirx.EQ(x, math.constant(0.0)), math.constant(float("-inf")), value)


def _tanh(math: _Math, x: Any) -> Any:
    twice = math.at_most(math.magnitude(x) * 2.0, 20.0)
    grown = math.expm1(*math.split(twice))
    return math.with_sign(grown / (grown + 2.0), x)


def _sigmoid(math: _Math, x: Any) -> Any:
    return 1.0 / (_exp(math, math.let(x * -1.0)) + 1.0)


def _erf(math: _Math, x: Any) -> Any:
    size = math.magnitude(x)
    near = _horner(math.let(x * x), _ERF) * x + x
    bounded = math.at_most(size, 4.0)
    decay = math.let(_horner(bounded, _ERFC) * bounded * -1.0)
    far = math.expm1(*math.split(decay)) * -1.0
    return tirx.Select(size < 0.93, near, math.with_sign(far, x))


_RULES: dict[str, Callable[[_Math, Any], Any]] = {
    "tirx.exp": _exp,
    "tirx.exp2": _exp2,
    "tirx.log": _log,
    "tirx.tanh": _tanh,
    "tirx.sigmoid": _sigmoid,
    "tirx.erf": _erf,
}
