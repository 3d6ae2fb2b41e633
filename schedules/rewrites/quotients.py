"""Multiplying by one reciprocal where a divisor stays the same throughout a loop.

A softmax divides each row by its sum, a norm by its root. A CPU starts a division of vectors every
ten cycles or so, and two multiplications every cycle, so the quotients take longer than all else
that is done to a row. The compiler moves a reciprocal out of the loop, but may not make one of a
quotient, as that rounds twice: the results differ by 1.5 ulp at most, and where the divisor is
below 3e-39, whose reciprocal overflows.
"""

from collections.abc import Sequence
from math import prod
from typing import Any

import tvm
from tvm import tirx

from schedules.nests import changed, deciding_loop, in_loops, steps_of, with_block_body

_DTYPES = ("float32", "float64")
_LEAST_QUOTIENTS = 16
"""By one divisor, below which its reciprocal takes as long as they do."""


def share_reciprocals(function: Any) -> Any:
    """Let quotients by one divisor share its reciprocal.

    Parameters
    ----------
    function : tvm.tirx.PrimFunc
        A scheduled program.

    Returns
    -------
    tvm.tirx.PrimFunc
        The same object where no divisor stays the same for long.
    """
    return changed(function, _with_products)


def _with_products(statement: Any, loops: tuple[Any, ...]) -> Any:
    store = getattr(getattr(statement, "block", None), "body", None)
    if not isinstance(store, tirx.BufferStore):
        return None
    value = _shared(store.value, statement, loops)
    if value.same_as(store.value):
        return statement
    return with_block_body(statement, tirx.BufferStore(store.buffer, value, store.indices))


def _shared(value: Any, realize: Any, loops: Sequence[Any]) -> Any:
    """Return an expression with products in place of quotients, the same object if it has none."""
    if isinstance(value, tvm.ir.Call):
        made = [_shared(argument, realize, loops) for argument in value.args]
        if all(one.same_as(before) for one, before in zip(made, value.args, strict=True)):
            return value
        return tvm.ir.Call(value.op, made, value.attrs, value.ty_args, value.span, value.ty)
    if isinstance(value, tirx.Cast):
        inner = _shared(value.value, realize, loops)
        return value if inner.same_as(value.value) else tirx.Cast(value.ty.dtype, inner)
    if not isinstance(value, tirx.Add | tirx.Sub | tirx.Mul | tirx.Div | tirx.Max | tirx.Min):
        return value
    a, b = _shared(value.a, realize, loops), _shared(value.b, realize, loops)
    if isinstance(value, tirx.Div) and _stays(value.b, realize, loops):
        return a * (tirx.const(1.0, str(value.expr_ty())) / b)
    return value if a.same_as(value.a) and b.same_as(value.b) else type(value)(a, b)


def _stays(divisor: Any, realize: Any, loops: Sequence[Any]) -> bool:
    """Whether a divisor is a number that many iterations in a row divide by."""
    if str(divisor.expr_ty()) not in _DTYPES:
        return False
    inside = loops[deciding_loop(in_loops(divisor, realize), loops) + 1 :]
    return prod(map(steps_of, inside)) >= _LEAST_QUOTIENTS
