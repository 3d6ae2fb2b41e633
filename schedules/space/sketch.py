"""Sketches of packed contractions: which few ways to schedule one are worth a trial."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from enum import Enum
from typing import Any

import tvm

from schedules.space.contraction import Contraction, Role
from schedules.space.dot_tile import LANES, Dot, dot_for
from schedules.space.register_tile import RegisterTile, cycles, register_tiles
from schedules.space.vector_unit import VectorUnit

_TILES = 3
_DOT_TILES = 5
# How much slower a tile that divides the output may be before padded copies take its place.
_WORTH_PADDING = 1.3


class Pack(Enum):
    """When an operand is copied.

    All at once costs a pass through memory that much use of it earns back; what a task copies for
    itself stays in that core's cache, but is copied again by each task that uses it.
    """

    NEVER = "never"
    AT_ONCE = "at once"
    BY_TASK = "by task"


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
    """

    tile: RegisterTile
    gather: Pack
    pack: Pack
    dot: Dot | None = None


def sketches(contraction: Contraction, unit: VectorUnit) -> list[Sketch]:
    """Choose the sketches of a contraction: few, as each trial should be a good one."""
    lanes = unit.lanes(int(tvm.DataType(contraction.dtype).bits))
    rows, columns = contraction.extent(Role.ROW), contraction.extent(Role.COLUMN)
    whole = register_tiles(unit, lanes, rows, columns, divide=True)
    if not contraction.rows.is_load:
        # A condition stays with the product, where a copy of the operand would not drop the zeros.
        return _in_place(contraction, whole[:_TILES])
    padded = register_tiles(unit, lanes, rows, columns)
    limit = _WORTH_PADDING * cycles(padded[0], rows, columns)
    good = [tile for tile in whole if cycles(tile, rows, columns) <= limit][:_TILES]
    gathered = [
        Sketch(tile=tile, gather=Pack.AT_ONCE, pack=pack)
        for tile in (padded[:1] if good else padded[:_TILES])
        for pack in (Pack.AT_ONCE, Pack.BY_TASK)
    ]
    return _in_place(contraction, good) + gathered


def dot_of(contraction: Contraction, target: Any) -> Dot | None:
    """Return the target's dot-product instruction, if a contraction has the form that it takes."""
    rows, columns = contraction.rows, contraction.columns
    fits = (
        rows.dtype == columns.dtype
        and rows.is_load
        and rows.read < columns.read
        and contraction.extent(Role.SUM) > 1
    )
    return dot_for(rows.dtype, contraction.dtype, target) if fits else None


def dot_sketches(contraction: Contraction, unit: VectorUnit, dot: Dot) -> list[Sketch]:
    """Choose the sketches with a dot-product instruction."""
    rows, columns = contraction.extent(Role.ROW), contraction.extent(Role.COLUMN)
    free = replace(unit, registers=unit.registers - dot.registers)
    full = [tile for tile in register_tiles(free, LANES, rows, columns) if tile.lanes == LANES]
    return [
        Sketch(tile=tile, gather=gather, pack=pack, dot=dot)
        for tile in full[:_DOT_TILES]
        for gather, pack in (
            (Pack.AT_ONCE, Pack.AT_ONCE),
            (Pack.BY_TASK, Pack.AT_ONCE),
            (Pack.BY_TASK, Pack.BY_TASK),
        )
    ]


def _in_place(contraction: Contraction, tiles: Sequence[RegisterTile]) -> list[Sketch]:
    last_column = contraction.places(Role.COLUMN)[-1]
    packs = [Pack.AT_ONCE, Pack.BY_TASK]
    if last_column in contraction.columns.innermost:
        packs.append(Pack.NEVER)
    return [Sketch(tile=tile, gather=Pack.NEVER, pack=pack) for tile in tiles for pack in packs]
