"""Copies that transpose words of four bytes turn blocks of them in registers.

Panels for instructions that add four products of bytes at once hold four steps of a row or column
side by side, a word, and the words of all rows of a tile one after the other. They were moved one
by one, which stores four bytes at a time. Now up to 16 rows are read in vectors of 16 words, turned
(`schedules.rewrites.transposes`), and written as 16 vectors. Expressions hold no words of bytes, so
it stands in LLVM's language.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import tvm
from tvm import s_tir, tirx

from schedules.nests import (
    analyzer_within,
    changed,
    chosen_by,
    conjuncts,
    in_loops,
    in_nest,
    in_sequence,
    is_among,
    is_conditional,
    only_realize,
    repeated,
    steps_of,
    substituted,
)
from schedules.rewrites import word_source
from schedules.rewrites.transposes import ends_once
from schedules.space.dots import LANES

_WORD = 4
"""Bytes."""
_PLAIN = (tirx.ForKind.SERIAL, tirx.ForKind.PARALLEL)


def turn_words(function: Any) -> Any:
    """Let copies of bytes that move words across what they read transpose blocks of them.

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
        copy = _find_copy(statement, outer, function.params)
        return None if copy is None else _in_blocks(copy)

    return changed(function, in_blocks)


@dataclass(frozen=True, kw_only=True)
class _Copy:
    """A nest that copies words; all in terms of its loops.

    Attributes
    ----------
    others : tuple of tvm.tirx.For
        Loops over blocks.
    along, across, within : tvm.tirx.For
        Each step reads the next word, writes the next word, is the next byte of both.
    source : tvm.ir.TensorLoad
        What is read.
    store : tvm.tirx.BufferStore
        The whole statement.
    row_bytes : int
        How far what is read moves in a step of the loop across.
    flips : int
        Bits of each word that are stored the other way round.
    conditions : tuple of tvm.ir.Expr
        Hold for all of a block if they do at its last byte.
    """

    others: tuple[Any, ...]
    along: Any
    across: Any
    within: Any
    source: Any
    store: Any
    row_bytes: int
    flips: int
    conditions: tuple[Any, ...]

    def at(self, expression: Any, step: Any, row: Any, byte: Any) -> Any:
        """Write an expression for one step of each loop."""
        loops = (self.along, self.across, self.within)
        return substituted(expression, [loop.loop_var for loop in loops], [step, row, byte])


def _find_copy(statement: Any, outer: Sequence[Any], params: Sequence[Any]) -> _Copy | None:
    if not isinstance(statement, tirx.For):
        return None
    [*others, within], realize = only_realize(statement)
    if (
        realize is None
        or not isinstance(realize.predicate, tirx.IntImm)
        or within.kind != tirx.ForKind.VECTORIZED
        or steps_of(within) != _WORD
        or any(loop.kind not in _PLAIN for loop in (*outer, *others))
    ):
        return None
    found = _copied(realize.block.body)
    if found is None or not is_among(found[0].source, params):
        return None
    load, flips, conditions = found
    store = realize.block.body
    analyzer = analyzer_within([*outer, *others, within])

    def flat(expression: Any) -> Any:
        return analyzer.simplify(in_loops(expression, realize))

    def moves(expression: Any, loop: Any) -> int | None:
        moved = substituted(expression, [loop.loop_var], [loop.loop_var + 1])
        difference = analyzer.simplify(moved - expression)
        return int(difference) if isinstance(difference, tirx.IntImm) else None

    reads = flat(_position(load))
    writes = [flat(index) for index in store.indices]

    # Of loops that move alike the first, as the others have one step.
    steps = {
        (moves(reads, loop), *(moves(index, loop) for index in writes)): loop
        for loop in (within, *reversed(others))
    }
    is_word = len(writes) >= 3 and int(store.buffer.ty.shape[-1]) == _WORD
    upper = (0,) * (len(writes) - 3)
    along = steps.get((_WORD, *upper, 1, 0, 0))
    across, row_bytes = None, 0
    for (moved, *written), loop in steps.items():
        if written == [*upper, 0, 1, 0] and moved is not None:
            across, row_bytes = loop, moved
    bytewise = steps.get((1, *upper, 0, 0, 1))
    if not is_word or along is None or bytewise is not within or row_bytes <= _WORD:
        return None
    placed = tuple(in_loops(one, realize) for one in conditions)
    loops = (along, across, within)
    if steps_of(along) < LANES or not all(ends_once(one, loops, analyzer) for one in placed):
        return None
    return _Copy(
        others=tuple(loop for loop in others if loop is not along and loop is not across),
        along=along,
        across=across,
        within=within,
        source=tirx.BufferLoad(load.source, [flat(index) for index in load.indices]),
        store=tirx.BufferStore(store.buffer, flat(store.value), writes),
        row_bytes=row_bytes,
        flips=flips,
        conditions=placed,
    )


