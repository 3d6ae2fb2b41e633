"""Matrix products of half precision on Hopper, by its warp-group matrix instructions."""

from dataclasses import dataclass
from math import prod
from typing import Any

import tvm
from tvm.s_tir import ScheduleError

from schedules.ir import objects
from schedules.space import warpgroup_tile
from schedules.space.axis_roles import contraction_in
from schedules.space.contraction import Role
from schedules.space.moves import choice
from schedules.space.rules import Rule
from schedules.space.stage import SCHEDULED, TILED, own_loops
from schedules.space.structure import blocks_of
from schedules.space.warpgroup_tile import SHARED_BYTES, SLICE, THREADS, Tile
from schedules.target import Target

_OPERANDS = ("float16", "bfloat16")
_SUMS = "float32"
# Rows, columns and stages of tiles that fill shared memory, or leave room for a second block.
_SHAPES = (
    (128, 256, 4),
    (256, 128, 4),
    (128, 192, 5),
    (128, 128, 6),
    (128, 128, 3),
    (128, 64, 4),
)
_ROWS_TOGETHER = (1, 2, 4, 8, 16)
_VECTOR = 4
# The tile and its write-back.
_BLOCKS = 2
_MULTIPROCESSORS = 132


def reaches(target: Target) -> bool:
    """Whether a target has the instructions: Hopper, with those of its architecture alone."""
    return str(target.attributes.get("arch")) == "sm_90a"


def warpgroup_product() -> Any:
    """Return the rule: a product's tile is one block of threads, its epilogue goes with it.

    Applies to ``C[b.., m, n] += A[b.., m, k] * B[b.., k, n]``, or with B transposed, of float16 or
    bfloat16 with sums in float32, where tiles divide the extents. Elementwise consumers are taken
    along when tiles are written back. Sampled: in which order blocks of threads take tiles, which
    decides what they find in the second cache. The product and its consumers have to be the whole
    program. See `schedules.space.warpgroup_tile`.
    """
    return Rule(_apply)


