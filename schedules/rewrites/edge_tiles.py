"""Freeing the tiles that lie inside a matrix from the conditions of those at its edge.

Where a register tile does not divide a matrix, the last ones hang over its edge, so the loads and
stores of every tile ask whether they are inside. One condition around a tile's sums, that of its
last row, chooses between the sums without conditions and the sums as they were, and one around
its stores asks for its last column too. A copied vector asks for its last element. The conditions
are put in when a scheduled program is compiled, as they depend on what the samples of a trace have
become, and are no part of the trace. The results are the same.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import reduce
from typing import Any

from tvm import tirx

from schedules.canonical import objects
from schedules.nests import (
    analyzer_within,
    changed,
    chosen_by,
    conjuncts,
    factors_of,
    in_loops,
    in_nest,
    is_conditional,
    only_realize,
    substituted,
    with_block_body,
    with_parts,
)
from schedules.rewrites.lanes import is_kept
from schedules.space.stage import SCHEDULED, TILED


@dataclass(frozen=True, kw_only=True)
class _Bound:
    """A condition, by its handle, and what makes it hold for all of a tile."""

    condition: int
    guard: Any


def free_whole_tiles(function: Any) -> Any:
    """Let tiles that lie inside a matrix run without conditions.

    Parameters
    ----------
    function : tvm.tirx.PrimFunc
        A scheduled program.

    Returns
    -------
    tvm.tirx.PrimFunc
        The same object where no tile has conditions.
    """
    return changed(function, _freed)


def _freed(statement: Any, loops: tuple[Any, ...]) -> Any:
    if isinstance(statement, tirx.For) and statement.kind == tirx.ForKind.VECTORIZED:
        return _chosen_vector(statement, loops)
    if not loops or not isinstance(statement, tirx.SeqStmt) or not _is_tile(statement):
        return None
    return with_parts(statement, [_chosen(nest, loops) for nest in statement.seq])


def _is_tile(sequence: Any) -> bool:
    """Whether statements start the sums of one tile, take them, and write them back."""
    blocks = [realize and realize.block for _, realize in map(only_realize, sequence.seq)]
    return all(block is not None for block in blocks) and any(
        block.annotations.get(SCHEDULED) == TILED for block in blocks
    )


def _chosen(nest: Any, loops: Sequence[Any]) -> Any:
    """Return a nest beside itself without conditions, the same object if it has none."""
    bounds = list(_bounds(nest, loops))
    if not bounds:
        return nest
    whole = _without(nest, {bound.condition for bound in bounds})
    return chosen_by([bound.guard for bound in bounds], whole, lambda: nest)


def _chosen_vector(loop: Any, loops: Sequence[Any]) -> Any:
    """Return a copied vector beside itself without conditions, if then it has none at all."""
    chosen = _chosen(loop, loops)
    if chosen.same_as(loop):
        return loop
    realize = only_realize(chosen.then_case)[1]
    free = isinstance(realize.predicate, tirx.IntImm) and not any(
        map(is_conditional, objects(realize.block.body))
    )
    kept = all(is_kept(region.source) for region in realize.block.writes)
    return chosen if free and kept else loop


def _bounds(nest: Any, outer: Sequence[Any]) -> Iterator[_Bound]:
    """Find the conditions of a nest that hold for all of it if they hold for its last element."""
    inner, realize = only_realize(nest)
    if realize is None:
        return
    analyzer = analyzer_within([*outer, *inner])
    conditions = [
        *((part, part) for part in conjuncts(realize.predicate)),
        *((part, in_loops(part, realize)) for part in _guards_of_loads(realize.block.body)),
    ]
    for condition, placed in conditions:
        if not isinstance(placed, tirx.LT):
            continue
        last = substituted(
            placed.a,
            [loop.loop_var for loop in inner],
            [loop.min + loop.extent - 1 for loop in inner],
        )
        guard = analyzer.simplify(last < placed.b)
        depends = not isinstance(guard, tirx.IntImm)
        if depends and analyzer.can_prove(placed.a <= last):
            yield _Bound(condition=condition.__chandle__(), guard=guard)


def _guards_of_loads(statement: Any) -> Iterator[Any]:
    """Yield the parts of the conditions on what a block copies, or multiplies for its sum."""
    for factor in (getattr(statement, "value", None), *factors_of(statement)):
        if is_conditional(factor):
            yield from conjuncts(factor.args[0])


def _without(nest: Any, dropped: set[int]) -> Any:
    """Return a nest without conditions that are known to hold."""
    loops, realize = only_realize(nest)
    predicate = _left(realize.predicate, dropped)
    body = realize.block.body
    if isinstance(body, tirx.BufferStore):
        value = _value_without(body.value, dropped)
        if not value.same_as(body.value):
            body = tirx.BufferStore(body.buffer, value, body.indices)
    return in_nest(loops, with_block_body(realize, body, predicate))


def _left(condition: Any, dropped: set[int]) -> Any:
    left = [part for part in conjuncts(condition) if part.__chandle__() not in dropped]
    return reduce(tirx.And, left) if left else tirx.const(True, "bool")


def _value_without(value: Any, dropped: set[int]) -> Any:
    if isinstance(value, tirx.Add | tirx.Mul):
        return type(value)(_value_without(value.a, dropped), _value_without(value.b, dropped))
    if isinstance(value, tirx.Cast):
        return tirx.Cast(value.ty.dtype, _value_without(value.value, dropped))
    if not is_conditional(value):
        return value
    condition, inside, outside = value.args
    left = [part for part in conjuncts(condition) if part.__chandle__() not in dropped]
    return tirx.if_then_else(reduce(tirx.And, left), inside, outside) if left else inside
