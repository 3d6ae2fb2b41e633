"""Matrix multiplications."""

from typing import Any

from schedules.operators.operator import Args, Argument, Operator
from schedules.operators.precision import ALL_DTYPES, Array, in_float64, sum_dtype
from schedules.operators.stages import placeholders, program, stored, sum_of_products
from schedules.workload import TensorSpec

_ROWS = Argument(name="n", doc="rows of the output")
_COLUMNS = Argument(name="m", doc="columns of the output")
_REDUCTION = Argument(name="k", doc="length of the reduction")


def _reduction(args: Args) -> int:
    return args["k"]


def _matmul_tensors(args: Args, dtype: str) -> tuple[TensorSpec, ...]:
    n, m, k = args["n"], args["m"], args["k"]
    return (
        TensorSpec(name="A", shape=(n, k), dtype=dtype),
        TensorSpec(name="B", shape=(k, m), dtype=dtype),
        TensorSpec(name="C", shape=(n, m), dtype=sum_dtype(dtype), is_output=True),
    )


def _define_matmul(args: Args, dtype: str) -> Any:
    from tvm import te

    *inputs, output = _matmul_tensors(args, dtype)
    a, b = placeholders(inputs)
    k = te.reduce_axis((0, args["k"]), name="k")
    product = te.compute(
        output.shape, lambda i, j: sum_of_products(a[i, k], b[k, j], [k]), name="matmul"
    )
    return program([a, b], stored(product, output.dtype))


def _matmul(args: Args, a: Array, b: Array) -> Array:
    return a @ b


def _batch_matmul_tensors(args: Args, dtype: str) -> tuple[TensorSpec, ...]:
    b, n, m, k = args["b"], args["n"], args["m"], args["k"]
    return (
        TensorSpec(name="X", shape=(b, n, k), dtype=dtype),
        TensorSpec(name="Y", shape=(b, k, m), dtype=dtype),
        TensorSpec(name="Z", shape=(b, n, m), dtype=sum_dtype(dtype), is_output=True),
    )


def _define_batch_matmul(args: Args, dtype: str) -> Any:
    from tvm import te

    *inputs, output = _batch_matmul_tensors(args, dtype)
    x, y = placeholders(inputs)
    k = te.reduce_axis((0, args["k"]), name="k")
    product = te.compute(
        output.shape,
        lambda b, i, j: sum_of_products(x[b, i, k], y[b, k, j], [k]),
        name="batch_matmul",
    )
    return program([x, y], stored(product, output.dtype))


def _dense_tensors(args: Args, dtype: str) -> tuple[TensorSpec, ...]:
    n, m, k = args["n"], args["m"], args["k"]
    return (
        TensorSpec(name="X", shape=(n, k), dtype=dtype),
        TensorSpec(name="W", shape=(m, k), dtype=dtype),
        TensorSpec(name="Y", shape=(n, m), dtype=sum_dtype(dtype), is_output=True),
    )


def _define_dense(args: Args, dtype: str) -> Any:
    from tvm import te

    *inputs, output = _dense_tensors(args, dtype)
    x, w = placeholders(inputs)
    k = te.reduce_axis((0, args["k"]), name="k")
    product = te.compute(
        output.shape, lambda i, j: sum_of_products(x[i, k], w[j, k], [k]), name="dense"
    )
    return program([x, w], stored(product, output.dtype))


def _dense(args: Args, x: Array, w: Array) -> Array:
    return x @ w.T


def _gemv_tensors(args: Args, dtype: str) -> tuple[TensorSpec, ...]:
    m, k = args["m"], args["k"]
    return (
        TensorSpec(name="A", shape=(m, k), dtype=dtype),
        TensorSpec(name="x", shape=(k,), dtype=dtype),
        TensorSpec(name="y", shape=(m,), dtype=sum_dtype(dtype), is_output=True),
    )


def _define_gemv(args: Args, dtype: str) -> Any:
    from tvm import te

    *inputs, output = _gemv_tensors(args, dtype)
    a, x = placeholders(inputs)
    k = te.reduce_axis((0, args["k"]), name="k")
    product = te.compute(output.shape, lambda i: sum_of_products(a[i, k], x[k], [k]), name="gemv")
    return program([a, x], stored(product, output.dtype))


