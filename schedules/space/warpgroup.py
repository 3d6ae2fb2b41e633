"""Contractions on Hopper by its warp-group matrix instructions: products and convolutions."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from math import gcd, prod
from typing import Any

import tvm
from tvm import tirx
from tvm.s_tir import ScheduleError
from tvm.sym import detect_linear_equation

from schedules.canonical import objects
from schedules.space import warpgroup_intrinsic, warpgroup_tile
from schedules.space.axis_roles import separate_axes
from schedules.space.contraction import is_product
from schedules.space.moves import choice, divisor
from schedules.space.rules import Rule
from schedules.space.stage import SCHEDULED, TILED, own_loops
from schedules.space.structure import blocks_of
from schedules.space.warpgroup_tile import SHARED_BYTES, SUMS, THREADS, Tile, Window, slice_length
from schedules.target import Target

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
_WIDEST_VECTOR = 8
_MULTIPROCESSORS = 132


def reaches(target: Target) -> bool:
    """Whether a target has the instructions: Hopper, with those of its architecture alone."""
    return str(target.attributes.get("arch")) == "sm_90a"


def warpgroup_contraction() -> Any:
    """Return the rule: a contraction's tile is one block of threads, its epilogue goes with it.

    Applies to ``C[b.., m, n] += A[b.., m, k] * B[b.., k, n]``, or with B transposed, and to
    convolutions with channels last, in any number of dimensions; of float16 or bfloat16 with sums
    in float32, and of int8 where B is transposed. Tiles have to divide the extents.

    Elementwise consumers are taken along when tiles are written back. What comes before, such as
    padding, is a kernel of its own; nothing else may be in the program. Sampled: in which order
    blocks of threads take tiles, which decides what they find in the second cache. See
    `schedules.space.warpgroup_tile`.
    """
    return Rule(_apply)


@dataclass(frozen=True, kw_only=True)
class _Contraction:
    """A block ``C[batch.., points.., n] += A * B``.

    Attributes
    ----------
    batch, points : tuple of int
        Extents of the axes that A and B share with C, and of those that only A does.
    columns, depth : int
        Extents of the axis that only B shares with C, and of the sum for each tap.
    windows : tuple of Window
        One for each of `points`.
    dtype : str
        Of A and B.
    transposed : bool
        As in `Tile`.
    """

    batch: tuple[int, ...]
    points: tuple[int, ...]
    columns: int
    depth: int
    windows: tuple[Window, ...]
    dtype: str
    transposed: bool

    def tiles(self) -> Iterator[Tile]:
        """Yield the tiles that divide it."""
        for rows, columns, stages in _SHAPES:
            points = _divided(self.points, rows)
            if not points or self.columns % columns or self.depth % slice_length(self.dtype):
                continue
            whole = self._outside(points)
            yield Tile(
                points=points[whole:],
                columns=columns,
                depth=self.depth,
                stages=stages,
                dtype=self.dtype,
                transposed=self.transposed,
                windows=self.windows[whole:],
            )

    def _outside(self, points: Sequence[int]) -> int:
        """Return how many of the first axes a tile has one point of, and sees one element along."""
        trivial = [
            size == window.taps == 1 for size, window in zip(points, self.windows, strict=True)
        ]
        return [*trivial, False].index(False)

    def count(self, tile: Tile) -> int:
        """Return how many tiles there are of a kind."""
        return prod((*self.batch, *self.points, self.columns)) // (tile.rows * tile.columns)


def _divided(points: Sequence[int], rows: int) -> tuple[int, ...]:
    """Return how many points of each axis make a tile, the last ones first; () if none do."""
    tile: list[int] = []
    for extent in reversed(points):
        tile.insert(0, gcd(extent, rows))
        rows //= tile[0]
    return tuple(tile) if rows == 1 else ()


def _apply(schedule: Any, block: Any) -> list[Any]:
    if not (is_product(schedule.get(block)) and own_loops(schedule, block)):
        return [schedule]
    separated = schedule.copy()
    separate_axes(separated, block)
    found = _contraction_in(separated.get(block))
    tiles = [] if found is None else list(found.tiles())
    if found is None or not tiles:
        return [schedule]
    done = []
    for tile in tiles:
        try:
            design = _scheduled(separated.copy(), block, found, tile)
        except ScheduleError:
            continue
        if design is not None:
            done.append(design)
    # Where even small tiles leave the GPU idle, TVM's smaller ones may be better.
    busy = max(map(found.count, tiles)) >= _MULTIPROCESSORS
    return done if done and busy else [*done, schedule]


# --- recognition ---------------------------------------------------------------------------------


def _contraction_in(block: Any) -> _Contraction | None:
    """Recognise a contraction by its axes and by how it reads its operands."""
    written = block.writes[0].source
    loads = [node for node in objects(block.body) if isinstance(node, tvm.ir.TensorLoad)]
    of_c = [load for load in loads if load.source.same_as(written)]
    operands = [load for load in loads if not load.source.same_as(written)]
    dtypes = {str(load.source.ty.dtype) for load in operands}
    if len(of_c) != 1 or len(operands) != len(block.reads) or len(dtypes) != 1:
        return None
    [dtype] = dtypes
    if SUMS.get(dtype) != str(written.ty.dtype):
        return None
    for a, b in (operands, reversed(operands)):
        found = _read_off(block, dtype, *map(_moving_indices, (a, b, of_c[0])))
        if found is not None:
            return found
    return None


def _moving_indices(load: Any) -> list[Any]:
    """The indices of a load, without those along axes of one element."""
    return [index for index in load.indices if not isinstance(index, tirx.IntImm)]


def _read_off(
    block: Any, dtype: str, a: list[Any], b: list[Any], c: list[Any]
) -> _Contraction | None:
    """Read a contraction off the indices of A, B and C, if that is what they are."""
    extents = {axis.var: int(axis.dom.extent) for axis in block.iter_vars}
    spatial, (*taps, depth) = (
        [axis.var for axis in block.iter_vars if int(axis.iter_type) == kind]
        for kind in (tirx.IterVar.DataPar, tirx.IterVar.CommReduce)
    )
    *rows, column = spatial
    shared = len(b) - len(taps) - 2
    batch, points = rows[:shared], rows[shared:]
    transposed = not taps and _are(b, [*batch, column, depth])
    straight = dtype != "int8" and _are(b, [*batch, *taps, depth, column])
    if not (transposed or straight) or not points or not _are(c, spatial):
        return None
    if len(a) != len(rows) + 1 or not _are([*a[:shared], a[-1]], [*batch, depth]):
        return None
    windows = []
    for index, point in zip(a[shared:-1], points, strict=True):
        window = _window(index, point, taps, extents)
        if window is None:
            return None
        windows.append(window)
    if prod(window.taps for window in windows) != prod(extents[tap] for tap in taps):
        return None
    return _Contraction(
        batch=tuple(extents[axis] for axis in batch),
        points=tuple(extents[axis] for axis in points),
        columns=extents[column],
        depth=extents[depth],
        windows=tuple(windows),
        dtype=dtype,
        transposed=transposed,
    )


def _window(
    index: Any, point: Any, taps: Sequence[Any], extents: Mapping[Any, int]
) -> Window | None:
    """Read a window off an index ``point * stride + tap * dilation``, with one of the taps or none.

    That each tap is used once, and in the order of the axes, is for the intrinsic to find out.
    """
    coefficients = detect_linear_equation(index, [point, *taps])
    if not all(isinstance(number, tirx.IntImm) for number in coefficients):
        return None
    stride, *dilations, start = map(int, coefficients)
    used = [(tap, step) for tap, step in zip(taps, dilations, strict=True) if step]
    if start or stride < 1 or len(used) > 1 or any(step < 1 for _, step in used):
        return None
    return Window(
        taps=prod(extents[tap] for tap, _ in used),
        stride=stride,
        dilation=prod(step for _, step in used),
    )


def _are(indices: list[Any], variables: list[Any]) -> bool:
    return len(indices) == len(variables) and all(map(_is_same, indices, variables))


def _is_same(index: Any, variable: Any) -> bool:
    return bool(index.same_as(variable))


# --- scheduling ----------------------------------------------------------------------------------


def _scheduled(schedule: Any, block: Any, found: _Contraction, tile: Tile) -> Any:
    """Schedule the whole program; return None if there is more in it than goes with the tile."""
    assert tile.shared_bytes <= SHARED_BYTES
    warpgroup_intrinsic.register(tile)
    write = schedule.cache_write(block, 0, "shared.dyn")
    _take_consumers(schedule, write)
    names = [str(schedule.get(part).name_hint) for part in (block, write)]
    others = [item.name for item in blocks_of(schedule) if item.name not in names]
    if not _copy_producers(schedule, others, names[0]):
        return None
    place, within = _tiled(schedule, block, found, tile)
    schedule.reverse_compute_at(write, place)
    start = schedule.decompose_reduction(block, within)
    start_name = warpgroup_intrinsic.start_name(tile)
    schedule.tensorize(schedule.get_loops(start)[1], start_name)
    whole = schedule.blockize(within)
    schedule.storage_align(whole, 0, -2, tile.pitch, 0)
    schedule.tensorize(whole, tile.name)
    element = schedule.fuse(*schedule.get_loops(write)[1:])
    _, thread, lane = schedule.split(element, [None, THREADS, _VECTOR])
    schedule.bind(thread, "threadIdx.x")
    schedule.vectorize(lane)
    schedule.annotate(schedule.get_sblock("root"), SCHEDULED, TILED)
    return schedule


def _tiled(schedule: Any, block: Any, found: _Contraction, tile: Tile) -> tuple[Any, Any]:
    """Cut a contraction to tiles; return the loop over them, and the outermost within one."""
    loops = list(schedule.get_loops(block))
    first = len(found.batch) + len(found.points) - len(tile.points)
    batch, whole = loops[: len(found.batch)], loops[len(found.batch) : first]
    spatial, terms = loops[first : -1 - len(tile.taps)], loops[-1 - len(tile.taps) :]
    outer, within = list(whole), list[Any]()
    for loop, size in zip(spatial, (*tile.points, tile.columns), strict=True):
        parts = schedule.split(loop, [None, size]) if size > 1 else [loop]
        outer.append(parts[0])
        within.extend(parts[1:])
    *rows, columns = outer
    schedule.reorder(*batch, *rows, columns, *within, *terms)
    # The last row axis alone: across several, TVM cannot tell tiles apart any more.
    *rows, row = rows
    below = int(schedule.get(row).extent)
    counts = [count for count in _ROWS_TOGETHER if below % count == 0]
    group, row = schedule.split(row, [None, choice(schedule, counts)])
    schedule.reorder(group, columns, row)
    place = schedule.fuse(*batch, *rows, group, columns, row)
    schedule.bind(place, "blockIdx.x")
    return place, within[0]


def _copy_producers(schedule: Any, names: Sequence[str], consumer: str) -> bool:
    """Make each producer of operands a kernel of vectors; return False if other blocks are left."""
    for name in names:
        block = schedule.get_sblock(name)
        consumers = [str(schedule.get(item).name_hint) for item in schedule.get_consumers(block)]
        facts = schedule.get(block)
        if consumers != [consumer] or facts.init is not None or not own_loops(schedule, block):
            return False
        *outer, last = schedule.get_loops(block)
        lanes = divisor(int(schedule.get(last).extent), _WIDEST_VECTOR)
        last, lane = schedule.split(last, [None, lanes])
        place, thread = schedule.split(schedule.fuse(*outer, last), [None, THREADS])
        schedule.bind(place, "blockIdx.x")
        schedule.bind(thread, "threadIdx.x")
        schedule.vectorize(lane)
    return True


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
