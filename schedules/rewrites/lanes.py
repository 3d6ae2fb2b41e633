"""What the rewrites that make vectors of scalar loops share."""

from collections.abc import Sequence
from typing import Any

import tvm

from schedules.canonical import objects
from schedules.nests import analyzer_within, deciding_loop, is_conditional, substituted

LANES = 16
"""Of a vector; the compiler makes several of it where registers are shorter."""


def is_kept(buffer: Any) -> bool:
    """Whether TVM compiles a buffer's dtype as it is.

    It emulates bfloat16, buffer by buffer, by what is stored where: other stores, other dtypes.
    """
    return str(buffer.ty.dtype.dtype) != "bfloat16"


def reads(expression: Any, buffer: Any) -> bool:
    """Whether an expression loads from a buffer."""
    return any(read.same_as(buffer) for read in buffers_read_by(expression))


def buffers_read_by(expression: Any) -> list[Any]:
    """Return the buffers that an expression loads from, as often as it does."""
    return [node.source for node in objects(expression) if isinstance(node, tvm.ir.TensorLoad)]


def lies_along(expression: Any, loops: Sequence[Any], place: int) -> bool:
    """Whether vectors can hold an expression in a loop's iterations, side by side in memory.

    Parameters
    ----------
    expression : tvm.ir.Expr
        In terms of loops.
    loops : sequence of tvm.tirx.For
        All that it may depend on.
    place : int
        Of the loop among them.
    """
    nodes = list(objects(expression))
    return not any(map(is_conditional, nodes)) and all(
        moves_along(node.indices, loops, place, steps=(0, 1))
        for node in nodes
        if isinstance(node, tvm.ir.TensorLoad)
    )


def moves_along(
    indices: Sequence[Any], loops: Sequence[Any], place: int, *, steps: Sequence[int] = (1,)
) -> bool:
    """Whether indices, in terms of loops, move by one of some steps in each iteration of one."""
    *upper, last = indices
    loop = loops[place]
    if any(deciding_loop(index, [loop]) == 0 for index in upper):
        return False
    moved = substituted(last, [loop.loop_var], [loop.loop_var + 1]) - last
    analyzer = analyzer_within(loops)
    return any(analyzer.can_prove_equal(moved, step) for step in steps)