def _copied(store: Any) -> tuple[Any, int, tuple[Any, ...]] | None:
    """Return the load of bytes that is stored, the bits that flip, and when it is."""
    if not isinstance(store, tirx.BufferStore) or str(store.buffer.ty.dtype.dtype) != "int8":
        return None
    value, flips = store.value, 0
    if isinstance(value, tirx.BitwiseXor) and isinstance(value.b, tirx.IntImm):
        flips = int.from_bytes([int(value.b) % 256] * _WORD, "little", signed=True)
        value = value.a
    conditions = tuple(conjuncts(value.args[0])) if is_conditional(value) else ()
    load = value.args[1] if is_conditional(value) else value
    if not isinstance(load, tvm.ir.TensorLoad) or load.source.strides:
        return None
    return (load, flips, conditions) if str(load.source.ty.dtype.dtype) == "int8" else None


def _position(load: Any) -> Any:
    """Return which element of its buffer a load reads."""
    position = tirx.const(0, "int32")
    for index, extent in zip(load.indices, load.source.ty.shape, strict=True):
        position = position * extent + index
    return position


def _in_blocks(copy: _Copy) -> Any:
    """Return the loops over whole blocks, and those over the steps that are left."""
    steps, rows = steps_of(copy.along), steps_of(copy.across)
    blocks, rest = divmod(steps, LANES)
    parts = [repeated(blocks, lambda at: in_sequence(list(_across(copy, at * LANES, rows))))]
    if rest:
        parts.append(_one_by_one(copy, blocks * LANES, rest, 0, rows))
    return in_nest(copy.others, in_sequence(parts))


def _across(copy: _Copy, step: Any, rows: int) -> Iterator[Any]:
    """Yield the statements for some steps of all rows."""
    vectors, rest = divmod(rows, LANES)
    if vectors:
        yield repeated(vectors, lambda at: _block(copy, step, at * LANES, LANES))
    if rest:
        yield _block(copy, step, tirx.const(vectors * LANES, "int32"), rest)


def _block(copy: _Copy, step: Any, row: Any, rows: int) -> Any:
    """Return the statement for a block: as a whole where no condition cuts it off."""
    last = (step + LANES - 1, row + rows - 1, _WORD - 1)
    return chosen_by(
        [copy.at(condition, *last) for condition in copy.conditions],
        _call(copy, step, row, rows),
        lambda: _one_by_one(copy, step, LANES, row, rows),
    )


def _one_by_one(copy: _Copy, step: Any, steps: int, row: Any, rows: int) -> Any:
    """Return a statement that moves each word by itself."""

    def moved(at: Any, across: Any, byte: Any) -> Any:
        value, *indices = (
            copy.at(part, step + at, row + across, byte)
            for part in (copy.store.value, *copy.store.indices)
        )
        return tirx.BufferStore(copy.store.buffer, value, indices)

    def word(at: Any, across: Any) -> Any:
        return repeated(_WORD, lambda byte: moved(at, across, byte), tirx.ForKind.VECTORIZED)

    return repeated(rows, lambda across: repeated(steps, lambda at: word(at, across)))


def _call(copy: _Copy, step: Any, row: Any, rows: int) -> Any:
    """Return a block that turns one block of words, in buffers that TVM may yet move."""
    store, source = copy.store, copy.source.source
    *upper, _, _, _ = (copy.at(index, step, row, 0) for index in store.indices)
    steps_at, rows_at = (copy.at(index, step, row, 0) for index in store.indices[-3:-1])
    region = tirx.BufferRegion(
        store.buffer,
        [
            *(tvm.ir.Range.from_min_extent(index, 1) for index in upper),
            tvm.ir.Range.from_min_extent(steps_at, LANES),
            tvm.ir.Range.from_min_extent(rows_at, rows),
            tvm.ir.Range.from_min_extent(0, _WORD),
        ],
    )
    step_bytes = tirx.Var("step_bytes", "int32")
    target = tirx.decl_buffer(
        (LANES, rows, _WORD),
        "int8",
        name="turned",
        strides=[step_bytes, _WORD, 1],
        elem_offset=tirx.Var("offset", "int32"),
        offset_factor=1,
    )
    start = [copy.at(index, step, row, 0) for index in copy.source.indices]
    name = f"tunesmith_turn_{rows}"
    call = tirx.call_extern(
        "int32",
        name,
        tirx.address_of(tirx.BufferLoad(source, start)),
        tirx.const(copy.row_bytes, "int32"),
        target.access_ptr("w"),
        step_bytes,
        tirx.const(copy.flips, "int32"),
    )
    source_text = word_source.source(name, rows)
    everything = [tvm.ir.Range.from_min_extent(0, extent) for extent in source.ty.shape]
    block = s_tir.SBlock(
        iter_vars=[],
        reads=[tirx.BufferRegion(source, everything)],
        writes=[region],
        name_hint="turned",
        body=tirx.AttrStmt(0, "pragma_import_llvm", source_text, tirx.Evaluate(call)),
        match_buffers=[s_tir.MatchBufferRegion(target, region)],
    )
    return s_tir.SBlockRealize([], True, block)
