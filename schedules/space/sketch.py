"""Sketches of packed contractions: which few ways to schedule one are worth a trial."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from enum import Enum
from functools import partial
from math import ceil
from typing import Any

from schedules.space.amx_source import TILE_ROWS, TILES
from schedules.space.contraction import Contraction, Role
from schedules.space.dots import LANES, Dot, MatrixDot, VectorDot, dots_for
from schedules.space.register_tile import RegisterTile, cycles, register_tiles
from schedules.space.vector_unit import VectorUnit

_TILES = 3
_DOT_TILES = 5
_DOT_TILES_BESIDE = 2
"""Of vectors, where AMX has tiles of its own."""
# How much slower a tile that divides the output may be before others take its place.
_WORTH_PADDING = 1.3


class Pack(Enum):
    """When an operand is copied.

    All at once costs a pass through memory that much use of it earns back; what a task copies for
    itself stays in that core's cache, but is copied again by each task that uses it. Ahead of time,
    which only constants can be, it costs nothing.
    """

    NEVER = "never"
    AT_ONCE = "at once"
    BY_TASK = "by task"
    AHEAD = "ahead of time"


@dataclass(frozen=True, kw_only=True)
class Sketch:
    """One way to schedule a contraction; what it leaves open is sampled.

    Attributes
    ----------
    tile : RegisterTile
        What stays in registers.
    gather : Pack
        When the rows' operand is copied to a matrix (for a convolution: im2col), or for dot
        products to panels.
    pack : Pack
        When the columns' operand is copied to panels as wide as a tile.
    dot : Dot or None
        The instruction for several steps of the sum, if they are taken together.
    turned : bool
        Whether rows and columns of the contraction change places.
    """

    tile: RegisterTile
    gather: Pack
    pack: Pack
    dot: Dot | None = None
    turned: bool = False


def sketches(contraction: Contraction, unit: VectorUnit) -> list[Sketch]:
    """Choose the sketches of a contraction: few, as each trial should be a good one."""
    lanes = unit.lanes(contraction.dtype)
    rows, columns = contraction.extent(Role.ROW), contraction.extent(Role.COLUMN)
    whole = register_tiles(unit, lanes, rows, columns, divide=True)
    if not contraction.rows.is_load:
        # A condition stays with the product, where a copy of the operand would not drop the zeros.
        return _in_place(contraction, whole[:_TILES])
    padded = register_tiles(unit, lanes, rows, columns)
    limit = _WORTH_PADDING * cycles(padded[0], rows, columns)
    good = [tile for tile in whole if cycles(tile, rows, columns) <= limit][:_TILES]
    best = padded[0]
    if best in good:
        uneven = []
    elif good:
        uneven = [
            Sketch(tile=best, gather=Pack.NEVER, pack=pack)
            for pack in _packs(contraction)
            if pack is not Pack.BY_TASK
        ]
    else:
        uneven = [
            Sketch(tile=tile, gather=Pack.NEVER, pack=pack)
            for tile in padded[:_TILES]
            for pack in (Pack.AT_ONCE, Pack.BY_TASK)
        ]
    gathered = [
        Sketch(tile=best, gather=Pack.AT_ONCE, pack=pack) for pack in (Pack.AT_ONCE, Pack.BY_TASK)
    ]
    return _in_place(contraction, good) + uneven + gathered


def turned_sketches(contraction: Contraction, unit: VectorUnit) -> list[Sketch]:
    """Choose sketches for pictures whose channels come first, where a window is slid over them.

    Copying each point's window takes up to half as long as the sums. With the points as rows they
    are read in place, channels are the columns, and only the sums are written back across memory.
    """
    points, filters = contraction.columns, contraction.rows
    has_window = contraction.is_picture and len(contraction.places(Role.SUM)) > 1
    if not (has_window and points.is_load and filters.is_load) or contraction.places(Role.PHASE):
        return []
    return [
        replace(sketch, turned=True)
        for sketch in sketches(contraction.turned(), unit)
        if sketch.gather is Pack.NEVER
    ]


def packed_ahead(found: Sequence[Sketch], *, rows: bool, columns: bool) -> list[Sketch]:
    """Copy constant operands ahead of time.

    Parameters
    ----------
    found : sequence of Sketch
        For operands that vary.
    rows, columns : bool
        Whether the operand is constant.

    Returns
    -------
    list of Sketch
        Rows that are read in place still are; columns are always in panels.
    """
    moved = [
        replace(
            sketch,
            gather=Pack.AHEAD if rows and sketch.gather is not Pack.NEVER else sketch.gather,
            pack=Pack.AHEAD if columns else sketch.pack,
        )
        for sketch in found
    ]
    return list(dict.fromkeys(moved))


def dots_of(contraction: Contraction, target: Any) -> list[Dot]:
    """Return the target's dot-product instructions, if a contraction has the form they take."""
    rows, columns = contraction.rows, contraction.columns
    fits = (
        rows.dtype == columns.dtype
        and rows.is_load
        and rows.read < columns.read
        and contraction.extent(Role.SUM) > 1
    )
    return list(dots_for(rows.dtype, contraction.dtype, target)) if fits else []