def _transpose_batch_matmul_tensors(args: Args, dtype: str) -> tuple[TensorSpec, ...]:
    batch, length, heads, width = args["batch"], args["seq_len"], args["n_head"], args["n_dim"]
    operand = (batch, length, heads, width)
    scores = (batch, heads, length, length)
    return (
        TensorSpec(name="query", shape=operand, dtype=dtype),
        TensorSpec(name="value", shape=operand, dtype=dtype),
        TensorSpec(name="scores", shape=scores, dtype=sum_dtype(dtype), is_output=True),
    )


def _define_transpose_batch_matmul(args: Args, dtype: str) -> Any:
    from tvm import te

    batch, length, heads, width = args["batch"], args["seq_len"], args["n_head"], args["n_dim"]
    *inputs, output = _transpose_batch_matmul_tensors(args, dtype)
    query, value = placeholders(inputs)
    query_t = te.compute(
        (batch, heads, length, width), lambda b, h, i, d: query[b, i, h, d], name="query_transpose"
    )
    value_t = te.compute(
        (batch, heads, width, length), lambda b, h, d, i: value[b, i, h, d], name="value_transpose"
    )
    k = te.reduce_axis((0, width), name="k")
    product = te.compute(
        output.shape,
        lambda b, h, i, j: sum_of_products(query_t[b, h, i, k], value_t[b, h, k, j], [k]),
        name="batch_matmul",
    )
    return program([query, value], stored(product, output.dtype))


def _transpose_batch_matmul(args: Args, query: Array, value: Array) -> Array:
    return query.transpose(0, 2, 1, 3) @ value.transpose(0, 2, 3, 1)


MATMUL = Operator(
    name="matmul",
    aliases=("mm",),
    summary="C[n, m] = A[n, k] @ B[k, m]",
    arguments=(_ROWS, _COLUMNS, _REDUCTION),
    dtypes=ALL_DTYPES,
    tensors=_matmul_tensors,
    flops=lambda args: 2 * args["n"] * args["m"] * args["k"],
    reduction_length=_reduction,
    define=_define_matmul,
    reference=in_float64(_matmul),
)

BATCH_MATMUL = Operator(
    name="batch_matmul",
    aliases=("batch_matmul_nkkm", "bmm", "gmm"),
    summary="Z[b, n, m] = X[b, n, k] @ Y[b, k, m]",
    arguments=(Argument(name="b", doc="batch size"), _ROWS, _COLUMNS, _REDUCTION),
    dtypes=ALL_DTYPES,
    tensors=_batch_matmul_tensors,
    flops=lambda args: 2 * args["b"] * args["n"] * args["m"] * args["k"],
    reduction_length=_reduction,
    define=_define_batch_matmul,
    reference=in_float64(_matmul),
)

DENSE = Operator(
    name="dense",
    summary="Y[n, m] = X[n, k] @ W[m, k]^T, a linear layer without bias",
    arguments=(_ROWS, _COLUMNS, _REDUCTION),
    dtypes=ALL_DTYPES,
    tensors=_dense_tensors,
    flops=lambda args: 2 * args["n"] * args["m"] * args["k"],
    reduction_length=_reduction,
    define=_define_dense,
    reference=in_float64(_dense),
)

GEMV = Operator(
    name="gemv",
    summary="y[m] = A[m, k] @ x[k]",
    arguments=(Argument(name="m", doc="rows of the matrix"), _REDUCTION),
    dtypes=ALL_DTYPES,
    tensors=_gemv_tensors,
    flops=lambda args: 2 * args["m"] * args["k"],
    reduction_length=_reduction,
    define=_define_gemv,
    reference=in_float64(_matmul),
)

TRANSPOSE_BATCH_MATMUL = Operator(
    name="transpose_batch_matmul",
    aliases=("tbg",),
    summary="scores[b, h, i, j] = sum over d of query[b, i, h, d] * value[b, j, h, d]",
    arguments=(
        Argument(name="batch", doc="batch size"),
        Argument(name="seq_len", doc="sequence length"),
        Argument(name="n_head", doc="number of heads"),
        Argument(name="n_dim", doc="width of one head"),
    ),
    dtypes=ALL_DTYPES,
    tensors=_transpose_batch_matmul_tensors,
    flops=lambda args: 2 * args["batch"] * args["n_head"] * args["seq_len"] ** 2 * args["n_dim"],
    reduction_length=lambda args: args["n_dim"],
    define=_define_transpose_batch_matmul,
    reference=in_float64(_transpose_batch_matmul),
)

OPERATORS = (MATMUL, BATCH_MATMUL, DENSE, GEMV, TRANSPOSE_BATCH_MATMUL)
