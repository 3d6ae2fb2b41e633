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

from tvm import tirx

from schedules.nests import deciding_loop, in_loops, mapped, steps_of, with_values

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
    return with_values(function, _shared)


def _shared(value: Any, realize: Any, loops: Sequence[Any]) -> Any:
    """Return an expression with products in place of quotients, the same object if it has none."""

    def product(part: Any) -> Any:
        if not isinstance(part, tirx.Div) or not _stays(part.b, realize, loops):
            return None
        a, b = _shared(part.a, realize, loops), _shared(part.b, realize, loops)
        return a * (tirx.const(1.0, str(part.expr_ty())) / b)

    return mapped(value, product)


def _stays(divisor: Any, realize: Any, loops: Sequence[Any]) -> bool:
    """Whether a divisor is a number that many iterations in a row divide by."""
    if str(divisor.expr_ty()) not in _DTYPES:
        return False
    inside = loops[deciding_loop(in_loops(divisor, realize), loops) + 1 :]
    return prod(map(steps_of, inside)) >= _LEAST_QUOTIENTS
