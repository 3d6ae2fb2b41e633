"""Ending rows of odd lengths with a vector too.

The compiler makes vectors of a loop over a row and takes what is left number by number: of a row of
77 exponentials, 13. One more vector that ends where the row ends computes some of them a second
time, which does no harm where a loop does not read what it writes. TVM may give two buffers of its
own one memory if one is made of the other, element by element; between those the last vector
is as short as what is left.
"""

from collections.abc import Iterator, Sequence
from typing import Any

from tvm import tirx

from schedules.nests import (
    changed,
    deciding_loop,
    in_loops,
    in_vector,
    is_among,
    only_realize,
    repeated,
    steps_of,
    substituted,
)
from schedules.rewrites.lanes import LANES, buffers_read_by, lies_along, moves_along, reads

_NO_ALIAS = "tirx.noalias"
"""Attribute of a function whose parameters never share memory."""


def end_in_vectors(function: Any) -> Any:
    """Let loops over rows that vectors do not divide end with a vector.

    Parameters
    ----------
    function : tvm.tirx.PrimFunc
        A scheduled program.

    Returns
    -------
    tvm.tirx.PrimFunc
        The same object where there is none.
    """
    share_nothing = bool((function.attrs or {}).get(_NO_ALIAS, False))
    apart = function.params if share_nothing else ()

    def ended(statement: Any, loops: tuple[Any, ...]) -> Any:
        if not isinstance(statement, tirx.For):
            return None
        [loop, *inner], realize = only_realize(statement)
        if inner or realize is None or not _is_uneven(loop, realize, loops):
            return None
        stores = tirx.SeqStmt(list(_in_vectors(loop, realize, apart)))
        always = isinstance(realize.predicate, tirx.IntImm)
        return stores if always else tirx.IfThenElse(realize.predicate, stores, None)

    return changed(function, ended)


def _is_uneven(loop: Any, realize: Any, outer: Sequence[Any]) -> bool:
    """Whether a loop writes side by side what does not fill vectors, and does not read it."""
    block, extent = realize.block, steps_of(loop)
    store = block.body
    spatial = all(int(axis.iter_type) == tirx.IterVar.DataPar for axis in block.iter_vars)
    if (
        loop.kind != tirx.ForKind.SERIAL
        or extent < LANES
        or extent % LANES == 0
        or not spatial
        or not isinstance(store, tirx.BufferStore)
        or deciding_loop(realize.predicate, [loop]) == 0
    ):
        return False
    loops, place = [*outer, loop], len(outer)
    return (
        not reads(store.value, store.buffer)
        and moves_along([in_loops(index, realize) for index in store.indices], loops, place)
        and lies_along(in_loops(store.value, realize), loops, place)
    )


def _in_vectors(loop: Any, realize: Any, apart: Sequence[Any]) -> Iterator[Any]:
    """Yield the stores of whole vectors, and of the one at the end.

    Buffers that are `apart` share their memory with no other.
    """
    store, extent = realize.block.body, int(loop.extent)

    def stored(at: Any) -> Any:
        value, *indices = (
            substituted(in_loops(part, realize), [loop.loop_var], [at])
            for part in (store.value, *store.indices)
        )
        return tirx.BufferStore(store.buffer, value, indices)

    yield repeated(
        extent // LANES, lambda step: in_vector(LANES, lambda lane: stored(step * LANES + lane))
    )
    may_share = not is_among(store.buffer, apart) and any(
        not is_among(buffer, apart) for buffer in buffers_read_by(store.value)
    )
    start = extent // LANES * LANES if may_share else extent - LANES
    yield in_vector(extent - start, lambda lane: stored(start + lane))
