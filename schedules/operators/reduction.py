"""Reductions over the last axis."""

from typing import Any

from schedules.operators.operator import Args, Argument, Operator
from schedules.operators.precision import ALL_DTYPES, Array, in_float64, sum_dtype
from schedules.operators.stages import placeholders, program, stored, widened
from schedules.workload import TensorSpec

_ARGUMENTS = (Argument(name="m", doc="rows"), Argument(name="n", doc="terms of each row"))


def _tensors(args: Args, dtype: str, output_dtype: str) -> tuple[TensorSpec, ...]:
    m, n = args["m"], args["n"]
    return (
        TensorSpec(name="X", shape=(m, n), dtype=dtype),
        TensorSpec(name="Y", shape=(m,), dtype=output_dtype, is_output=True),
    )


def _sum_tensors(args: Args, dtype: str) -> tuple[TensorSpec, ...]:
    return _tensors(args, dtype, sum_dtype(dtype))


def _define_sum(args: Args, dtype: str) -> Any:
    from tvm import te

    *inputs, output = _sum_tensors(args, dtype)
    (x,) = placeholders(inputs)
    k = te.reduce_axis((0, args["n"]), name="k")
    total = te.compute(
        output.shape, lambda i: te.sum(widened(x[i, k]), axis=[k]), name="reduce_sum"
    )
    return program([x], stored(total, output.dtype))


def _sum(args: Args, x: Array) -> Array:
    result: Array = x.sum(axis=1)
    return result


def _max_tensors(args: Args, dtype: str) -> tuple[TensorSpec, ...]:
    return _tensors(args, dtype, dtype)


def _define_max(args: Args, dtype: str) -> Any:
    from tvm import te

    *inputs, output = _max_tensors(args, dtype)
    (x,) = placeholders(inputs)
    k = te.reduce_axis((0, args["n"]), name="k")
    # The greatest element is exact in the operand's own dtype: nothing is widened.
    greatest = te.compute(output.shape, lambda i: te.max(x[i, k], axis=[k]), name="reduce_max")
    return program([x], greatest)


def _max(args: Args, x: Array) -> Array:
    result: Array = x.max(axis=1)
    return result


REDUCE_SUM = Operator(
    name="reduce_sum",
    aliases=("sum",),
    summary="Y[m] = sum over n of X[m, n]",
    arguments=_ARGUMENTS,
    dtypes=ALL_DTYPES,
    tensors=_sum_tensors,
    flops=lambda args: args["m"] * args["n"],
    reduction_length=lambda args: args["n"],
    define=_define_sum,
    reference=in_float64(_sum),
)

REDUCE_MAX = Operator(
    name="reduce_max",
    aliases=("max",),
    summary="Y[m] = greatest of X[m, n] over n",
    arguments=_ARGUMENTS,
    dtypes=ALL_DTYPES,
    tensors=_max_tensors,
    flops=lambda args: args["m"] * args["n"],
    # Comparing adds no rounding, however many terms there are.
    reduction_length=lambda args: 1,
    define=_define_max,
    reference=in_float64(_max),
)

OPERATORS = (REDUCE_SUM, REDUCE_MAX)