def dot_sketches(contraction: Contraction, unit: VectorUnit, dots: Sequence[Dot]) -> list[Sketch]:
    """Choose the sketches with dot-product instructions."""
    rows, columns = contraction.extent(Role.ROW), contraction.extent(Role.COLUMN)
    most = _DOT_TILES if len(dots) == 1 else _DOT_TILES_BESIDE
    found: list[Sketch] = []
    for dot in dots:
        if isinstance(dot, MatrixDot):
            tiles = matrix_tiles(rows, columns)[:_TILES]
        else:
            assert isinstance(dot, VectorDot)
            free = replace(unit, registers=unit.registers - dot.registers)
            beside = partial(_dot_cycles, dot=dot, rows=rows, columns=columns)
            ranked = sorted(register_tiles(free, LANES, rows, columns), key=beside)
            tiles = [tile for tile in ranked if tile.lanes == LANES][:most]
        found += [
            Sketch(tile=tile, gather=gather, pack=pack, dot=dot)
            for tile in tiles
            for gather, pack in (
                (Pack.AT_ONCE, Pack.AT_ONCE),
                (Pack.BY_TASK, Pack.AT_ONCE),
                (Pack.BY_TASK, Pack.BY_TASK),
            )
        ]
    return found


def _dot_cycles(tile: RegisterTile, *, dot: VectorDot, rows: int, columns: int) -> float:
    """Estimate the cycles of one step over the whole matrix, with what unsigned operands take."""
    offset = 1 / (tile.rows * tile.vectors) if dot.is_unsigned else 0
    return cycles(tile, rows, columns) * (1 + offset)


def matrix_tiles(rows: int, columns: int) -> list[RegisterTile]:
    """Return what AMX's tiles can hold of a matrix, in the order of what it should take.

    A multiplication of two tiles starts every 16 cycles, a load of one every 8.
    Source: Intel, 64 and IA-32 Architectures Optimization Reference Manual, section 20.5.
    """
    height = min(rows, TILE_ROWS)
    found = [
        (high, wide)
        for high in range(1, ceil(rows / height) + 1)
        for wide in range(1, ceil(columns / LANES) + 1)
        if high * wide + high + wide <= TILES
    ]

    def cycles_of(shape: tuple[int, int]) -> int:
        high, wide = shape
        calls = ceil(rows / (high * height)) * ceil(columns / (wide * LANES))
        return calls * max(16 * high * wide, 8 * (high + wide))

    # Of equal ones the larger first: it loads less.
    ranked = sorted(found, key=lambda shape: (cycles_of(shape), -shape[0] * shape[1]))
    return [RegisterTile(rows=high * height, vectors=wide, lanes=LANES) for high, wide in ranked]


def _in_place(contraction: Contraction, tiles: Sequence[RegisterTile]) -> list[Sketch]:
    return [
        Sketch(tile=tile, gather=Pack.NEVER, pack=pack)
        for tile in tiles
        for pack in _packs(contraction)
    ]


def _packs(contraction: Contraction) -> list[Pack]:
    """When columns may be copied: never only where vectors of them lie together."""
    contiguous = contraction.places(Role.COLUMN)[-1] in contraction.columns.innermost
    return [Pack.AT_ONCE, Pack.BY_TASK, *([Pack.NEVER] if contiguous else [])]
