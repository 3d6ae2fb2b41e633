"""Products whose sum is contiguous in both operands, taken in vector lanes; nothing is packed."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import tvm

from schedules.space.constants import reads_constant
from schedules.space.contraction import Contraction, Role, find_contraction
from schedules.space.moves import divisors, grouped
from schedules.space.register_tile import CHAINS
from schedules.space.rules import Rule, applicable
from schedules.space.stage import SCHEDULED, STAGE, TILED, own_loops
from schedules.space.vector_unit import VectorUnit, vector_unit
from schedules.target import Target

_MOST_ROWS = 256
"""With more rows the copy of an operand to panels is earned back."""
_LEAST_STEPS = 4
"""Of the sum, each as long as a vector: at the end the lanes are added up one by one."""
_TILES = 3
_MAX_SIDE = 16


@dataclass(frozen=True, kw_only=True)
class _Tile:
    """A block of the output of which each element has a vector of partial sums."""

    rows: int
    columns: int

    @property
    def step_cycles(self) -> float:
        """Cycles of one step of the sum, over the elements: one load or multiply-add in each."""
        elements = self.rows * self.columns
        return max(CHAINS, elements, self.rows + self.columns) / elements


def lane_sums(target: Target) -> Any:
    """Return a rule that sums products along contiguous memory in the lanes of vectors.

    Applies to products ``C[b, m, n] += A[b, m, k] * B[b, n, k]`` of which both operands are
    contiguous along the sum, as dense layers and attention scores have it, with few rows. A tile of
    the output has a vector of partial sums for each element, which stay in registers for the whole
    sum, and are added up at its end. Copying B to panels, as `PackedContraction` does, would take
    longer than the product itself; a constant B is left to that, to be copied ahead of time.
    Sampled: how the tiles are grouped to parallel tasks.
    Source: rfactor, Suriana et al., Parallel Associative Reductions in Halide, 2017.
    """
    unit = vector_unit(tvm.target.Target(target.as_dict()))

    def apply(sch: Any, block: Any) -> list[Any]:
        found = find_contraction(sch.get(block)) if own_loops(sch, block) else None
        lanes = None if found is None else _lanes(found, unit)
        if found is None or lanes is None or reads_constant(sch, block, found.columns.read):
            return [sch]
        tiles = sorted(_tiles(found, unit), key=lambda tile: tile.step_cycles)
        return [
            sch,
            *applicable(
                sch,
                tiles[:_TILES],
                lambda design, tile: _schedule(design, block, found, tile, lanes),
            ),
        ]

    return Rule(apply)


def _lanes(found: Contraction, unit: VectorUnit) -> int | None:
    """The length of the vectors to sum in, None if it is not worth it."""
    last = found.places(Role.SUM)[-1]
    rows, columns = found.rows, found.columns
    fits = (
        {rows.dtype, columns.dtype} == {found.dtype}
        and rows.is_load
        and columns.is_load
        and last in rows.innermost
        and last in columns.innermost
        and not found.places(Role.PHASE)
        and found.extent(Role.ROW) <= _MOST_ROWS
        and all(_is_one_axis(found, role) for role in (Role.ROW, Role.COLUMN))
    )
    if not fits:
        return None
    full, depth = unit.lanes(found.dtype), found.axes[last].extent
    return next(
        (
            lanes
            for lanes in (full, full // 2)
            if depth % lanes == 0 and depth >= _LEAST_STEPS * lanes
        ),
        None,
    )


def _is_one_axis(found: Contraction, role: Role) -> bool:
    """Whether a tile is a box: there is one axis with a role, beside those of one element."""
    return sum(found.axes[place].extent > 1 for place in found.places(role)) <= 1


def _tiles(found: Contraction, unit: VectorUnit) -> Iterator[_Tile]:
    """Tiles that divide the output and fit the registers, with a vector of each operand."""
    heights, widths = (
        [side for side in divisors(found.extent(role)) if side <= _MAX_SIDE]
        for role in (Role.ROW, Role.COLUMN)
    )
    for rows in heights:
        for columns in widths:
            if rows * columns + min(rows, columns) + 1 <= unit.registers:
                yield _Tile(rows=rows, columns=columns)


def _schedule(sch: Any, block: Any, found: Contraction, tile: _Tile, lanes: int) -> None:
    last = found.places(Role.SUM)[-1]
    _, lane = sch.split(sch.get_loops(block)[last], [None, lanes])
    partial = sch.rfactor(lane, len(sch.get(block).writes[0].region))
    outer = _tile_output(sch, block, found, tile)
    sch.compute_at(partial, outer[-1])
    sch.set_scope(partial, 0, "local")
    # Of the block that `rfactor` makes, the lanes come first and the sums last; loops of one
    # iteration are left out.
    lane, *inner = sch.get_loops(partial)[len(outer) :]
    sums = [place for place in found.places(Role.SUM) if found.axes[place].extent > 1]
    output, steps = inner[: -len(sums)], inner[-len(sums) :]
    sch.reorder(*steps, *output, lane)
    for loop in output:
        sch.unroll(loop)
    sch.vectorize(lane)
    sch.decompose_reduction(partial, steps[0])
    sch.annotate(partial, SCHEDULED, TILED)
    for done in (block, sch.get_sblock("root")):
        sch.annotate(done, SCHEDULED, STAGE)


def _tile_output(sch: Any, block: Any, found: Contraction, tile: _Tile) -> list[Any]:
    """Split the loops of the block that adds up the lanes; return those outside a tile."""
    *output, lane = sch.get_loops(block)
    loops = iter(output)
    of_role: dict[Role, list[Any]] = {role: [] for role in Role}
    for axis in found.axes:
        if axis.role is not Role.SUM:
            of_role[axis.role].append(next(loops))
    sch.reorder(*of_role[Role.BATCH], *of_role[Role.ROW], *of_role[Role.COLUMN])
    rows, row = sch.split(sch.fuse(*of_role[Role.ROW]), [None, tile.rows])
    columns, column = sch.split(sch.fuse(*of_role[Role.COLUMN]), [None, tile.columns])
    row_tasks, rows = grouped(sch, rows, 2)
    column_tasks, columns = grouped(sch, columns, 2)
    sch.reorder(row_tasks, column_tasks, columns, rows, row, column, lane)
    tasks = sch.fuse(*of_role[Role.BATCH], row_tasks, column_tasks)
    sch.parallel(tasks)
    for loop in (row, column, lane):
        sch.unroll(loop)
    sch.decompose_reduction(block, lane)
    return [tasks, columns, rows]
