"""Taking sums along contiguous memory in vector lanes, whatever their length.

The schedule primitives divide a sum to lanes only where the lanes divide it, so that a row of a
prime length is left to be summed number by number. The compiler may not do better, as that adds in
another order. Here such a sum, or maximum, is taken in vectors, of which the last one overlaps the
one before, with what was there already left out; at the end the lanes are folded in halves.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import tvm
from tvm import tirx

from schedules.nests import (
    changed,
    deciding_loop,
    in_loops,
    in_nest,
    in_vector,
    only_realize,
    repeated,
    steps_of,
    substituted,
    with_root_body,
)
from schedules.rewrites.lanes import LANES, lies_along, reads

LEAST_TERMS = 32
"""Below which folding lanes takes longer than the sum."""
_REGISTERS = 4
"""That are added to in turn, where there are terms for it: an addition takes four cycles."""
_OPERATIONS = (tirx.Add, tirx.Max, tirx.Min)


@dataclass(frozen=True, kw_only=True)
class _Sum:
    """A loop that folds one term after the other into an element of a buffer.

    Attributes
    ----------
    length : int
        Iterations of the loop.
    inner : sequence of loops
        Unrolled ones inside it, each with an element of its own.
    condition : tvm.ir.Expr
        Whether it is run at all.
    operation : type
        What combines two numbers.
    total : TensorLoad
        The element, in terms of loops.
    term : callable
        The term of an iteration.
    """

    length: int
    inner: Sequence[Any]
    condition: Any
    operation: Any
    total: Any
    term: Callable[[Any], Any] = field(repr=False)


def sum_in_lanes(function: Any) -> Any:
    """Let sums that are left to be taken number by number be taken in lanes.

    Parameters
    ----------
    function : tvm.tirx.PrimFunc
        A scheduled program.

    Returns
    -------
    tvm.tirx.PrimFunc
        The same object where there is none.
    """
    partials: list[Any] = []

    def in_lanes(statement: Any, loops: tuple[Any, ...]) -> Any:
        found = _sum_in(statement, loops)
        if found is None:
            return None
        partials.append(_partial(found, len(partials)))
        summed = tirx.SeqStmt(list(_in_lanes(found, partials[-1])))
        if not isinstance(found.condition, tirx.IntImm):
            summed = tirx.IfThenElse(found.condition, summed, None)
        return in_nest(found.inner, summed)

    summed = changed(function, in_lanes)
    return with_root_body(summed, summed.body.block.body, partials) if partials else function


def _sum_in(loop: Any, outer: Sequence[Any]) -> _Sum | None:
    """Recognise a loop over the terms of a sum that lie side by side."""
    if not isinstance(loop, tirx.For) or loop.kind != tirx.ForKind.SERIAL:
        return None
    [_, *inner], realize = only_realize(loop)
    few = steps_of(loop) < LEAST_TERMS
    if few or realize is None or any(one.kind != tirx.ForKind.UNROLLED for one in inner):
        return None
    store = realize.block.body
    conditional = deciding_loop(realize.predicate, [loop]) == 0
    if realize.block.init is not None or conditional or not isinstance(store, tirx.BufferStore):
        return None
    parts = _combined(store)
    if parts is None or reads(parts[1], store.buffer):
        return None
    loops = [*outer, loop, *inner]
    total, term = (in_loops(part, realize) for part in parts)
    if any(deciding_loop(index, [loop]) == 0 for index in total.indices):
        return None
    if deciding_loop(term, [loop]) < 0 or not lies_along(term, loops, len(outer)):
        return None
    return _Sum(
        length=int(loop.extent),
        inner=inner,
        condition=realize.predicate,
        operation=type(store.value),
        total=total,
        term=lambda at: substituted(term, [loop.loop_var], [at]),
    )


def _combined(store: Any) -> tuple[Any, Any] | None:
    """Return the element that a store combines a term with, and the term."""
    value = store.value
    if not isinstance(value, _OPERATIONS):
        return None
    for held, term in ((value.a, value.b), (value.b, value.a)):
        if (
            isinstance(held, tvm.ir.TensorLoad)
            and held.source.same_as(store.buffer)
            and all(
                one.same_as(other) for one, other in zip(held.indices, store.indices, strict=True)
            )
        ):
            return held, term
    return None


def _partial(found: _Sum, number: int) -> Any:
    registers = _REGISTERS if found.length >= LANES * _REGISTERS**2 else 1
    dtype = str(found.total.expr_ty())
    return tirx.decl_buffer((LANES * registers,), dtype, name=f"lanes_{number}", scope="local")


def _in_lanes(found: _Sum, partial: Any) -> Iterator[Any]:
    """Yield the statements that add all terms to the total."""
    operation, length = found.operation, found.length
    whole = int(partial.ty.shape[0])

    def combine(lane: Any, term: Any) -> Any:
        return tirx.BufferStore(partial, operation(partial[lane], term), [lane])

    yield in_vector(whole, lambda lane: tirx.BufferStore(partial, found.term(lane), [lane]))
    done = whole
    for width in dict.fromkeys((whole, LANES)):
        yield from _vectors(width, done, length, lambda lane, at: combine(lane, found.term(at)))
        done += (length - done) // width * width
    if done < length:
        # What the vector before has seen changes no maximum, but would a sum.
        start = length - LANES

        def last(lane: Any) -> Any:
            term = found.term(start + lane)
            if operation is tirx.Add:
                zero = tirx.const(0, str(term.expr_ty()))
                term = tirx.Select(lane >= done - start, term, zero)
            return combine(lane, term)

        yield in_vector(LANES, last)
    while whole > 1:
        whole //= 2
        yield _folded(whole, partial, combine)
    total = found.total
    yield tirx.BufferStore(total.source, operation(total, partial[0]), [*total.indices])


def _vectors(width: int, start: int, end: int, body: Callable[[Any, Any], Any]) -> Iterator[Any]:
    """Yield a loop over the whole vectors between two places, if there are any."""
    count = (end - start) // width
    if count:
        yield repeated(
            count,
            lambda step: in_vector(width, lambda lane: body(lane, start + step * width + lane)),
        )


def _folded(lanes: int, partial: Any, combine: Callable[[Any, Any], Any]) -> Any:
    """Add the upper half of so many lanes twice to the lower."""
    return in_vector(lanes, lambda lane: combine(lane, partial[lane + lanes]))
