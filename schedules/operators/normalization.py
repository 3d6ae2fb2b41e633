"""Softmax, norms and normalisations; half precisions are computed in float32."""

from typing import Any

import numpy as np

from schedules.operators.operator import Args, Argument, Operator
from schedules.operators.precision import FLOAT_DTYPES, Array, in_float64
from schedules.operators.stages import placeholders, program, sum_of_products, widened
from schedules.workload import TensorSpec

_EPSILON = 1e-5
_ARGUMENTS = (Argument(name="m", doc="rows"), Argument(name="n", doc="elements of each row"))

# Greatest, subtraction, exponential, sum, division.
_SOFTMAX_FLOPS_PER_ELEMENT = 5
# Sum; subtraction, square, sum; subtraction, scaling, product with gamma, sum with beta.
_LAYER_NORM_FLOPS_PER_ELEMENT = 8
# Square, sum; scaling, product with the weight.
_RMS_NORM_FLOPS_PER_ELEMENT = 4


def _row_length(args: Args) -> int:
    return args["n"]


def _softmax_tensors(args: Args, dtype: str) -> tuple[TensorSpec, ...]:
    shape = (args["m"], args["n"])
    return (
        TensorSpec(name="X", shape=shape, dtype=dtype),
        TensorSpec(name="Y", shape=shape, dtype=dtype, is_output=True),
    )


def _define_softmax(args: Args, dtype: str) -> Any:
    from tvm import te

    m, n = args["m"], args["n"]
    *inputs, _ = _softmax_tensors(args, dtype)
    (x,) = placeholders(inputs)
    k = te.reduce_axis((0, n), name="k")
    greatest = te.compute((m,), lambda i: te.max(x[i, k], axis=[k]), name="softmax_max")
    power = te.compute(
        (m, n),
        lambda i, j: te.exp(widened(x[i, j]) - widened(greatest[i])),
        name="softmax_exp",
    )
    k = te.reduce_axis((0, n), name="k")
    total = te.compute((m,), lambda i: te.sum(power[i, k], axis=[k]), name="softmax_sum")
    output = te.compute(
        (m, n),
        lambda i, j: (power[i, j] / total[i]).astype(dtype),
        name="softmax",
        # The public benchmark's program carries it; without it ours would be another workload.
        attrs={"axis": 1},
    )
    return program([x], output)


def _softmax(args: Args, x: Array) -> Array:
    power = np.exp(x - x.max(axis=1, keepdims=True))
    result: Array = power / power.sum(axis=1, keepdims=True)
    return result


def _norm_tensors(args: Args, dtype: str) -> tuple[TensorSpec, ...]:
    b, m, n = args["b"], args["m"], args["n"]
    return (
        TensorSpec(name="A", shape=(b, m, n), dtype=dtype),
        TensorSpec(name="D", shape=(b,), dtype=dtype, is_output=True),
    )


def _define_norm(args: Args, dtype: str) -> Any:
    from tvm import te

    *inputs, output = _norm_tensors(args, dtype)
    (a,) = placeholders(inputs)
    i = te.reduce_axis((0, args["m"]), name="i")
    j = te.reduce_axis((0, args["n"]), name="j")
    squares = te.compute(
        output.shape, lambda b: sum_of_products(a[b, i, j], a[b, i, j], [i, j]), name="norm_squares"
    )
    root = te.compute(output.shape, lambda b: te.sqrt(squares[b]).astype(dtype), name="norm")
    return program([a], root)


def _norm(args: Args, a: Array) -> Array:
    rows = a.reshape(len(a), -1)
    result: Array = np.sqrt(np.square(rows).sum(axis=1))
    return result


def _layer_norm_tensors(args: Args, dtype: str) -> tuple[TensorSpec, ...]:
    m, n = args["m"], args["n"]
    return (
        TensorSpec(name="X", shape=(m, n), dtype=dtype),
        TensorSpec(name="gamma", shape=(n,), dtype=dtype),
        TensorSpec(name="beta", shape=(n,), dtype=dtype),
        TensorSpec(name="Y", shape=(m, n), dtype=dtype, is_output=True),
    )


def _define_layer_norm(args: Args, dtype: str) -> Any:
    from tvm import te, tirx

    m, n = args["m"], args["n"]
    *inputs, output = _layer_norm_tensors(args, dtype)
    x, gamma, beta = placeholders(inputs)
    inverse_length = tirx.const(1.0 / n, "float32")
    epsilon = tirx.const(_EPSILON, "float32")

    k = te.reduce_axis((0, n), name="k")
    total = te.compute((m,), lambda i: te.sum(widened(x[i, k]), axis=[k]), name="layer_norm_sum")
    mean = te.compute((m,), lambda i: total[i] * inverse_length, name="layer_norm_mean")

    def centred(i: Any, j: Any) -> Any:
        return widened(x[i, j]) - mean[i]

    # Two passes: the mean of squares less the square of the mean cancels in float32.
    k = te.reduce_axis((0, n), name="k")
    squares = te.compute(
        (m,),
        lambda i: sum_of_products(centred(i, k), centred(i, k), [k]),
        name="layer_norm_squares",
    )
    scale = te.compute(
        (m,), lambda i: te.rsqrt(squares[i] * inverse_length + epsilon), name="layer_norm_scale"
    )

    def element(i: Any, j: Any) -> Any:
        scaled = centred(i, j) * scale[i] * widened(gamma[j])
        return (scaled + widened(beta[j])).astype(dtype)

    return program([x, gamma, beta], te.compute(output.shape, element, name="layer_norm"))


