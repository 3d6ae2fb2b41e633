"""Sketches of convolutions by Winograd's filtering: which are worth a trial, and their marks."""

from dataclasses import dataclass
from math import ceil, prod
from typing import Any

from schedules.nests import is_conditional
from schedules.space.axis_roles import index_dtype, index_map, separate_axes
from schedules.space.balance import keeps_busy
from schedules.space.moves import choice
from schedules.space.register_tile import RegisterTile, cycles, register_tiles
from schedules.space.stage import SCHEDULED, STAGE, TILED, own_loops, vectorized
from schedules.space.vector_unit import VectorUnit
from schedules.winograd.plan import INIT, Plan, annotation
from schedules.winograd.window import Window, channels_of, find_window

_INPUTS = (4, 6)
"""Of a tile along an axis; sums of more lose too many digits."""
_TILES = 2
"""Register tiles for each."""
_BLOCKS = (1, 2, 4, 8)
_WORTH = 0.85
"""Of the direct sum's cycles that a sketch may take, by its estimate."""
# A vector that is stored to a plane leaves the first cache level and comes back.
_PLANE_VECTOR_CYCLES = 8
_MOST_BYTES = 3 * 2**19
"""Of what a task transforms for itself: the second cache level has two megabytes or so."""
_MOST_SHARED_BYTES = 2 * _MOST_BYTES
"""Of all filters, where every task reads all of them."""


@dataclass(frozen=True, kw_only=True)
class WinogradSketch:
    """One way to compute a convolution in tiles.

    Attributes
    ----------
    inputs : int
        Of a tile, along each axis.
    tile : RegisterTile
        Of the products in each plane.
    blocks, tasks : tuple of int
        What is sampled; see `schedules.winograd.plan.Plan`.
    """

    inputs: int
    tile: RegisterTile
    blocks: tuple[int, ...]
    tasks: tuple[int, ...]


def winograd_sketches(sch: Any, block: Any, unit: VectorUnit, cores: int) -> list[WinogradSketch]:
    """Choose the sketches of a block: none where the direct sum should be faster, or is no such.

    Parameters
    ----------
    sch : tvm.s_tir.Schedule
        Not changed.
    block : block
        A contraction with its own loops.
    unit : VectorUnit
        The target's registers.
    cores : int
        Of the target.
    """
    trial = sch.copy()
    if not _prepare(trial, block):
        return []
    window = find_window(trial.get(block))
    return [] if window is None else _sketches(window, unit, cores)


def mark(sch: Any, block: Any, sketch: WinogradSketch) -> None:
    """Mark a block with a sketch, and sample what that leaves open.

    The loops that stay are the direct sum's: what TVM builds by itself is right, and not fast.
    """
    tile = sketch.tile
    _prepare(sch, block)
    _put_channels_last(sch, block, tile.lanes)
    window = find_window(sch.get(block))
    assert window is not None
    loops = list(sch.get_loops(block))
    column = loops.pop(window.columns[-1])
    sch.reorder(*loops, column)
    vectorized(sch, column, tile.lanes)
    init = sch.decompose_reduction(block, loops[0])
    sch.annotate(init, INIT, 1)
    fixed = {"inputs": sketch.inputs, "rows": tile.rows, "vectors": tile.vectors}
    sampled = {"block": choice(sch, sketch.blocks), "tasks": choice(sch, sketch.tasks)}
    for name, value in {**fixed, "lanes": tile.lanes, **sampled}.items():
        sch.annotate(block, annotation(name), value)
    sch.annotate(block, SCHEDULED, TILED)
    for done in (init, sch.get_sblock("root")):
        sch.annotate(done, SCHEDULED, STAGE)


def _prepare(sch: Any, block: Any) -> bool:
    """Give each axis one role, and read through padding; say whether that was possible."""
    if not separate_axes(sch, block):
        return False
    for producer in sch.get_producers(block):
        made = sch.get(producer)
        is_padding = made.init is None and is_conditional(getattr(made.body, "value", None))
        if is_padding and own_loops(sch, producer) and len(sch.get_consumers(producer)) == 1:
            sch.compute_inline(producer)
    return True


