"""Programs that memory bounds, on GPUs: reductions, norms, elementwise operators, their fusions.

One rule schedules a whole program without contractions, at its last block:

- cheap elementwise stages are inlined; without reductions each of the others is cut into blocks of
  threads that load and store vectors;
- with reductions along contiguous memory a block of threads takes one row, or a few short ones.
  What several stages of a row need stays in shared memory, so that each input is read once; sums
  are taken across threads; what is one number for each row each thread computes for itself.

How many threads work together, on vectors of which width, and whether inputs that are read twice
are kept in shared memory, is sampled. A reduction across contiguous memory is left to TVM's rules.

Source: the shape of a row's stages is that of TVM's zero-search rule for general reductions; here
its parameters are decisions, inputs are kept, and memory is accessed in vectors.
"""

from collections.abc import Sequence
from math import prod
from typing import Any

import tvm
from tvm.s_tir import ScheduleError

from schedules.space.moves import (
    choice,
    divisors,
    fused_reduction,
    inline_cheap,
    is_untouched,
    runs_along,
)
from schedules.space.rules import Rule
from schedules.space.stage import SCHEDULED, STAGE
from schedules.space.structure import Block, blocks_of, has_contraction
from schedules.target import Target

_THREADS = (64, 128, 256, 512, 1024)
_UNROLLED = (1, 2, 4)
_WARP = 32
_VECTOR_BYTES = 16
_SHORT_ROW = 1024
"""Rows below so many elements share a block of threads."""
_ROWS_TOGETHER = (1, 2, 4, 8)
_SHARED_BYTES = 48 * 1024
"""What a block of threads has without asking for more."""
_KEPT = "shared"
_OWN = "local"


def gpu_streaming(target: Target) -> Any:
    """Return the rule for a target."""
    return Rule(_Scheduler(int(str(target.attributes["max_threads_per_block"]))).apply)


