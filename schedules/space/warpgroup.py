"""Matrix products of half precision on Hopper, by its warp-group matrix instructions."""

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


def _apply(schedule: Any, block: Any) -> list[Any]:
    product = _product_in(schedule, block)
    if product is None:
        return [schedule]
    rows, columns, tiles = product
    done = []
    for tile in tiles:
        try:
            design = _scheduled(schedule.copy(), block, tile, rows // tile.rows)
        except ScheduleError:
            continue
        if design is not None:
            done.append(design)
    smallest = min((tile.rows * tile.columns for tile in tiles), default=1)
    few = rows * columns < _MULTIPROCESSORS * smallest
    return [*done, schedule] if few or not done else done


def _product_in(schedule: Any, block: Any) -> tuple[int, int, list[Tile]] | None:
    """Return the extents of the output and the tiles that divide the product."""
    contraction = contraction_in(schedule, block)
    if contraction is None or contraction.dtype != _SUMS or not own_loops(schedule, block):
        return None
    operands = (contraction.rows, contraction.columns)
    dtypes = {operand.dtype for operand in operands}
    if len(dtypes) != 1 or not dtypes <= set(_OPERANDS):
        return None
    body = schedule.get(block)
    *batch, row, column, depth = [axis.var for axis in body.iter_vars]
    roles = [axis.role for axis in contraction.axes]
    if roles != [*[Role.BATCH] * len(batch), Role.ROW, Role.COLUMN, Role.SUM]:
        return None
    loads = [node for node in objects(body.body) if isinstance(node, tvm.ir.TensorLoad)]
    read = {operand.read: operand for operand in operands}
    found = {}
    for place, region in enumerate(body.reads):
        same = [load for load in loads if load.source.same_as(region.source)]
        if place in read and len(same) == 1:
            found[read[place]] = list(same[0].indices)
    if len(found) != len(operands):
        return None
    of_rows, of_columns = (found[operand] for operand in operands)
    straight = _is(of_columns, [*batch, depth, column])
    if not _is(of_rows, [*batch, row, depth]):
        return None
    if not straight and not _is(of_columns, [*batch, column, depth]):
        return None
    m, n, k = (axis.extent for axis in contraction.axes[-3:])
    tiles = [
        Tile(
            rows=rows,
            columns=columns,
            depth=k,
            stages=stages,
            dtype=dtypes.copy().pop(),
            transposed=not straight,
        )
        for rows, columns, stages in _SHAPES
        if m % rows == n % columns == k % SLICE == 0
    ]
    return (m, n, tiles) if tiles else None


def _is(indices: list[Any], variables: list[Any]) -> bool:
    return len(indices) == len(variables) and all(
        index.same_as(variable) for index, variable in zip(indices, variables, strict=True)
    )


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
