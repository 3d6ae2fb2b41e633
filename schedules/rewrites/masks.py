"""Computing both values of a mask, where either may be computed.

A condition in a value guards what it chooses: TVM computes only that, one element at a time, as
what was not chosen may lie outside of its buffer. Where all that the condition chooses between lies
inside anyway, as with a causal mask over scores, vectors take both values and choose by lane.
"""

from collections.abc import Sequence
from typing import Any

import tvm
from tvm import tirx

from schedules.canonical import objects
from schedules.nests import analyzer_within, in_loops, is_conditional, mapped, with_values

_DIVISIONS = (tirx.FloorDiv, tirx.FloorMod, tirx.Mod)


def choose_by_lane(function: Any) -> Any:
    """Let masks over what always lies inside its buffer compute both of their values.

    Parameters
    ----------
    function : tvm.tirx.PrimFunc
        A scheduled program.

    Returns
    -------
    tvm.tirx.PrimFunc
        The same object where there is none.
    """
    return with_values(function, _with_both)


def _with_both(value: Any, realize: Any, loops: Sequence[Any]) -> Any:
    def both(part: Any) -> Any:
        if not is_conditional(part) or not _is_safe(part, realize, loops):
            return None
        condition, *values = part.args
        return tirx.Select(condition, *(_with_both(one, realize, loops) for one in values))

    return mapped(value, both)


def _is_safe(value: Any, realize: Any, loops: Sequence[Any]) -> bool:
    """Whether an expression may be computed wherever its block is."""
    nodes = list(objects(value))
    if any(isinstance(node, _DIVISIONS) and not isinstance(node.b, tirx.IntImm) for node in nodes):
        return False
    analyzer = analyzer_within(loops)
    with analyzer.constraint_scope(realize.predicate):
        return all(
            analyzer.can_prove(tirx.all(placed >= 0, placed < extent))
            for node in nodes
            if isinstance(node, tvm.ir.TensorLoad)
            for index, extent in zip(node.indices, node.source.ty.shape, strict=True)
            for placed in [in_loops(index, realize)]
        )
