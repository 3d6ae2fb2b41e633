"""Elementary functions as polynomials, so that vectorised loops stay vectors on CPUs.

TVM lowers ``exp``, ``tanh``, ``erf``, ``log``, ... for the ``llvm`` kind to LLVM's intrinsics or to
libm, which LLVM calls once for each lane. The rules here expand a call of float32, scalar or vector
alike, into arithmetic that LLVM has on every CPU. float16 and bfloat16 are computed in float32 and
rounded once more; float64 goes TVM's way.

Bounds, in units in the last place of float32, over all finite inputs, where multiplication and
addition are fused (AVX2 with FMA, AVX-512, NEON); the tests sweep them against float64:

========= ====== ===========================================================================
function  ulp    edges
========= ====== ===========================================================================
exp       1.5    overflows to inf; results below 1.7e-38 are 0 (none is subnormal)
exp2      1.5    as ``exp``
tanh      3.0    tanh(-0.0) is 0.0
erf       6.0    the sign of zero stays; 1 at most
sigmoid   2.5    0 below -88.7; of subnormal results before that only the first bits are right
log       1.0    log(0) is -inf, of negative numbers nan; subnormal numbers are exact inputs
log1p     3.0    log1p(-1) is -inf, below that nan
log10     2.5    as ``log``
rsqrt     1.5    rsqrt(0) is inf, of negative numbers nan
========= ====== ===========================================================================

nan in, nan out, everywhere. Coefficients are our own minimax fits in float64.

Source: Cody and Waite, Software Manual for the Elementary Functions, 1980 (range reduction);
Cephes, ``logf`` (the form of the logarithm); Eigen, ``generic_fast_erf_float`` (the form of erf).
"""

import functools
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from types import MappingProxyType
from typing import Any

import tvm
from tvm import tirx

VERSION = 2
"""Changes when generated code does; part of the environment of a measurement."""

MAX_ULP: Mapping[str, float] = MappingProxyType(
    {
        "exp": 1.5,
        "exp2": 1.5,
        "tanh": 3.0,
        "erf": 6.0,
        "sigmoid": 2.5,
        "log": 1.0,
        "log1p": 3.0,
        "log10": 2.5,
        "rsqrt": 1.5,
    }
)
"""The bounds of the table above."""

_LEVEL = 20
_VECTORIZABLE = "TVectorizable"
_HALVES = ("float16", "bfloat16")

# 1.5 * 2**23: adding it rounds to an integer, which is then in the low bits of the sum.
_MAGIC = 12582912.0
_LOG2_E = 1.4426950408889634
# The logarithm of 2 as a short number, whose products with integers are exact, and the rest.
_LN2_HIGH, _LN2_LOW = 0.693359375, -2.12194440e-4
_EXP = (0.49999994, 0.16666521, 0.041668389, 0.0083687175, 0.0013814596)
_LOG = (
    *(0.33333313, -0.25000009, 0.20002119, -0.16667996, 0.14219551),
    *(-0.12405591, 0.11888175, -0.11675641, 0.067466013),
)
# Numerator and denominator of erf(x) / x, in x^2, and where erf is 1 as a float32.
_ERF_UPPER = (
    *(1.1283791065, 0.19040723145, 0.052748806775),
    *(0.0037656452041, 0.00028488261159, 2.0500715436e-06),
)
_ERF_LOWER = (
    *(1.0, 0.50207674503, 0.11410941184),
    *(0.01496927347, 0.0011625409825, 3.8091544411e-05),
)
_ERF_ONE = 3.92

_state = threading.local()


def register() -> None:
    """Let every build for CPUs in this process use these functions. Idempotent."""
    _register_once()


@contextmanager
def compiler_default() -> Iterator[None]:
    """Leave TVM as it comes, in this thread: for what candidates are compared with."""
    before = is_compiler_default()
    _state.stock = True
    try:
        yield
    finally:
        _state.stock = before


def is_compiler_default() -> bool:
    """Whether this thread is to leave TVM as it comes."""
    return bool(getattr(_state, "stock", False))


@functools.cache
def _register_once() -> None:
    for name, expand in _EXPANSIONS.items():
        op = tvm.ir.Op.get(f"tirx.{name}")
        stock = op.get_attr("llvm.FLowerIntrinsic") or op.get_attr("default.FLegalize")
        lower = functools.partial(_lower, expand, stock)
        tirx.op.register_intrin_lowering(op.name, "llvm", f=lower, level=_LEVEL)
        # Loops around the others TVM takes apart before it lowers them.
        tvm.ir.register_op_attr(op.name, _VECTORIZABLE, True, level=_LEVEL)


