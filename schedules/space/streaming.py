"""Programs that memory bounds: reductions, norms, elementwise operators, and their fusions.

One rule schedules a whole program without contractions, at its last block, and another in the same
way each stretch with a reduction between the contractions of a program, as attention's softmax:

- cheap elementwise stages are inlined; what is left of the others runs row by row, so that a row
  stays in the first cache between the passes over it;
- a sum or maximum along contiguous memory is taken in vector lanes, then in fewer and fewer lanes;
  where no lanes divide it, it stays one loop, which `schedules.rewrites.vector_sums` takes apart;
- a reduction across contiguous memory (columns, windows of channels) keeps its lanes as they lie,
  and its sums in registers;
- few long reductions are cut into chunks whose partial results are computed in parallel.

How many chunks run in parallel (one: no thread is started) and how wide vectors are is sampled.

Source: rfactor, Suriana et al., Parallel Associative Reductions in Halide, 2017.
"""

from collections.abc import Sequence
from math import prod
from typing import Any

import tvm
from tvm.s_tir import ScheduleError

from schedules.rewrites.vector_sums import LEAST_TERMS
from schedules.space.axis_roles import contraction_in
from schedules.space.moves import (
    choice,
    divisor,
    divisors,
    fused_reduction,
    inline_cheap,
    is_untouched,
    runs_along,
)
from schedules.space.rules import Rule
from schedules.space.stage import SCHEDULED, STAGE
from schedules.space.stretches import stretch_ending_at
from schedules.space.structure import Block, blocks_of, describe, has_contraction
from schedules.space.vector_unit import vector_unit
from schedules.target import Target

_CHUNKS_PER_CORE = (1, 2, 4, 8)
_UNROLLED = (1, 2, 4, 8)
# Below so many elements on each core a thread costs more than it saves.
_WORTH_A_THREAD = 2**13
_LARGEST_VECTOR = 8
_LAST_LANES = 4
_ROWS_TOGETHER = 8
_MOST_WRITTEN_OUT = 16
_CHUNK_CHOICES = 6


def streaming(target: Target) -> Any:
    """Return the rule for programs without contractions, for a target."""
    return Rule(_scheduler(target).apply)


def streaming_between(target: Target) -> Any:
    """Return the rule for what lies between the contractions of a program, for a target."""
    return Rule(_scheduler(target).apply_between)


def _scheduler(target: Target) -> "_Scheduler":
    unit = vector_unit(tvm.target.Target(target.as_dict()))
    return _Scheduler(unit.lanes("float32"), target.cores)


# A block, and its lanes where it is a reduction by lanes.
Stage = tuple[Any, int]


