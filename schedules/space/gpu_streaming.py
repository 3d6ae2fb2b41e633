"""Programs that memory bounds, on GPUs: reductions, norms, elementwise operators, their fusions.

One rule schedules a whole program without contractions, at its last block:

- cheap elementwise stages are inlined; without reductions each of the others is cut into blocks of
  threads that load and store vectors;
- with reductions along contiguous memory a block of threads takes one row, or a few short ones.
  What several stages of a row need stays in shared memory, so that each input is read once; sums
  are taken across threads; what is one number for each row each thread has for itself.
  A sum reads inputs in vectors, through registers.

How many threads work together, on vectors of which width, and whether inputs that are read twice
are kept in shared memory, is sampled. A reduction across contiguous memory is left to TVM's rules.

Source: the shape of a row's stages is that of TVM's zero-search rule for general reductions; here
its parameters are decisions, inputs are kept, and memory is accessed in vectors.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import prod
from typing import Any

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
from schedules.space.structure import Block, blocks_of, describe, has_contraction
from schedules.space.vector_unit import dtype_bits
from schedules.target import Target

_THREADS = (64, 128, 256, 512, 1024)
_WARP = 32
_UNROLLED = (1, 2, 4)
_VECTOR_BYTES = 16
_WIDEST = 8
_SHORT_ROW = 1024
"""Rows below so many elements share a block of threads."""
_ROWS_TOGETHER = (1, 2, 4, 8)
_SHARED_BYTES = 48 * 1024
"""What a block of threads has without asking for more."""
_UNROLLED_STEPS, _UNROLLED_VECTOR_STEPS = 16, 128
"""So many terms of a sum are written out, so that their loads are all on their way at once."""
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
            # What vectors cannot be read of may still be summed one by one.
            for wide in (True, False):
                design = schedule.copy()
                inline_cheap(design, blocks, again=False)
                try:
                    done = self._scheduled(design, keep=keep, wide=wide)
                except ScheduleError:
                    continue
                if done:
                    design.annotate(design.get_sblock("root"), SCHEDULED, STAGE)
                    found.append(design)
                break
        return found or [schedule]

    def _scheduled(self, schedule: Any, *, keep: bool, wide: bool) -> bool:
        """Schedule all blocks; return False where that is nothing, or nothing new."""
        blocks = blocks_of(schedule)
        reductions = [item for item in blocks if item.is_reduction]
        if not all(map(runs_along, reductions)):
            return False
        if reductions:
            return self._rows(schedule, blocks, keep=keep, wide=wide)
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
        lanes = choice(schedule, sorted(_widths(facts)))
        threads = choice(schedule, self._threads)
        rounds = choice(schedule, _UNROLLED)
        outer, again, thread, lane = schedule.split(loop, [None, rounds, threads, lanes])
        schedule.bind(outer, "blockIdx.x")
        schedule.unroll(again)
        schedule.bind(thread, "threadIdx.x")
        schedule.vectorize(lane)

    # --- rows ------------------------------------------------------------------------------------

    def _rows(self, schedule: Any, blocks: Sequence[Block], *, keep: bool, wide: bool) -> bool:
        """All stages of a row in one block of threads; return False where that does not fit."""
        depth = min(item.kinds.count("spatial") for item in blocks if item.is_reduction)
        spatial = blocks[-1].extents[:depth]
        if not depth or any(item.extents[:depth] != spatial for item in blocks):
            return False
        rows = prod(spatial)
        columns = max(prod(item.extents) // rows for item in blocks)
        kept = _kept_inputs(blocks, rows * columns) if keep else []
        held = [*(item.writes[0] for item in blocks[:-1]), *kept]
        row_bytes = sum(_bytes(buffer) for buffer in held) // rows
        if (keep and not kept) or row_bytes > _SHARED_BYTES:
            return False
        copies = [_copied(schedule, blocks, buffer) for buffer in kept]
        vectors = _read_by_vectors(schedule, blocks) if wide and not keep else {}
        for item in blocks:
            if item.is_reduction:
                fused_reduction(schedule, schedule.get_sblock(item.name))
        lanes = choice(schedule, _common_widths((*copies, *blocks), depth, sums=bool(vectors)))
        counts = (_WARP, *self._threads)
        threads = choice(schedule, [count for count in counts if count <= max(64, columns)])
        together = [1]
        if columns < _SHORT_ROW or all(_is_scalar(item, depth) for item in blocks[:-1]):
            most = _SHARED_BYTES // max(1, row_bytes)
            together = [count for count in _ROWS_TOGETHER if rows % count == 0 and count <= most]
        sink = schedule.get_sblock(blocks[-1].name)
        row = _bound_rows(schedule, schedule.get_loops(sink)[:depth], together)
        spread = _Spread(row=row, depth=depth, threads=threads, lanes=lanes, vectors=vectors)
        for item in (*reversed(blocks[:-1]), *reversed(copies)):
            stage = schedule.get_sblock(item.name)
            schedule.compute_at(stage, row, preserve_unit_loops=True)
            spread.over_threads(schedule, item)
            # In shared memory TVM would see no need to wait for the thread that writes it.
            schedule.set_scope(stage, 0, _OWN if _is_scalar(item, depth) else _KEPT)
        spread.over_threads(schedule, blocks[-1])
        return True


@dataclass(frozen=True, kw_only=True)
class _Spread:
    """How the stages of a row are spread over a block of threads.

    Attributes
    ----------
    row : loop
        Of the rows; what is inside belongs to one of them.
    depth : int
        Iterators of a row's place.
    threads, lanes : expression
        Sampled.
    vectors : Mapping[str, sequence of block]
        For each sum, the copies of its inputs in registers.
    """

    row: Any
    depth: int
    threads: Any
    lanes: Any
    vectors: Mapping[str, Sequence[Any]]

    def over_threads(self, schedule: Any, facts: Block) -> None:
        """Spread one stage."""
        own = _loops_below(schedule, schedule.get_sblock(facts.name), self.row)
        if facts.is_reduction:
            self._sum(schedule, own[-1], self.vectors.get(facts.name, ()))
        elif len(facts.extents) > self.depth:
            loop = schedule.fuse(*own) if len(own) > 1 else own[0]
            _, thread, lane = schedule.split(loop, [None, self.threads, self.lanes])
            schedule.bind(thread, "threadIdx.x")
            schedule.vectorize(lane)

    def _sum(self, schedule: Any, loop: Any, copies: Sequence[Any]) -> None:
        """Each thread sums its vectors, then all threads sum what they have."""
        lanes = self.lanes if copies else 1
        inner, thread, lane = schedule.split(loop, [None, self.threads, lanes])
        schedule.reorder(thread, inner, lane)
        schedule.bind(thread, "threadIdx.x")
        for copy in copies:
            schedule.compute_at(copy, inner, preserve_unit_loops=True)
            schedule.vectorize(schedule.get_loops(copy)[-1])
        steps = _UNROLLED_VECTOR_STEPS if copies else _UNROLLED_STEPS
        schedule.annotate(inner, "pragma_auto_unroll_max_step", steps)
        schedule.annotate(inner, "pragma_unroll_explicit", 1)


def _loops_below(schedule: Any, block: Any, loop: Any) -> list[Any]:
    """The loops around a block that are inside another one."""
    loops = schedule.get_loops(block)
    variable = schedule.get(loop).loop_var
    place = next(
        place for place, other in enumerate(loops) if schedule.get(other).loop_var.same_as(variable)
    )
    return list(loops[place + 1 :])


def _bound_rows(schedule: Any, loops: Sequence[Any], together: Sequence[int]) -> Any:
    """Give each row, or a sampled number of them, to a block of threads; return the row's loop."""
    row = schedule.fuse(*loops) if len(loops) > 1 else loops[0]
    if len(together) == 1:
        schedule.bind(row, "blockIdx.x")
        return row
    group, row = schedule.split(row, [None, choice(schedule, together)])
    schedule.bind(group, "blockIdx.x")
    schedule.bind(row, "threadIdx.y")
    return row