def _layer_norm(args: Args, x: Array, gamma: Array, beta: Array) -> Array:
    mean = x.mean(axis=1, keepdims=True)
    variance = x.var(axis=1, keepdims=True)
    result: Array = (x - mean) / np.sqrt(variance + _EPSILON) * gamma + beta
    return result


def _rms_norm_tensors(args: Args, dtype: str) -> tuple[TensorSpec, ...]:
    m, n = args["m"], args["n"]
    return (
        TensorSpec(name="X", shape=(m, n), dtype=dtype),
        TensorSpec(name="weight", shape=(n,), dtype=dtype),
        TensorSpec(name="Y", shape=(m, n), dtype=dtype, is_output=True),
    )


def _define_rms_norm(args: Args, dtype: str) -> Any:
    from tvm import te, tirx

    m, n = args["m"], args["n"]
    *inputs, output = _rms_norm_tensors(args, dtype)
    x, weight = placeholders(inputs)
    inverse_length = tirx.const(1.0 / n, "float32")
    epsilon = tirx.const(_EPSILON, "float32")
    k = te.reduce_axis((0, n), name="k")
    squares = te.compute(
        (m,), lambda i: sum_of_products(x[i, k], x[i, k], [k]), name="rms_norm_squares"
    )
    scale = te.compute(
        (m,), lambda i: te.rsqrt(squares[i] * inverse_length + epsilon), name="rms_norm_scale"
    )
    scaled = te.compute(
        output.shape,
        lambda i, j: (widened(x[i, j]) * scale[i] * widened(weight[j])).astype(dtype),
        name="rms_norm",
    )
    return program([x, weight], scaled)


def _rms_norm(args: Args, x: Array, weight: Array) -> Array:
    mean_square = np.square(x).mean(axis=1, keepdims=True)
    result: Array = x / np.sqrt(mean_square + _EPSILON) * weight
    return result


SOFTMAX = Operator(
    name="softmax",
    aliases=("softmax_mn", "sfm"),
    summary="Y[m, n] = exp(X - max) / sum of exp(X - max), over n",
    arguments=_ARGUMENTS,
    dtypes=FLOAT_DTYPES,
    tensors=_softmax_tensors,
    flops=lambda args: _SOFTMAX_FLOPS_PER_ELEMENT * args["m"] * args["n"],
    reduction_length=_row_length,
    define=_define_softmax,
    reference=in_float64(_softmax),
)

NORM = Operator(
    name="norm",
    aliases=("norm_bmn", "nrm"),
    summary="D[b] = square root of the sum over m and n of A[b, m, n]^2",
    arguments=(Argument(name="b", doc="batch size"), Argument(name="m"), Argument(name="n")),
    dtypes=FLOAT_DTYPES,
    tensors=_norm_tensors,
    flops=lambda args: args["b"] * (2 * args["m"] * args["n"] + 1),
    reduction_length=lambda args: args["m"] * args["n"],
    define=_define_norm,
    reference=in_float64(_norm),
)

LAYER_NORM = Operator(
    name="layer_norm",
    summary="Y[m, n] = (X - mean) / sqrt(variance + 1e-5) * gamma[n] + beta[n], over n",
    arguments=_ARGUMENTS,
    dtypes=FLOAT_DTYPES,
    tensors=_layer_norm_tensors,
    flops=lambda args: _LAYER_NORM_FLOPS_PER_ELEMENT * args["m"] * args["n"],
    reduction_length=_row_length,
    define=_define_layer_norm,
    reference=in_float64(_layer_norm),
)

RMS_NORM = Operator(
    name="rms_norm",
    summary="Y[m, n] = X / sqrt(mean of X^2 + 1e-5) * weight[n], over n",
    arguments=_ARGUMENTS,
    dtypes=FLOAT_DTYPES,
    tensors=_rms_norm_tensors,
    flops=lambda args: _RMS_NORM_FLOPS_PER_ELEMENT * args["m"] * args["n"],
    reduction_length=_row_length,
    define=_define_rms_norm,
    reference=in_float64(_rms_norm),
)

OPERATORS = (SOFTMAX, NORM, LAYER_NORM, RMS_NORM)