class _Scheduler:
    """Schedules one program at a time; holds only what it is made with."""

    def __init__(self, most_threads: int) -> None:
        self._threads = [count for count in _THREADS if count <= most_threads]

    def apply(self, schedule: Any, block: Any) -> list[Any]:
        """Schedule the program if it has no contraction and `block` is its last one."""
        blocks = blocks_of(schedule)
        is_last = str(schedule.get(block).name_hint) == blocks[-1].name
        if not is_last or has_contraction(schedule) or not is_untouched(schedule, blocks):
            return [schedule]
        found = []
        for keep in (False, True):
            design = schedule.copy()
            inline_cheap(design, again=False)
            try:
                done = self._scheduled(design, keep=keep)
            except ScheduleError:
                continue
            if done:
                design.annotate(design.get_sblock("root"), SCHEDULED, STAGE)
                found.append(design)
        return found or [schedule]

    def _scheduled(self, schedule: Any, *, keep: bool) -> bool:
        """Schedule all blocks; return False where that is nothing, or nothing new."""
        blocks = blocks_of(schedule)
        reductions = [item for item in blocks if item.is_reduction]
        if not all(map(runs_along, reductions)):
            return False
        if reductions:
            return self._rows(schedule, blocks, keep=keep)
        if keep:
            return False
        for item in blocks:
            self._elementwise(schedule, item)
        return True

    # --- elementwise -----------------------------------------------------------------------------

    def _elementwise(self, schedule: Any, facts: Block) -> None:
        """Blocks of threads, each with a few vectors."""
        loops = schedule.get_loops(schedule.get_sblock(facts.name))
        loop = schedule.fuse(*loops) if len(loops) > 1 else loops[0]
        lanes = choice(schedule, _widths(facts, facts.extents[-1]))
        threads = choice(schedule, self._threads)
        rounds = choice(schedule, _UNROLLED)
        outer, again, thread, lane = schedule.split(loop, [None, rounds, threads, lanes])
        schedule.bind(outer, "blockIdx.x")
        schedule.unroll(again)
        schedule.bind(thread, "threadIdx.x")
        schedule.vectorize(lane)

    # --- rows ------------------------------------------------------------------------------------

    def _rows(self, schedule: Any, blocks: Sequence[Block], *, keep: bool) -> bool:
        depth = min(item.kinds.count("spatial") for item in blocks if item.is_reduction)
        rows = prod(blocks[-1].extents[:depth])
        columns = max(prod(item.extents) // rows for item in blocks)
        if any(item.extents[:depth] != blocks[-1].extents[:depth] for item in blocks) or not depth:
            return False
        kept = _kept_inputs(blocks, rows * columns) if keep else []
        held = [_row_bytes(item.writes[0], rows) for item in blocks[:-1]]
        held += [_row_bytes(buffer, rows) for buffer, _ in kept]
        if keep and not kept:
            return False
        if sum(held) > _SHARED_BYTES:
            return False
        together = [1]
        if columns < _SHORT_ROW:
            together = [count for count in _ROWS_TOGETHER if rows % count == 0]
            together = [count for count in together if count * sum(held) <= _SHARED_BYTES]
        copies = _copy_inputs(schedule, blocks, kept)
        wide = [item for item in (*copies, *blocks) if not item.is_reduction]
        widths = _shared_widths([item for item in wide if len(item.extents) > depth], columns)
        lanes = choice(schedule, widths)
        threads = choice(schedule, [count for count in self._threads if count <= max(64, columns)])
        for item in blocks:
            if item.is_reduction:
                fused_reduction(schedule, schedule.get_sblock(item.name))
        sink = schedule.get_sblock(blocks[-1].name)
        outer = schedule.get_loops(sink)[:depth]
        row = schedule.fuse(*outer) if len(outer) > 1 else outer[0]
        if len(together) > 1:
            group, row = schedule.split(row, [None, choice(schedule, together)])
            schedule.bind(group, "blockIdx.x")
            schedule.bind(row, "threadIdx.y")
        else:
            schedule.bind(row, "blockIdx.x")
        for item in (*reversed(blocks[:-1]), *reversed(copies)):
            stage = schedule.get_sblock(item.name)
            schedule.compute_at(stage, row, preserve_unit_loops=True)
            self._stage(schedule, item, row, depth, threads, lanes)
            is_scalar = not item.is_reduction and len(item.extents) == depth
            schedule.set_scope(stage, 0, _OWN if is_scalar else _KEPT)
        self._stage(schedule, blocks[-1], row, depth, threads, lanes)
        return True

    def _stage(
        self, schedule: Any, facts: Block, row: Any, depth: int, threads: Any, lanes: Any
    ) -> None:
        """Spread one stage of a row over the threads."""
        block = schedule.get_sblock(facts.name)
        around = len(schedule.get_loops(block)) - len(_loops_below(schedule, block, row))
        own = schedule.get_loops(block)[around:]
        if facts.is_reduction:
            inner, thread = schedule.split(own[-1], [None, threads])
            schedule.reorder(thread, inner)
            schedule.bind(thread, "threadIdx.x")
            schedule.annotate(inner, "pragma_auto_unroll_max_step", 16)
            schedule.annotate(inner, "pragma_unroll_explicit", 1)
            return
        if len(facts.extents) == depth:
            return
        loop = schedule.fuse(*own) if len(own) > 1 else own[0]
        _, thread, lane = schedule.split(loop, [None, threads, lanes])
        schedule.bind(thread, "threadIdx.x")
        schedule.vectorize(lane)


def _loops_below(schedule: Any, block: Any, loop: Any) -> list[Any]:
    """The loops around a block that are inside another one."""
    loops = schedule.get_loops(block)
    variable = schedule.get(loop).loop_var
    place = next(
        place for place, other in enumerate(loops) if schedule.get(other).loop_var.same_as(variable)
    )
    return list(loops[place + 1 :])


def _kept_inputs(blocks: Sequence[Block], elements: int) -> list[tuple[Any, list[Block]]]:
    """Inputs as large as the whole that several blocks read, with these blocks."""
    written = [buffer for item in blocks for buffer in item.writes]
    found: list[tuple[Any, list[Block]]] = []
    for item in blocks:
        for buffer in item.reads:
            is_input = not any(buffer.same_as(other) for other in written)
            known = any(buffer.same_as(other) for other, _ in found)
            if is_input and not known and prod(map(int, buffer.ty.shape)) == elements:
                readers = [reader for reader in blocks if any(map(buffer.same_as, reader.reads))]
                if len(readers) > 1 or item.is_reduction:
                    found.append((buffer, readers))
    return found


def _copy_inputs(
    schedule: Any, blocks: Sequence[Block], kept: Sequence[tuple[Any, list[Block]]]
) -> list[Block]:
    """Read each kept input through a copy; return the copies' facts."""
    copies = []
    for buffer, readers in kept:
        first = schedule.get_sblock(readers[0].name)
        regions = schedule.get(first).reads
        place = next(place for place, region in enumerate(regions) if region.source.same_as(buffer))
        copy = schedule.cache_read(first, place, _KEPT)
        name = str(schedule.get(copy).name_hint)
        copies.append(next(item for item in blocks_of(schedule) if item.name == name))
    return copies


def _row_bytes(buffer: Any, rows: int) -> int:
    bits = int(tvm.DataType(str(buffer.dtype)).bits)
    return prod(map(int, buffer.ty.shape)) // rows * bits // 8


def _widths(facts: Block, extent: int) -> list[int]:
    """How wide vectors can be: what divides the last axis and fits one access."""
    sizes = [
        int(tvm.DataType(str(buffer.dtype)).bits) // 8 for buffer in (*facts.reads, *facts.writes)
    ]
    most = _VECTOR_BYTES // max(1, min(sizes))
    return [size for size in divisors(extent) if size <= min(most, 8) and size & (size - 1) == 0]


def _shared_widths(stages: Sequence[Block], columns: int) -> list[int]:
    if not stages:
        return [1]
    common = set.intersection(*(set(_widths(item, item.extents[-1])) for item in stages))
    return sorted(common)
