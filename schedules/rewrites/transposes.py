"""Copies that transpose read along memory, and turn blocks of a matrix in registers.

A panel of columns whose matrix lies the other way round, as the weights of a dense layer do, was
gathered: each vector of the panel from as many places as it has lanes. Now as many vectors are read
as they have lanes, each along the matrix, and interleaved until they lie along the panel.

Source: Eklundh, A Fast Computer Method for Matrix Transposing, 1972, for exchanges in log2 steps.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import tvm
from tvm import tirx

from schedules.nests import (
    analyzer_within,
    changed,
    chosen_by,
    conjuncts,
    in_loops,
    in_nest,
    in_vector,
    is_conditional,
    only_realize,
    repeated,
    steps_of,
    substituted,
)
from schedules.rewrites.lanes import is_kept, moves_along

_LANES = (4, 8, 16)
_PLAIN = (tirx.ForKind.SERIAL, tirx.ForKind.UNROLLED)


def turn_in_registers(function: Any) -> Any:
    """Let copies that write vectors across what they read transpose blocks of it.

    Parameters
    ----------
    function : tvm.tirx.PrimFunc
        A scheduled program.

    Returns
    -------
    tvm.tirx.PrimFunc
        The same object where there is none.
    """

    def in_blocks(statement: Any, outer: tuple[Any, ...]) -> Any:
        copy = _find_copy(statement, outer)
        return None if copy is None else _in_blocks(copy)

    return changed(function, in_blocks)


@dataclass(frozen=True, kw_only=True)
class _Copy:
    """A loop along what is read, in it a vector along what is written; all in terms of loops.

    Attributes
    ----------
    along : tvm.tirx.For
        Each step reads the next element.
    between : tuple of tvm.tirx.For
        Loops between the two.
    across : tvm.tirx.For
        Each step, a lane, writes the next element.
    source, target : tvm.tirx.Buffer
        What is read, and written.
    reads, writes : tuple of tvm.ir.Expr
        Their indices.
    value : tvm.ir.Expr
        What is read, or other values where conditions do not hold.
    conditions : tuple of tvm.ir.Expr
        Hold for all of a block if they do at its last row and column.
    """

    along: Any
    between: tuple[Any, ...]
    across: Any
    source: Any
    target: Any
    reads: tuple[Any, ...]
    writes: tuple[Any, ...]
    value: Any
    conditions: tuple[Any, ...]

    @property
    def lanes(self) -> int:
        """Rows and columns of a block."""
        return int(self.across.extent)

    def at(self, expression: Any, step: Any, lane: Any) -> Any:
        """Write an expression for one step of the loop along, and one lane."""
        return substituted(expression, [self.along.loop_var, self.across.loop_var], [step, lane])


def _find_copy(statement: Any, outer: Sequence[Any]) -> _Copy | None:
    if not isinstance(statement, tirx.For) or statement.kind != tirx.ForKind.SERIAL:
        return None
    [along, *between], realize = only_realize(statement)
    if realize is None or not between or not isinstance(realize.predicate, tirx.IntImm):
        return None
    across, store = between.pop(), realize.block.body
    load = _copied(store)
    if (
        load is None
        or across.kind != tirx.ForKind.VECTORIZED
        or steps_of(across) not in _LANES
        or steps_of(along) < steps_of(across)
        or any(loop.kind not in _PLAIN for loop in between)
        or any(loop.kind == tirx.ForKind.UNROLLED for loop in outer)
    ):
        return None
    loops = [*outer, along, *between, across]
    analyzer = analyzer_within(loops)

    def flat(expression: Any) -> Any:
        return analyzer.simplify(in_loops(expression, realize))

    conditions = conjuncts(store.value.args[0]) if is_conditional(store.value) else ()
    copy = _Copy(
        along=along,
        between=tuple(between),
        across=across,
        source=load.source,
        target=store.buffer,
        reads=tuple(map(flat, load.indices)),
        writes=tuple(map(flat, store.indices)),
        value=flat(store.value),
        conditions=tuple(in_loops(one, realize) for one in conditions),
    )
    turns = (
        moves_along(copy.reads, loops, len(outer))
        and moves_along(copy.writes, loops, len(loops) - 1)
        and not moves_along(copy.reads, loops, len(loops) - 1, steps=(0, 1))
        and all(ends_once(one, (along, across), analyzer) for one in copy.conditions)
    )
    return copy if turns else None


def _copied(store: Any) -> Any:
    """Return the load that a statement stores as it is, or where a condition holds, if it does."""
    if not isinstance(store, tirx.BufferStore) or not is_kept(store.buffer):
        return None
    load = store.value.args[1] if is_conditional(store.value) else store.value
    is_other = isinstance(load, tvm.ir.TensorLoad) and not load.source.same_as(store.buffer)
    return load if is_other else None


def ends_once(condition: Any, loops: Sequence[Any], analyzer: Any) -> bool:
    """Whether a condition that holds in an iteration of some loops holds in all before it."""
    if not isinstance(condition, tirx.LT) or not isinstance(condition.b, tirx.IntImm):
        return False
    return all(
        analyzer.can_prove(
            substituted(condition.a, [loop.loop_var], [loop.loop_var + 1]) >= condition.a
        )
        for loop in loops
    )


def _in_blocks(copy: _Copy) -> Any:
    """Return the loop over whole blocks, and that over the steps that are left."""
    lanes, extent = copy.lanes, steps_of(copy.along)
    blocks = repeated(extent // lanes, lambda at: _between(copy, _block(copy, at * lanes)))
    rest = extent % lanes
    if not rest:
        return blocks
    start = extent - rest
    left = repeated(rest, lambda at: _between(copy, _vector(copy, start + at)))
    return tirx.SeqStmt([blocks, left])


def _between(copy: _Copy, body: Any) -> Any:
    """Return a statement in the loops between, none unrolled: TVM would define vectors twice."""
    loops = [
        tirx.For(loop.loop_var, loop.min, loop.extent, tirx.ForKind.SERIAL, loop.body)
        for loop in copy.between
    ]
    return in_nest(loops, body)


def _block(copy: _Copy, start: Any) -> Any:
    """Return the statement for a block: as a whole where no condition cuts it off."""
    last = copy.lanes - 1
    return chosen_by(
        [copy.at(condition, start + last, last) for condition in copy.conditions],
        tirx.SeqStmt(_turned(copy, start)),
        lambda: repeated(copy.lanes, lambda at: _vector(copy, start + at)),
    )


def _vector(copy: _Copy, step: Any) -> Any:
    """Return the store of one vector, gathered."""
    return in_vector(
        copy.lanes,
        lambda lane: tirx.BufferStore(
            copy.target,
            copy.at(copy.value, step, lane),
            [copy.at(index, step, lane) for index in copy.writes],
        ),
    )


def _turned(copy: _Copy, start: Any) -> list[Any]:
    """Return the statements that read a block's rows, turn it, and write its columns."""
    lanes = copy.lanes
    dtype = f"{copy.target.ty.dtype}x{lanes}"
    statements = []

    def bound(name: str, vector: Any) -> Any:
        variable = tirx.Var(name, dtype)
        statements.append(tirx.Bind(variable, vector))
        return variable

    def row(lane: int) -> Any:
        *upper, last = (copy.at(index, start, lane) for index in copy.reads)
        return tirx.BufferLoad(copy.source, [*upper, tirx.Ramp(last, 1, lanes)])

    def mixed(one: Any, other: Any, places: Sequence[int]) -> Any:
        return bound("mixed", tirx.Shuffle([one, other], [tirx.const(at) for at in places]))

    rows = [bound(f"row_{lane}", row(lane)) for lane in range(lanes)]
    for step, column in enumerate(turned(rows, mixed)):
        *upper, last = (copy.at(index, start + step, 0) for index in copy.writes)
        indices = [*upper, tirx.Ramp(last, 1, lanes)]
        statements.append(tirx.BufferStore(copy.target, column, indices))
    return statements


def turned(rows: Sequence[Any], mix: Callable[[Any, Any, Sequence[int]], Any]) -> Sequence[Any]:
    """Transpose a square block of vectors.

    Parameters
    ----------
    rows : sequence
        As many vectors as each has lanes, a power of two.
    mix : callable (one, other, places) -> vector
        Makes a vector of the lanes of two, which are counted through both.
    """
    lanes, half = len(rows), len(rows) // 2
    vectors = list(rows)
    # Half of the places' bits change owner between vectors and lanes in turn: a step for each bit.
    for _ in range(lanes.bit_length() - 1):
        pairs = list(zip(vectors[:half], vectors[half:], strict=True))
        vectors = [
            mix(
                one,
                other,
                [at for lane in range(half) for at in (start + lane, lanes + start + lane)],
            )
            for one, other in pairs
            for start in (0, half)
        ]
    return vectors
