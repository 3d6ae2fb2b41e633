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
from math import prod
from typing import Any

import tvm
from tvm import s_tir, tirx

from schedules.nests import (
    analyzer_within,
    conjuncts,
    deciding_loop,
    factors_of,
    in_loops,
    is_conditional,
    nests_of,
    only_block,
    steps_of,
    with_loop_body,
    with_parts,
    with_root_body,
)
from schedules.space.stage import SCHEDULED, TILED

_LEAST_STEPS = 8
"""Of the sum, for one condition: around a single step, as where channels come first and are the
outermost loop of the sum, it costs more than it saves."""

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
    return with_root_body(function, body)


def _padded_buffers(function: Any) -> Iterator[tuple[int, list[_Bounds]]]:
    """Find the buffers that a block of their own pads with zeros, by their handles."""
    for block in filter(None, map(only_block, nests_of(function))):
        store = block.body
        if (
            isinstance(store, tirx.BufferStore)
            and is_conditional(store.value)
            and _is_zero(store.value.args[2])
        ):
            indices = list(store.indices)
            parts = conjuncts(store.value.args[0])
            bounds = [bound for part in parts for bound in _bounds(part, indices)]
            if bounds:
                yield store.buffer.__chandle__(), bounds


def _is_zero(value: Any) -> bool:
    return isinstance(value, tirx.IntImm | tirx.FloatImm) and value.value == 0


def _bounds(condition: Any, indices: Sequence[Any]) -> Iterator[_Bounds]:
    """Read what a condition says of a single axis, if it does."""
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
        return (statement if same else with_loop_body(statement, body)), conditions
    if isinstance(statement, tirx.SeqStmt):
        inside = _Place(loops=place.loops, shared=len(place.loops))
        return with_parts(statement, [_walk(part, inside, padded)[0] for part in statement.seq]), {}
    if isinstance(statement, tirx.IfThenElse) and statement.else_case is not None:
        # The sums of a tile, without conditions of their own and with them.
        inside = _Place(loops=place.loops, shared=len(place.loops))
        whole = _walk(statement.then_case, inside, padded)[0]
        same = whole.same_as(statement.then_case)
        return (
            statement if same else tirx.IfThenElse(statement.condition, whole, statement.else_case)
        ), {}
    if isinstance(statement, s_tir.SBlockRealize):
        return statement, _conditions(statement, place, padded)
    return statement, {}


def _conditions(
    realize: Any, place: _Place, padded: Mapping[int, list[_Bounds]]
) -> dict[int, list[Any]]:
    """Return on what a sum's step depends, by the number of the innermost loop that decides it."""
    block = realize.block
    if block.init is not None or block.annotations.get(SCHEDULED) != TILED:
        return {}
    analyzer = analyzer_within(place.loops)
    found: dict[int, list[Any]] = {}
    # Each makes what the block adds to its sum zero where it is zero.
    loads = [part for part in factors_of(block.body) if isinstance(part, tvm.ir.TensorLoad)]
    for load in loads:
        for axis, start, end in padded.get(load.source.__chandle__(), ()):
            index = analyzer.simplify(in_loops(load.indices[axis], realize))
            depth = deciding_loop(index, place.loops)
            if depth < place.shared or place.loops[depth].kind != tirx.ForKind.SERIAL:
                continue
            if _serial_steps(place.loops[depth + 1 :]) < _LEAST_STEPS:
                continue
            condition = index < end if start is None else index >= start
            if not analyzer.can_prove(condition):
                found.setdefault(depth, []).append(condition)
    return found


def _serial_steps(loops: Sequence[Any]) -> int:
    return prod(steps_of(loop) for loop in loops if loop.kind == tirx.ForKind.SERIAL)
