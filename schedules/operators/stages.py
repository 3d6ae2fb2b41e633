"""The few tensor-expression stages that the operator families share.

TVM is imported inside the functions, so that the catalogue can be read without it.
"""

from collections.abc import Sequence
from typing import Any

from schedules.operators.precision import accumulator_dtype
from schedules.workload import TensorSpec


def placeholders(tensors: Sequence[TensorSpec]) -> list[Any]:
    """One placeholder per input, in parameter order."""
    from tvm import te

    return [
        te.placeholder(tensor.shape, name=tensor.name, dtype=tensor.dtype)
        for tensor in tensors
        if not tensor.is_output
    ]


def widened(element: Any) -> Any:
    """An element in the dtype in which it is accumulated."""
    return element.astype(accumulator_dtype(str(element.expr_ty())))


def sum_of_products(left: Any, right: Any, axes: Sequence[Any]) -> Any:
    """The sum of ``left * right`` over `axes`, in the accumulator's dtype."""
    from tvm import te

    return te.sum(widened(left) * widened(right), axis=list(axes))


def stored(tensor: Any, dtype: str) -> Any:
    """A last stage that casts to `dtype`, or `tensor` itself where it has that dtype already."""
    from tvm import te

    if str(tensor.dtype) == dtype:
        return tensor
    return te.compute(
        tensor.shape, lambda *i: tensor[i].astype(dtype), name=f"{tensor.op.name}_cast"
    )


def program(inputs: Sequence[Any], output: Any) -> Any:
    """The PrimFunc ``main`` that computes `output` from `inputs`."""
    from tvm import te

    return te.create_prim_func([*inputs, output])