def _kept_inputs(blocks: Sequence[Block], elements: int) -> list[Any]:
    """Inputs as large as the whole that several stages read."""
    written = [buffer for item in blocks for buffer in item.writes]
    found: list[Any] = []
    for item in blocks:
        for buffer in item.reads:
            known = any(map(buffer.same_as, (*written, *found)))
            if known or prod(map(int, buffer.ty.shape)) != elements:
                continue
            if sum(any(map(buffer.same_as, other.reads)) for other in blocks) > 1:
                found.append(buffer)
    return found


def _copied(schedule: Any, blocks: Sequence[Block], buffer: Any) -> Block:
    """Read an input through a copy; return the copy's facts."""
    first = next(item for item in blocks if any(map(buffer.same_as, item.reads)))
    reader = schedule.get_sblock(first.name)
    regions = schedule.get(reader).reads
    place = next(place for place, region in enumerate(regions) if region.source.same_as(buffer))
    copy = schedule.cache_read(reader, place, _KEPT)
    return describe(schedule.get(copy))


def _read_by_vectors(schedule: Any, blocks: Sequence[Block]) -> dict[str, list[Any]]:
    """Read the inputs of sums through registers; return the copies of each sum that has some.

    Only where the last iterator of a sum walks along memory: its vectors lie side by side.
    """
    written = [buffer for item in blocks for buffer in item.writes]
    found: dict[str, list[Any]] = {}
    for item in blocks:
        if not item.is_reduction or item.contiguous != len(item.extents) - 1:
            continue
        block = schedule.get_sblock(item.name)
        places = [
            place
            for place, region in enumerate(schedule.get(block).reads)
            if not any(map(region.source.same_as, written))
        ]
        if places:
            found[item.name] = [schedule.cache_read(block, place, _OWN) for place in places]
    return found


def _is_scalar(facts: Block, depth: int) -> bool:
    """Whether a stage writes one number for each row."""
    return facts.kinds.count("spatial") == depth


def _bytes(buffer: Any) -> int:
    return prod(map(int, buffer.ty.shape)) * _element_bytes(buffer)


def _element_bytes(buffer: Any) -> int:
    return dtype_bits(str(buffer.dtype)) // 8


def _widths(facts: Block) -> set[int]:
    """How wide vectors can be: what divides the last axis and fits one access."""
    narrowest = min(_element_bytes(buffer) for buffer in (*facts.reads, *facts.writes))
    most = min(_WIDEST, _VECTOR_BYTES // max(1, narrowest))
    sizes = divisors(facts.extents[-1])
    return {size for size in sizes if size <= most and size & (size - 1) == 0}


def _common_widths(stages: Sequence[Block], depth: int, *, sums: bool) -> list[int]:
    """Widths that all stages allow which have an axis besides the rows; sums count if they do."""
    wide = [
        item for item in stages if len(item.extents) > depth and (sums or not item.is_reduction)
    ]
    return sorted(set.intersection(*map(_widths, wide))) if wide else [1]
