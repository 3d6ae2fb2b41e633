"""Leaving out the terms of a sum that padding makes zero. Imports TVM.

A convolution adds up products over a window that hangs over the edge of its input, where the padded
copy holds zeros. Where all outputs of a register tile lie in one row of the image, a whole step of
the sum at such a place adds nothing to any of them: on a map of 7 by 7 with a window of 3 by 3, to
a tenth of all. A condition around the step leaves it out. It is put in when a scheduled program is
compiled, as it depends on what the samples of a trace have become, and is no part of the trace.

It changes no sum of finite numbers. Where the other factor is infinite, a product with padding was
not a number, and is now left out, as by libraries that never see the padding.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import reduce
from typing import Any

import tvm
from tvm import s_tir, sym, tirx
from tvm.tirx.analysis import undefined_vars

from schedules.nests import nests_of, only_block
from schedules.space.stage import SCHEDULED, TILED

VERSION = 1
"""Changes when generated code does; part of the environment of a measurement."""

_IF_THEN_ELSE = "prim.if_then_else"
_Bounds = tuple[int, int | None, int | None]
"""An axis of a padded buffer, and from where, or up to where, it holds more than zeros."""


@dataclass(frozen=True, kw_only=True)
class _Place:
    """Where a walk is: the loops around it, and how many of them hold something else too."""

    loops: tuple[Any, ...] = ()
    shared: int = 0


def skip_zero_terms(function: Any) -> Any:
    """Leave out the steps of tiled sums that only see padding.

    Parameters
    ----------
    function : tvm.tirx.PrimFunc
        A scheduled program.

    Returns
    -------
    tvm.tirx.PrimFunc
        The same object where there is nothing to leave out.
    """
    root = function.body.block
    padded = dict(_padded_buffers(function))
    if not padded:
        return function
    body, _ = _walk(root.body, _Place(), padded)
    if body.same_as(root.body):
        return function
    block = s_tir.SBlock(
        root.iter_vars,
        root.reads,
        root.writes,
        root.name_hint,
        body,
        root.init,
        root.alloc_buffers,
        root.match_buffers,
        root.annotations,
    )
    realize = s_tir.SBlockRealize(function.body.iter_values, function.body.predicate, block)
    return function.with_body(realize)


def _padded_buffers(function: Any) -> Iterator[tuple[int, list[_Bounds]]]:
    """Find the buffers that a block of their own pads with zeros, by their handles."""
    for block in filter(None, map(only_block, nests_of(function))):
        store = block.body
        value = getattr(store, "value", None)
        if (
            isinstance(store, tirx.BufferStore)
            and isinstance(value, tvm.ir.Call)
            and getattr(value.op, "name", "") == _IF_THEN_ELSE
            and _is_zero(value.args[2])
        ):
            bounds = list(_bounds(value.args[0], list(store.indices)))
            if bounds:
                yield store.buffer.__chandle__(), bounds


def _is_zero(value: Any) -> bool:
    return isinstance(value, tirx.IntImm | tirx.FloatImm) and value.value == 0


def _bounds(condition: Any, indices: Sequence[Any]) -> Iterator[_Bounds]:
    """Read what a condition says of single axes; parts that say something else are left out."""
    if isinstance(condition, tirx.And):
        yield from _bounds(condition.a, indices)
        yield from _bounds(condition.b, indices)
        return
    sides = (getattr(condition, "a", None), getattr(condition, "b", None))
    for axis, index in enumerate(indices):
        for place, (side, other) in enumerate((sides, sides[::-1])):
            if side is None or not index.same_as(side) or not isinstance(other, tirx.IntImm):
                continue
            limit, below = int(other), place == 0
            if isinstance(condition, tirx.LT | tirx.LE):
                step = isinstance(condition, tirx.LE)
            elif isinstance(condition, tirx.GT | tirx.GE):
                below, step = not below, isinstance(condition, tirx.GE)
            else:
                continue
            yield (axis, None, limit + step) if below else (axis, limit + (not step), None)


def _walk(
    statement: Any, place: _Place, padded: Mapping[int, list[_Bounds]]
) -> tuple[Any, dict[int, list[Any]]]:
    """Return a statement with its conditions, and those that belong to loops around it."""
    if isinstance(statement, tirx.For):
        inside = _Place(loops=(*place.loops, statement), shared=place.shared)
        body, conditions = _walk(statement.body, inside, padded)
        own = conditions.pop(len(place.loops), [])
        if own:
            body = tirx.IfThenElse(reduce(tirx.And, own), body, None)
        same = body.same_as(statement.body)
        return (statement if same else _with_body(statement, body)), conditions
    if isinstance(statement, tirx.SeqStmt):
        inside = _Place(loops=place.loops, shared=len(place.loops))
        parts = [_walk(part, inside, padded)[0] for part in statement.seq]
        same = all(part.same_as(before) for part, before in zip(parts, statement.seq, strict=True))
        return (statement if same else tirx.SeqStmt(parts)), {}
    if isinstance(statement, s_tir.SBlockRealize):
        return statement, _conditions(statement, place, padded)
    return statement, {}


def _with_body(loop: Any, body: Any) -> Any:
    return tirx.For(
        loop.loop_var,
        loop.min,
        loop.extent,
        loop.kind,
        body,
        loop.thread_binding,
        loop.annotations,
        loop.step,
    )


def _conditions(
    realize: Any, place: _Place, padded: Mapping[int, list[_Bounds]]
) -> dict[int, list[Any]]:
    """Return on what a sum's step depends, by the number of the innermost loop that decides it."""
    block = realize.block
    if block.init is not None or block.annotations.get(SCHEDULED) != TILED:
        return {}
    analyzer = sym.Analyzer()
    for loop in place.loops:
        analyzer.bind(loop.loop_var, tvm.ir.Range.from_min_extent(loop.min, loop.extent))
    found: dict[int, list[Any]] = {}
    for load in _factors(block.body):
        for axis, start, end in padded.get(load.source.__chandle__(), ()):
            index = analyzer.simplify(_in_loops(load.indices[axis], realize))
            depth = _deciding_loop(index, place.loops)
            if depth < place.shared or place.loops[depth].kind != tirx.ForKind.SERIAL:
                continue
            condition = index < end if start is None else index >= start
            if not analyzer.can_prove(condition):
                found.setdefault(depth, []).append(condition)
    return found


def _factors(statement: Any) -> list[Any]:
    """Return the loads of which each makes what a block adds to its sum zero where it is zero."""
    value = getattr(statement, "value", None)
    if not isinstance(value, tirx.Add):
        return []
    pending, found = [value.b], []
    while pending:
        factor = pending.pop()
        if isinstance(factor, tirx.Mul):
            pending += [factor.a, factor.b]
        elif isinstance(factor, tirx.Cast):
            pending.append(factor.value)
        elif isinstance(factor, tvm.ir.TensorLoad):
            found.append(factor)
    return found


def _in_loops(index: Any, realize: Any) -> Any:
    """Write an index of a block in terms of the loops around it."""
    variables = [axis.var for axis in realize.block.iter_vars]
    [written] = tirx.IndexMap(variables, [index], None).map_indices(list(realize.iter_values))
    return written


def _deciding_loop(index: Any, loops: Sequence[Any]) -> int:
    """Return the place of the innermost loop that an index depends on, -1 if there is none."""
    used = {variable.__chandle__() for variable in undefined_vars(index)}
    places = [at for at, loop in enumerate(loops) if loop.loop_var.__chandle__() in used]
    return max(places, default=-1)
