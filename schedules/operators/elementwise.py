"""Operators that map each element on its own."""

import math
from typing import Any

from scipy.special import erf

from schedules.operators.operator import Args, Argument, Operator
from schedules.operators.precision import ALL_DTYPES, FLOAT_DTYPES, Array, in_float64, sum_dtype
from schedules.operators.stages import placeholders, program, widened
from schedules.workload import TensorSpec

_ARGUMENTS = (Argument(name="m", doc="rows"), Argument(name="n", doc="columns"))

# 0.5 * x * (1 + erf(x * c)): two products with x, the scaling by 0.5, one addition, one erf.
_GELU_FLOPS_PER_ELEMENT = 5


def _add_tensors(args: Args, dtype: str) -> tuple[TensorSpec, ...]:
    shape = (args["m"], args["n"])
    return (
        TensorSpec(name="A", shape=shape, dtype=dtype),
        TensorSpec(name="B", shape=shape, dtype=dtype),
        TensorSpec(name="C", shape=shape, dtype=sum_dtype(dtype), is_output=True),
    )


def _define_add(args: Args, dtype: str) -> Any:
    from tvm import te

    *inputs, output = _add_tensors(args, dtype)
    a, b = placeholders(inputs)
    total = te.compute(
        output.shape,
        lambda i, j: (widened(a[i, j]) + widened(b[i, j])).astype(output.dtype),
        name="add",
    )
    return program([a, b], total)


def _add(args: Args, a: Array, b: Array) -> Array:
    return a + b


def _gelu_tensors(args: Args, dtype: str) -> tuple[TensorSpec, ...]:
    shape = (args["m"], args["n"])
    return (
        TensorSpec(name="X", shape=shape, dtype=dtype),
        TensorSpec(name="Y", shape=shape, dtype=dtype, is_output=True),
    )


def _define_gelu(args: Args, dtype: str) -> Any:
    from tvm import te, tirx

    *inputs, output = _gelu_tensors(args, dtype)
    (x,) = placeholders(inputs)
    half = tirx.const(0.5, "float32")
    one = tirx.const(1.0, "float32")
    scale = tirx.const(math.sqrt(0.5), "float32")

    def element(i: Any, j: Any) -> Any:
        value = widened(x[i, j])
        return (half * value * (one + te.erf(value * scale))).astype(dtype)

    return program([x], te.compute(output.shape, element, name="gelu"))


def _gelu(args: Args, x: Array) -> Array:
    result: Array = 0.5 * x * (1.0 + erf(x * math.sqrt(0.5)))
    return result


ADD = Operator(
    name="add",
    summary="C[m, n] = A[m, n] + B[m, n]",
    arguments=_ARGUMENTS,
    dtypes=ALL_DTYPES,
    tensors=_add_tensors,
    flops=lambda args: args["m"] * args["n"],
    reduction_length=lambda args: 1,
    define=_define_add,
    reference=in_float64(_add),
)

GELU = Operator(
    name="gelu",
    summary="Y[m, n] = X / 2 * (1 + erf(X / sqrt(2)))",
    arguments=_ARGUMENTS,
    dtypes=FLOAT_DTYPES,
    tensors=_gelu_tensors,
    flops=lambda args: _GELU_FLOPS_PER_ELEMENT * args["m"] * args["n"],
    reduction_length=lambda args: 1,
    define=_define_gelu,
    reference=in_float64(_gelu),
)

OPERATORS = (ADD, GELU)