@dataclass(frozen=True, kw_only=True)
class _Product:
    """A block ``C[b.., m, n] += A[b.., m, k] * B``; `transposed` as in `Tile`."""

    batch: int
    rows: int
    columns: int
    depth: int
    dtype: str
    transposed: bool

    def tiles(self) -> list[Tile]:
        """Return the tiles that divide it."""
        return [
            Tile(
                rows=rows,
                columns=columns,
                depth=self.depth,
                stages=stages,
                dtype=self.dtype,
                transposed=self.transposed,
            )
            for rows, columns, stages in _SHAPES
            if self.rows % rows == self.columns % columns == self.depth % SLICE == 0
        ]

    def count(self, tile: Tile) -> int:
        """Return how many tiles there are of a kind."""
        return self.batch * (self.rows // tile.rows) * (self.columns // tile.columns)


def _apply(schedule: Any, block: Any) -> list[Any]:
    product = _product_in(schedule, block)
    tiles = [] if product is None else product.tiles()
    if product is None or not tiles:
        return [schedule]
    done = []
    for tile in tiles:
        try:
            design = _scheduled(schedule.copy(), block, tile, product.rows // tile.rows)
        except ScheduleError:
            continue
        if design is not None:
            done.append(design)
    # Where even small tiles leave the GPU idle, TVM's smaller ones may be better.
    busy = max(map(product.count, tiles)) >= _MULTIPROCESSORS
    return done if done and busy else [*done, schedule]


def _product_in(schedule: Any, block: Any) -> _Product | None:
    """Recognise a product of halves by its axes and by how it reads its operands."""
    contraction = contraction_in(schedule, block)
    if contraction is None or contraction.dtype != _SUMS or not own_loops(schedule, block):
        return None
    *batch, row, column, depth = [axis.var for axis in schedule.get(block).iter_vars]
    roles = [axis.role for axis in contraction.axes]
    if roles != [*[Role.BATCH] * len(batch), Role.ROW, Role.COLUMN, Role.SUM]:
        return None
    dtype = contraction.rows.dtype
    if dtype not in _OPERANDS or contraction.columns.dtype != dtype:
        return None
    of_rows, of_columns = (
        _indices(schedule.get(block), operand.read)
        for operand in (contraction.rows, contraction.columns)
    )
    transposed = _are(of_columns, [*batch, column, depth])
    straight = _are(of_columns, [*batch, depth, column])
    if not _are(of_rows, [*batch, row, depth]) or not (transposed or straight):
        return None
    *batches, rows, columns, terms = (axis.extent for axis in contraction.axes)
    return _Product(
        batch=prod(batches),
        rows=rows,
        columns=columns,
        depth=terms,
        dtype=dtype,
        transposed=transposed,
    )


def _indices(block: Any, read: int) -> list[Any]:
    """The indices at which a block loads what it reads at a place; none if it does so twice."""
    buffer = block.reads[read].source
    loads = [
        node
        for node in objects(block.body)
        if isinstance(node, tvm.ir.TensorLoad) and node.source.same_as(buffer)
    ]
    return list(loads[0].indices) if len(loads) == 1 else []


def _are(indices: list[Any], variables: list[Any]) -> bool:
    return len(indices) == len(variables) and all(map(_is_same, indices, variables))


def _is_same(index: Any, variable: Any) -> bool:
    return bool(index.same_as(variable))


def _scheduled(schedule: Any, block: Any, tile: Tile, tile_rows: int) -> Any:
    assert tile.shared_bytes <= SHARED_BYTES
    warpgroup_tile.register(tile)
    write = schedule.cache_write(block, 0, "shared.dyn")
    _take_consumers(schedule, write)
    if len(blocks_of(schedule)) > _BLOCKS:
        return None
    *batch, row, column, _ = schedule.get_loops(block)
    row, within_rows = schedule.split(row, [None, tile.rows])
    column, within_columns = schedule.split(column, [None, tile.columns])
    together = choice(schedule, [count for count in _ROWS_TOGETHER if tile_rows % count == 0])
    group, row = schedule.split(row, [None, together])
    depth = schedule.get_loops(block)[-1]
    schedule.reorder(*batch, group, column, row, within_rows, within_columns, depth)
    place = schedule.fuse(*batch, group, column, row)
    schedule.bind(place, "blockIdx.x")
    schedule.reverse_compute_at(write, place)
    start = schedule.decompose_reduction(block, within_rows)
    schedule.tensorize(schedule.get_loops(start)[1], warpgroup_tile.start_name(tile))
    whole = schedule.blockize(within_rows)
    schedule.storage_align(whole, 0, -2, tile.pitch, 0)
    schedule.tensorize(whole, tile.name)
    element = schedule.fuse(*schedule.get_loops(write)[1:])
    _, thread, lane = schedule.split(element, [None, THREADS, _VECTOR])
    schedule.bind(thread, "threadIdx.x")
    schedule.vectorize(lane)
    schedule.annotate(schedule.get_sblock("root"), SCHEDULED, TILED)
    return schedule


def _take_consumers(schedule: Any, write: Any) -> None:
    """Inline the elementwise consumers into the write-back, as far as they follow one another."""
    while True:
        written = schedule.get(write).writes[0].source
        consumers = [
            item
            for item in blocks_of(schedule)
            if any(written.same_as(buffer) for buffer in item.reads)
        ]
        if len(consumers) != 1 or consumers[0].is_reduction:
            return
        try:
            schedule.reverse_compute_inline(schedule.get_sblock(consumers[0].name))
        except ScheduleError:
            return


def has_tile(schedule: Any) -> bool:
    """Whether a program has a tile of this rule.

    TVM's check of limits would refuse it: a tile has more shared memory than a target's
    ``max_shared_memory_per_block``, which is what a kernel gets without asking. TVM's runtime asks.
    """
    return warpgroup_tile.PREFIX in str(schedule.trace)
