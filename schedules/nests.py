"""The loop nests that a scheduled function runs one after the other, taken apart and rebuilt.

Imports TVM, whose statements cannot be changed: what holds a new part is made anew.
"""

from collections.abc import Callable, Iterator, Sequence
from functools import reduce
from typing import Any

import tvm
from tvm import s_tir, sym, tirx
from tvm.tirx.analysis import undefined_vars

_ARITHMETIC = (tirx.Add, tirx.Sub, tirx.Mul, tirx.Div, tirx.Max, tirx.Min)
_IF_THEN_ELSE = "prim.if_then_else"


def nests_of(function: Any) -> list[Any]:
    """Return the statements of a function's root block, in order."""
    body = function.body.block.body
    return list(body.seq) if isinstance(body, tirx.SeqStmt) else [body]


def only_realize(nest: Any) -> tuple[list[Any], Any]:
    """Return the loops of a nest and the block in them, None if they hold anything else."""
    loops = []
    while isinstance(nest, tirx.For):
        loops.append(nest)
        nest = nest.body
    return loops, nest if isinstance(nest, s_tir.SBlockRealize) else None


def only_block(nest: Any) -> Any:
    """Return the block that a nest of loops holds, None if it holds anything else."""
    realize = only_realize(nest)[1]
    return realize and realize.block


def steps_of(loop: Any) -> int:
    """Return how many iterations a loop from zero has, 0 where that is not a constant."""
    known = isinstance(loop.extent, tirx.IntImm) and isinstance(loop.min, tirx.IntImm)
    return int(loop.extent) if known and int(loop.min) == 0 else 0


def conjuncts(condition: Any) -> Iterator[Any]:
    """Yield the parts of a condition that hold together."""
    if isinstance(condition, tirx.And):
        yield from conjuncts(condition.a)
        yield from conjuncts(condition.b)
    else:
        yield condition


def is_call(node: Any, name: str) -> bool:
    """Whether a node calls one of TVM's operators."""
    return isinstance(node, tvm.ir.Call) and getattr(node.op, "name", "") == name


def is_conditional(value: Any) -> bool:
    """Whether an expression computes only the one of two values that its condition chooses."""
    return is_call(value, _IF_THEN_ELSE)


def is_among(node: Any, others: Sequence[Any]) -> bool:
    """Whether a buffer or another node, or None, is one of some."""
    return node is not None and any(node.same_as(other) for other in others)


def factors_of(statement: Any) -> list[Any]:
    """Return the factors of what a block adds to its sum, without casts, if it adds anything."""
    value = getattr(statement, "value", None)
    pending, found = [value.b] if isinstance(value, tirx.Add) else [], []
    while pending:
        factor = pending.pop()
        if isinstance(factor, tirx.Mul):
            pending += [factor.a, factor.b]
        elif isinstance(factor, tirx.Cast):
            pending.append(factor.value)
        else:
            found.append(factor)
    return found


def mapped(value: Any, change: Callable[[Any], Any]) -> Any:
    """Return an expression with other parts, the same object if none is other.

    Parameters
    ----------
    value : tvm.ir.Expr
        Walked through down to its loads, whose indices stay.
    change : callable (part) -> part or None
        Returns what is to stand there, or None to go on inside.
    """
    found = change(value)
    if found is not None:
        return found
    if isinstance(value, tvm.ir.Call):
        made = [mapped(argument, change) for argument in value.args]
        if all(one.same_as(before) for one, before in zip(made, value.args, strict=True)):
            return value
        return with_arguments(value, made)
    if isinstance(value, tirx.Cast):
        inner = mapped(value.value, change)
        return value if inner.same_as(value.value) else tirx.Cast(value.ty.dtype, inner)
    if not isinstance(value, _ARITHMETIC):
        return value
    a, b = mapped(value.a, change), mapped(value.b, change)
    return value if a.same_as(value.a) and b.same_as(value.b) else type(value)(a, b)


def with_arguments(call: Any, arguments: Sequence[Any]) -> Any:
    """Return a call with other arguments."""
    return tvm.ir.Call(call.op, [*arguments], call.attrs, call.ty_args, call.span, call.ty)


# --- in terms of loops ---------------------------------------------------------------------------


def substituted(value: Any, variables: Sequence[Any], values: Sequence[Any]) -> Any:
    """Write an expression with values in place of variables."""
    [written] = tirx.IndexMap([*variables], [value], None).map_indices([*values])
    return written


def in_loops(value: Any, realize: Any) -> Any:
    """Write an expression of a block in terms of the loops around it."""
    variables = [axis.var for axis in realize.block.iter_vars]
    return substituted(value, variables, realize.iter_values)


def deciding_loop(value: Any, loops: Sequence[Any]) -> int:
    """Return the place of the innermost loop that an expression depends on, -1 if it is none."""
    used = {variable.__chandle__() for variable in undefined_vars(value)}
    places = [at for at, loop in enumerate(loops) if loop.loop_var.__chandle__() in used]
    return max(places, default=-1)