def _put_channels_last(sch: Any, block: Any, lanes: int) -> None:
    """Read data whose channels come first from a copy of them."""
    window = find_window(sch.get(block))
    assert window is not None
    buffer, channels = channels_of(window)
    if channels in (-1, len(buffer.ty.shape) - 1):
        return

    def moved(*indices: Any) -> list[Any]:
        return [*indices[:channels], *indices[channels + 1 :], indices[channels]]

    read = [region.source.same_as(buffer) for region in sch.get(block).reads].index(True)
    copy = sch.cache_read(block, read, "global")
    dtype = index_dtype(sch.get(block))
    sch.transform_layout(block, ("read", read), index_map(moved, len(buffer.ty.shape), dtype))
    loops = list(sch.get_loops(copy))
    channel = loops.pop(channels)
    *outer, along = loops
    sch.reorder(*outer, along, channel)
    vectorized(sch, channel, lanes)
    sch.parallel(sch.fuse(*outer))
    sch.annotate(copy, SCHEDULED, STAGE)


def _sketches(window: Window, unit: VectorUnit, cores: int) -> list[WinogradSketch]:
    lanes, columns = unit.lanes("float32"), window.extents[window.columns[-1]]
    limit = _WORTH * _direct_cycles(window, lanes)
    found: list[WinogradSketch] = []
    for inputs in _INPUTS:
        narrow = _plan(inputs, RegisterTile(rows=1, vectors=1, lanes=lanes))
        if not narrow.fits(window):
            continue
        tiles = register_tiles(unit, lanes, narrow.points(window), columns)
        sketches = [
            _sketch(window, inputs, tile, cores)
            for tile in tiles
            if tile.lanes == lanes and _plan(inputs, tile).fits(window)
        ]
        good = [
            sketch
            for sketch in sketches
            if sketch.tasks and _cycles(window, inputs, sketch.tile) < limit
        ]
        found += good[:_TILES]
    return found


def _plan(inputs: int, tile: RegisterTile, block: int = 1) -> Plan:
    return Plan(
        inputs=inputs, rows=tile.rows, vectors=tile.vectors, lanes=tile.lanes, block=block, tasks=0
    )


def _sketch(window: Window, inputs: int, tile: RegisterTile, cores: int) -> WinogradSketch:
    plan = _plan(inputs, tile)
    planes, steps = prod([inputs] * len(window.tiled)), _steps(window)
    tiles = ceil(plan.points(window) / tile.rows)
    outer = window.count(window.batch) * prod(slide.outputs for slide in window.slid)
    row_bytes = 4 * planes * tile.rows
    blocks = [
        block
        for block in _BLOCKS
        if block <= tiles and row_bytes * block * tile.columns <= _MOST_BYTES
    ]
    even = [
        block
        for block in blocks
        if keeps_busy(outer * ceil(tiles / block), cores)
        and row_bytes * block * steps <= _MOST_BYTES
    ]
    panels = plan.panels(window)
    panel_bytes = 4 * planes * steps * tile.columns
    # Each block of points reads all filters.
    tasks = [0] if even and panel_bytes * panels <= _MOST_SHARED_BYTES else []
    if panel_bytes <= _MOST_BYTES:
        if keeps_busy(window.count(window.batch) * panels, cores):
            tasks.append(panels)
        if panels % cores == 0 and panels > cores and not window.batch:
            tasks.append(cores)
    return WinogradSketch(
        inputs=inputs,
        tile=tile,
        blocks=tuple(even if 0 in tasks else blocks),
        tasks=tuple(tasks),
    )


def _steps(window: Window) -> int:
    """Steps of the sum that are left in each plane."""
    return window.count(window.sums) * prod(slide.taps for slide in window.slid)


def _cycles(window: Window, inputs: int, tile: RegisterTile) -> float:
    """Estimate the cycles of all cores: those of the products, and of storing to planes."""
    points, columns = _plan(inputs, tile).points(window), window.count(window.columns)
    groups, planes = window.count(window.batch), prod([inputs] * len(window.tiled))
    slid = prod(slide.outputs for slide in window.slid)
    sums = window.count(window.sums)
    products = cycles(tile, points, columns) / 2 * slid * _steps(window)
    data = sums * points * prod(slide.positions for slide in window.slid)
    stored = _steps(window) * columns + data + slid * points * columns
    return groups * planes * (products + _PLANE_VECTOR_CYCLES * stored / tile.lanes)


def _direct_cycles(window: Window, lanes: int) -> float:
    """Estimate the cycles of all cores for all products, two vectors of them in each."""
    slides = (*window.tiled, *window.slid)
    points = window.count(window.rows) * prod(slide.outputs for slide in slides)
    steps = window.count(window.sums) * prod(slide.taps for slide in slides)
    columns = window.count(window.columns) / lanes
    return window.count(window.batch) * points * steps * columns / 2