class _Scheduler:
    """Schedules one program at a time; holds only what it is made with."""

    def __init__(self, lanes: int, cores: int) -> None:
        self._lanes = lanes
        self._cores = cores

    def apply(self, schedule: Any, block: Any) -> list[Any]:
        """Schedule the program if it has no contraction and `block` is its last one."""
        blocks = blocks_of(schedule)
        is_last = str(schedule.get(block).name_hint) == blocks[-1].name
        if not is_last or has_contraction(schedule) or not is_untouched(schedule, blocks):
            return [schedule]
        # A program whose stages do not share rows: each by itself, which is always possible.
        return self._designs(schedule, blocks) or [self._separate(schedule)]

    def apply_between(self, schedule: Any, block: Any) -> list[Any]:
        """Schedule the stretch between contractions that `block` ends, if it has a reduction."""
        blocks = blocks_of(schedule)
        stretch = stretch_ending_at(blocks, str(schedule.get(block).name_hint))
        contractions = [item for item in blocks if item.is_contraction]
        applies = (
            any(item.is_reduction for item in stretch)
            and is_untouched(schedule, stretch)
            # What TVM tiles needs its rules for loops, which work on a whole program.
            and all(contraction_in(schedule, schedule.get_sblock(c.name)) for c in contractions)
        )
        if not applies:
            return [schedule]
        others = {item.name for item in blocks} - {item.name for item in stretch}
        designs = self._designs(schedule, stretch)
        for design in designs:
            for child in design.get_child_blocks(design.get_sblock("root")):
                if str(design.get(child).name_hint) not in others:
                    design.annotate(child, SCHEDULED, STAGE)
            design.annotate(design.get_sblock("root"), SCHEDULED, STAGE)
        return designs or [schedule]

    def _designs(self, schedule: Any, blocks: Sequence[Block]) -> list[Any]:
        """Schedule some blocks together, with and without computing padding again."""
        found: list[Any] = []
        names: list[str] = []
        for again in (False, True):
            design = schedule.copy()
            left = inline_cheap(design, blocks, again=again)
            # Only reductions with windows have a producer that may be computed again: padding.
            if again and [item.name for item in left] == names:
                continue
            names = [item.name for item in left]
            try:
                self._schedule(design, left)
            except ScheduleError:
                continue
            found.append(design)
        return found

    def _schedule(self, schedule: Any, blocks: Sequence[Block]) -> None:
        reductions = [item for item in blocks if item.is_reduction]
        along = [item for item in reductions if runs_along(item)]
        if not reductions:
            for item in blocks:
                self._elementwise(schedule, item)
        elif len(along) < len(reductions):
            self._across(schedule, blocks)
        else:
            self._rows(schedule, blocks, along)

    def _separate(self, schedule: Any) -> Any:
        for item in blocks_of(schedule):
            loops = schedule.get_loops(schedule.get_sblock(item.name))
            if item.kinds[0] == "spatial":
                self._parallel(schedule, loops[0], prod(item.extents))
        return schedule

    # --- elementwise -----------------------------------------------------------------------------

    def _elementwise(self, schedule: Any, facts: Block) -> None:
        """Chunks of all outer loops in parallel; LLVM makes vectors of the innermost, with tail."""
        loops = schedule.get_loops(schedule.get_sblock(facts.name))
        if len(loops) > 1 and facts.is_pointwise:
            loops = [schedule.fuse(*loops)]
        if len(loops) > 1:
            self._parallel(schedule, schedule.fuse(*loops[:-1]), facts.points)
            return
        whole = facts.points
        inner = divisor(whole, 64 * self._lanes)
        outer, _ = schedule.split(loops[0], [None, inner])
        self._parallel(schedule, outer, facts.points)

    def _parallel(self, schedule: Any, loop: Any, work: int) -> Any:
        """Cut a loop into a sampled number of parallel chunks; return the loop within a chunk."""
        extent = int(schedule.get(loop).extent)
        counts = [1] if work < 8 * _WORTH_A_THREAD or self._cores == 1 else []
        if self._cores > 1 and work >= _WORTH_A_THREAD:
            wanted = {count * self._cores for count in _CHUNKS_PER_CORE}
            counts += sorted({min(count, extent) for count in wanted})
        counts = counts or [1]
        chunks = choice(schedule, counts)
        outer, inner = schedule.split(loop, [chunks, None])
        schedule.parallel(outer)
        return inner

    # --- reductions along contiguous memory ------------------------------------------------------

    def _rows(self, schedule: Any, blocks: Sequence[Block], reductions: Sequence[Block]) -> None:
        """All stages of a row together, or for few rows each long reduction in parallel chunks."""
        rows = min(item.points for item in reductions)
        longest = max(item.terms for item in reductions)
        few = rows < 4 * self._cores and longest * rows >= 8 * _WORTH_A_THREAD
        if few and self._cores > 1:
            self._few_rows(schedule, blocks)
            return
        depth = min(item.kinds.count("spatial") for item in reductions)
        stages = self._staged(schedule, blocks)
        sink = stages[-1][0]
        loops = schedule.get_loops(sink)
        spatial = loops[: max(1, depth)]
        row = schedule.fuse(*spatial) if len(spatial) > 1 else spatial[0]
        work = sum(prod(item.extents) for item in blocks)
        within = None
        few_terms = min(item.terms for item in reductions) < LEAST_TERMS
        if few_terms and len(stages) < len(blocks) + len(reductions):
            # A sum without lanes waits for itself: several rows in turn do not.
            together = divisor(int(schedule.get(row).extent), _ROWS_TOGETHER)
            row, within = schedule.split(row, [None, together])
        row = self._parallel(schedule, row, work)
        for block, lanes in reversed(stages[:-1]):
            schedule.compute_at(block, row, preserve_unit_loops=True)
            _finish(schedule, block, lanes)
        if blocks[-1].is_reduction:
            loop = schedule.get_loops(sink)[-1]
            if within is not None:
                schedule.reorder(loop, within)
                schedule.unroll(within)
            schedule.decompose_reduction(sink, loop)

    def _few_rows(self, schedule: Any, blocks: Sequence[Block]) -> None:
        """Each stage by itself; reductions in chunks that are partial sums of their own."""
        for item in blocks:
            block = schedule.get_sblock(item.name)
            if not item.is_reduction:
                self._elementwise(schedule, item)
                continue
            loop = fused_reduction(schedule, block)
            counts = self._chunk_counts(item.terms)
            chunks = choice(schedule, counts)
            outer, _ = schedule.split(loop, [chunks, None])
            partial = schedule.rfactor(outer, 0)
            stages = self._reduced(schedule, partial, item.terms, chunks=counts)
            final = stages[-1][0]
            spatial = schedule.get_loops(final)[:-1]
            fused = schedule.fuse(*spatial) if len(spatial) > 1 else spatial[0]
            schedule.parallel(fused)
            for stage, lanes in reversed(stages[:-1]):
                schedule.compute_at(stage, fused, preserve_unit_loops=True)
                _finish(schedule, stage, lanes)
            for end in (final, block):
                schedule.decompose_reduction(end, schedule.get_loops(end)[-1])

    def _chunk_counts(self, terms: int) -> list[int]:
        """Numbers of chunks that divide a reduction, leaving whole vectors if that is possible."""
        counts = [count for count in divisors(terms) if count <= 8 * self._cores]
        whole = [count for count in counts if terms // count % self._lanes == 0]
        return (whole or counts)[:_CHUNK_CHOICES]

    def _staged(self, schedule: Any, blocks: Sequence[Block]) -> list[Stage]:
        """Split reductions into lanes; return all blocks, producers first, with their lanes."""
        stages: list[Stage] = []
        for item in blocks:
            block = schedule.get_sblock(item.name)
            if item.is_reduction:
                fused_reduction(schedule, block)
                stages += self._reduced(schedule, block, item.terms)
            else:
                stages.append((block, 0))
        return stages

    def _reduced(
        self, schedule: Any, block: Any, terms: int, chunks: Sequence[int] = (1,)
    ) -> list[Stage]:
        """Turn one reduction into a reduction by lanes, and lanes into fewer lanes.

        Its loop has ``terms / chunk`` iterations for any of `chunks`.
        """
        least = [terms // chunk for chunk in chunks]
        base = max(
            (size for size in divisors(least[0]) if size <= 2 * self._lanes),
            key=lambda size: (all(count % size == 0 for count in least), _fit(size, self._lanes)),
        )
        uneven = min(least) >= LEAST_TERMS and base % self._lanes > 0
        if uneven or base < _LAST_LANES or any(count % base for count in least):
            return [(block, 0)]
        times = [
            count
            for count in _UNROLLED
            if count <= _LARGEST_VECTOR and all(total % (base * count) == 0 for total in least)
        ]
        stages: list[Stage] = []
        width = choice(schedule, [base * count for count in times])
        _, lane = schedule.split(schedule.get_loops(block)[-1], [None, width])
        stages.append(_factored(schedule, block, lane, self._lanes * _LARGEST_VECTOR))
        for fewer in (base, _LAST_LANES):
            if fewer == base or (base % fewer == 0 and base > fewer):
                _, lane = schedule.split(schedule.get_loops(block)[-1], [None, fewer])
                stages.append(_factored(schedule, block, lane, fewer))
        stages.append((block, 0))
        return stages

    # --- reductions across contiguous memory -----------------------------------------------------

    def _across(self, schedule: Any, blocks: Sequence[Block]) -> None:
        """Lanes as they lie in memory."""
        for item in blocks:
            if item.is_reduction:
                self._columns(schedule, item)
            else:
                self._elementwise(schedule, item)

    def _columns(self, schedule: Any, facts: Block) -> None:
        """Tiles of lanes whose sums stay in registers while the reduction runs."""
        block = schedule.get_sblock(facts.name)
        loops = schedule.get_loops(block)
        spatial = [
            (loop, extent, place)
            for place, (loop, extent, kind) in enumerate(
                zip(loops, facts.extents, facts.kinds, strict=True)
            )
            if kind == "spatial"
        ]
        reduction = [
            loop for loop, kind in zip(loops, facts.kinds, strict=True) if kind == "reduction"
        ]
        lane = next((item for item in spatial if item[2] == facts.contiguous), spatial[-1])
        others = [item for item in spatial if item[2] != lane[2]]
        base = max(
            (size for size in divisors(lane[1]) if size <= 2 * self._lanes),
            key=lambda size: _fit(size, self._lanes),
        )
        times = [count for count in _UNROLLED if (lane[1] // base) % count == 0]
        width = choice(schedule, [base * count for count in times])
        outer_lanes, inner_lanes = schedule.split(lane[0], [None, width])
        tiles: list[Any] = []
        if others:
            place = others[-1]
            sizes = [size for size in divisors(place[1]) if size <= 8]
            tile_outer, tile_inner = schedule.split(place[0], [None, choice(schedule, sizes)])
            others = [*others[:-1], (tile_outer, 0, 0)]
            tiles = [tile_inner]
        outer = [item[0] for item in others]
        schedule.reorder(*outer, outer_lanes, *reduction, *tiles, inner_lanes)
        fused = schedule.fuse(*outer, outer_lanes) if outer else outer_lanes
        work = prod(facts.extents)
        self._parallel(schedule, fused, work)
        # TVM keeps small buffers on the stack, and so in registers, in this scope only.
        cached = schedule.cache_write(block, 0, "global")
        schedule.reverse_compute_at(cached, schedule.get_loops(block)[1], preserve_unit_loops=True)
        for loop in (*_short(schedule, reduction), *tiles):
            schedule.unroll(loop)
        schedule.vectorize(inner_lanes)
        start = schedule.decompose_reduction(block, reduction[0])
        schedule.vectorize(schedule.get_loops(start)[-1])


def _short(schedule: Any, loops: Sequence[Any]) -> Sequence[Any]:
    """Return the innermost loops that are so short that their steps can all be written out.

    Which of them meet padding is then known when they are compiled.
    """
    extents = [int(schedule.get(loop).extent) for loop in loops]
    first = next(at for at in range(len(loops) + 1) if prod(extents[at:]) <= _MOST_WRITTEN_OUT)
    return loops[first:]


def _finish(schedule: Any, block: Any, lanes: int) -> None:
    """Order the loops of a reduction that was moved, one loop for each of its iterators."""
    kinds = describe(schedule.get(block)).kinds
    if "reduction" not in kinds:
        return
    loops = schedule.get_loops(block)
    own = loops[len(loops) - len(kinds) :]
    reduction = kinds.index("reduction")
    # rfactor makes the lanes the first iterator.
    lane = 0 if lanes else reduction
    rest = [loop for place, loop in enumerate(own) if place not in (lane, reduction)]
    if lanes:
        schedule.reorder(*rest, own[reduction], own[lane])
        schedule.vectorize(own[lane])
        start = schedule.decompose_reduction(block, own[reduction])
        schedule.vectorize(schedule.get_loops(start)[-1])
        return
    schedule.reorder(own[reduction], *rest)
    for loop in rest:
        schedule.unroll(loop)
    schedule.decompose_reduction(block, own[reduction])


def _factored(schedule: Any, block: Any, lane: Any, lanes: int) -> Stage:
    axis = len(schedule.get(block).writes[0].region)
    partial = schedule.rfactor(lane, axis)
    return partial, lanes


def _fit(size: int, lanes: int) -> tuple[bool, int]:
    """Whole registers first, then the widest."""
    return size % lanes == 0, size