def _lower(expand: Callable[[Any], Any], stock: Any, call: Any) -> Any:
    [argument] = call.args
    dtype = _dtype(call)
    base, _, lanes = dtype.partition("x")
    own = base == "float32" or base in _HALVES
    if own and not is_compiler_default():
        wide = f"float32x{lanes}" if lanes else "float32"
        result = expand(argument.astype(wide) if base in _HALVES else argument)
        return result.astype(dtype) if base in _HALVES else result
    if stock is not None:
        return stock(call)
    if not lanes:
        return call
    # A function of libm, which knows no vectors.
    places = [tirx.IntImm("int32", lane) for lane in range(int(lanes))]
    return _named(
        argument,
        lambda x: tirx.Shuffle(
            [tirx.call_intrin(base, call.op, tirx.Shuffle([x], [place])) for place in places],
            places,
        ),
    )


# --- the functions -------------------------------------------------------------------------------


def _exp(x: Any) -> Any:
    """Return exp(x): 2**n * exp(r) with ``n`` the integer nearest to x / ln 2."""
    return _named(_clamped(x, -87.4, 89.0), lambda x: _reduced(x, _scaled))


def _exp2(x: Any) -> Any:
    """Return 2**x; the remainder x - n is exact."""

    def reduced(x: Any) -> Any:
        return _named(
            x + _const(x, _MAGIC),
            lambda shifted: _named(
                (x - (shifted - _const(x, _MAGIC))) * _const(x, 0.6931471805599453),
                lambda r: _scaled(shifted, _expm1_small(r)),
            ),
        )

    return _named(_clamped(x, -126.0, 128.4), reduced)


def _tanh(x: Any) -> Any:
    """Return (exp(2x) - 1) / (exp(2x) + 1) by exp(2x) - 1, which keeps small x exact."""

    def quotient(shifted: Any, low: Any) -> Any:
        scale = _power_of_two(shifted, 0)
        return _named(
            scale,
            lambda scale: _named(
                _fma(scale, low, scale - _const(x, 1.0)), lambda e: e / (e + _const(x, 2.0))
            ),
        )

    return _named(_clamped(x + x, -20.0, 20.0), lambda double: _reduced(double, quotient))


def _erf(x: Any) -> Any:
    """Return x * P(x^2) / Q(x^2), which needs no exponential."""

    def quotient(x: Any) -> Any:
        return _named(
            x * x,
            lambda square: (_polynomial(square, _ERF_UPPER) * x) / _polynomial(square, _ERF_LOWER),
        )

    return _clamped(_named(_clamped(x, -_ERF_ONE, _ERF_ONE), quotient), -1.0, 1.0)


def _sigmoid(x: Any) -> Any:
    one = _const(x, 1.0)
    return one / (one + _exp(_const(x, 0.0) - x))


def _rsqrt(x: Any) -> Any:
    return _const(x, 1.0) / tirx.sqrt(x)


def _log(x: Any) -> Any:
    """Return log(m) + e * ln 2 with x = m * 2**e and m from sqrt(1/2) to sqrt(2)."""
    return _named(x, lambda x: _log_edges(x, _log_positive(x)))


def _log10(x: Any) -> Any:
    return _log(x) * _const(x, 0.4342944819032518)


def _log1p(x: Any) -> Any:
    """Return log(u) * x / (u - 1) with u = 1 + x rounded, which takes the rounding back.

    Source: Kahan, as told by Higham, Accuracy and Stability of Numerical Algorithms, 1.14.1.
    """

    def corrected(x: Any) -> Any:
        one = _const(x, 1.0)

        def parts(u: Any) -> Any:
            return tirx.Select(
                u == one,
                x,
                tirx.Select(u > _const(x, 3.0e38), _log(u), _log(u) * (x / (u - one))),
            )

        return _named(one + x, parts)

    return _named(x, corrected)


_EXPANSIONS: Mapping[str, Callable[[Any], Any]] = MappingProxyType(
    {
        "exp": _exp,
        "exp2": _exp2,
        "tanh": _tanh,
        "erf": _erf,
        "sigmoid": _sigmoid,
        "log": _log,
        "log1p": _log1p,
        "log10": _log10,
        "rsqrt": _rsqrt,
    }
)


# --- their parts ---------------------------------------------------------------------------------


def _reduced(x: Any, then: Callable[[Any, Any], Any]) -> Any:
    """Split x into n * ln 2 + r; go on with ``n``, as `_MAGIC` left it, and exp(r) - 1."""
    shifted = _fma(x, _const(x, _LOG2_E), _const(x, _MAGIC))

    def remainder(shifted: Any, n: Any) -> Any:
        r = _fma(n, _const(x, -_LN2_LOW), _fma(n, _const(x, -_LN2_HIGH), x))
        return _named(r, lambda r: _named(_expm1_small(r), lambda low: then(shifted, low)))

    return _named(
        shifted,
        lambda shifted: _named(shifted - _const(x, _MAGIC), lambda n: remainder(shifted, n)),
    )