def analyzer_within(loops: Sequence[Any]) -> Any:
    """Return an analyzer that knows the bounds of loops."""
    analyzer = sym.Analyzer()
    for loop in loops:
        analyzer.bind(loop.loop_var, tvm.ir.Range.from_min_extent(loop.min, loop.extent))
    return analyzer


# --- rebuilt -------------------------------------------------------------------------------------

Change = Callable[[Any, tuple[Any, ...]], Any]
"""Takes a statement and the loops around it; returns what is to stand there, or None to go on
inside it."""


def changed(function: Any, change: Change) -> Any:
    """Return a function with other statements in its root block, the same object if none is other.

    Loops over the threads of a GPU stay as they are.
    """
    body = function.body.block.body
    found = _changed(body, (), change)
    return function if found.same_as(body) else with_root_body(function, found)


def with_values(function: Any, make: Callable[[Any, Any, Sequence[Any]], Any]) -> Any:
    """Return a function whose blocks store other values, the same object if none is other.

    Parameters
    ----------
    function : tvm.tirx.PrimFunc
        A scheduled program.
    make : callable (value, realize, loops) -> value
        Takes what a realized block stores, with the loops around it.
    """

    def stored(statement: Any, loops: tuple[Any, ...]) -> Any:
        store = getattr(getattr(statement, "block", None), "body", None)
        if not isinstance(store, tirx.BufferStore):
            return None
        value = make(store.value, statement, loops)
        if value.same_as(store.value):
            return statement
        return with_block_body(statement, tirx.BufferStore(store.buffer, value, store.indices))

    return changed(function, stored)


def _changed(statement: Any, loops: tuple[Any, ...], change: Change) -> Any:
    found = change(statement, loops)
    if found is not None:
        return found
    if isinstance(statement, tirx.SeqStmt):
        return with_parts(statement, [_changed(part, loops, change) for part in statement.seq])
    if isinstance(statement, tirx.For) and statement.kind != tirx.ForKind.THREAD_BINDING:
        body = _changed(statement.body, (*loops, statement), change)
        return statement if body.same_as(statement.body) else with_loop_body(statement, body)
    return statement


def with_parts(sequence: Any, parts: Sequence[Any]) -> Any:
    """Return statements in place of those of a sequence, the same object if all are the same."""
    same = all(part.same_as(before) for part, before in zip(parts, sequence.seq, strict=True))
    return sequence if same else tirx.SeqStmt([*parts])


def in_sequence(parts: Sequence[Any]) -> Any:
    """Return statements one after the other; TVM has no sequence of one."""
    return parts[0] if len(parts) == 1 else tirx.SeqStmt([*parts])


def with_root_body(
    function: Any, body: Any, buffers: Sequence[Any] = (), dropped: Sequence[Any] = ()
) -> Any:
    """Return a function with another body of its root block, and more or fewer buffers in it."""
    return function.with_body(
        with_block_body(function.body, body, buffers=buffers, dropped=dropped)
    )


def with_block_body(
    realize: Any,
    body: Any,
    predicate: Any = None,
    buffers: Sequence[Any] = (),
    dropped: Sequence[Any] = (),
) -> Any:
    """Return a realized block with another body, predicate if one is given, and other buffers."""
    block = realize.block
    kept = [buffer for buffer in block.alloc_buffers if not is_among(buffer, dropped)]
    made = s_tir.SBlock(
        block.iter_vars,
        block.reads,
        block.writes,
        block.name_hint,
        body,
        block.init,
        [*kept, *buffers],
        block.match_buffers,
        block.annotations,
    )
    holds = realize.predicate if predicate is None else predicate
    return s_tir.SBlockRealize(realize.iter_values, holds, made)


def with_loop_body(loop: Any, body: Any) -> Any:
    """Return a loop with another body."""
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


def chosen_by(conditions: Sequence[Any], holds: Any, otherwise: Callable[[], Any]) -> Any:
    """Return a statement for where all conditions hold, beside another one for where they do not.

    The other one is made only if there are any. TVM does not look into the conditions: it would
    narrow the buffers of the two by them, to extents that depend on loops inside of them.
    """
    if not conditions:
        return holds
    all_hold = tirx.Cast("int32", reduce(tirx.And, conditions))
    return tirx.IfThenElse(tirx.NE(all_hold, 0), holds, otherwise())


def in_nest(loops: Sequence[Any], innermost: Any) -> Any:
    """Return loops around another statement."""
    for loop in reversed(loops):
        innermost = with_loop_body(loop, innermost)
    return innermost


def repeated(
    extent: int,
    body: Callable[[Any], Any],
    kind: Any = tirx.ForKind.SERIAL,
    *,
    dtype: str = "int32",
) -> Any:
    """Return a loop over a statement that is made of its variable."""
    variable = tirx.Var("step", dtype)
    return tirx.For(variable, 0, extent, kind, body(variable))


def in_vector(lanes: int, body: Callable[[Any], Any]) -> Any:
    """Return a statement for all lanes of a vector at once."""
    if lanes == 1:
        return body(tirx.const(0, "int32"))
    return repeated(lanes, body, tirx.ForKind.VECTORIZED)