def _expm1_small(r: Any) -> Any:
    """exp(r) - 1 for abs(r) of at most ln(2) / 2."""
    return _named(r * r, lambda square: _fma(_polynomial(r, _EXP), square, r))


def _power_of_two(shifted: Any, less: int) -> Any:
    """2**(n - less) as float32, from -126 to 127; 0 for the exponent -127.

    Shifting leaves nothing of `_MAGIC` but ``n``, which adding it put into the low bits.
    """
    exponent = _int(shifted, (127 - less) << 23)
    return _bits((_integer_bits(shifted) << _int(shifted, 23)) + exponent, shifted)


def _scaled(shifted: Any, low: Any) -> Any:
    """Return (1 + low) * 2**n; by half of it, as 2**128 is no float32."""
    two = _const(low, 2.0)
    return _fma(low, two, two) * _power_of_two(shifted, 1)


def _log_positive(x: Any) -> Any:
    tiny = x < _const(x, 2.0**-126)
    normal = tirx.Select(tiny, x * _const(x, 2.0**23), x)
    shift = tirx.Select(tiny, _const(x, -23.0), _const(x, 0.0))

    def parts(bits: Any) -> Any:
        # The exponent of x / sqrt(1/2), so that what is left lies around 1.
        exponent = (bits - _int(x, 0x3F3504F3)) >> _int(x, 23)
        return _named(
            exponent,
            lambda e: _named(
                _bits(bits - (e << _int(x, 23)), x) - _const(x, 1.0),
                lambda f: _log_sum(f, e.astype(_dtype(x)) + shift),
            ),
        )

    return _named(_integer_bits(normal), parts)


def _log_sum(f: Any, exponent: Any) -> Any:
    def total(e: Any, square: Any) -> Any:
        low = _fma(e, _const(f, _LN2_LOW), _polynomial(f, _LOG) * square * f)
        low = _fma(square, _const(f, -0.5), low)
        return _fma(e, _const(f, _LN2_HIGH), f + low)

    return _named(exponent, lambda e: _named(f * f, lambda square: total(e, square)))


def _log_edges(x: Any, inside: Any) -> Any:
    zero, infinity = _const(x, 0.0), _const(x, float("inf"))
    outside = tirx.Select(x == zero, zero - infinity, _const(x, float("nan")))
    return tirx.Select(x > zero, tirx.Select(x < infinity, inside, infinity), outside)


def _polynomial(x: Any, coefficients: Sequence[float]) -> Any:
    """Horner's rule; `coefficients` from the constant upwards. `x` is used once for each."""
    *lower, highest = coefficients
    value = _const(x, highest)
    for coefficient in reversed(lower):
        value = _fma(value, x, _const(x, coefficient))
    return value


def _clamped(x: Any, low: float, high: float) -> Any:
    """X within bounds; nan stays, as it compares false."""
    return _named(
        x,
        lambda x: tirx.Select(
            x > _const(x, high),
            _const(x, high),
            tirx.Select(x < _const(x, low), _const(x, low), x),
        ),
    )


def _named(value: Any, body: Callable[..., Any]) -> Any:
    """Compute a value once for all its uses."""
    if isinstance(value, tirx.Var):
        return body(value)
    variable = tirx.Var("t", _dtype(value))
    return tirx.Let(variable, value, body(variable))


def _fma(a: Any, b: Any, c: Any) -> Any:
    return tirx.call_intrin(_dtype(a), "tirx.fma", a, b, c)


def _dtype(value: Any) -> str:
    return str(value.expr_ty())


def _lanes(like: Any) -> int:
    return int(_dtype(like).partition("x")[2] or 1)


def _vector(constant: Any, lanes: int) -> Any:
    return constant if lanes == 1 else tirx.Broadcast(constant, lanes)


def _const(like: Any, value: float) -> Any:
    return _vector(tirx.FloatImm("float32", value), _lanes(like))


def _int(like: Any, value: int) -> Any:
    return _vector(tirx.IntImm("int32", value), _lanes(like))


def _integer_bits(x: Any) -> Any:
    return tirx.reinterpret(_dtype(x).replace("float32", "int32"), x)


def _bits(integer: Any, like: Any) -> Any:
    return tirx.reinterpret(_dtype(like).replace("int32", "float32"), integer)
