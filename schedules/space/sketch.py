"""Sketches of packed contractions: which few ways to schedule one are worth a trial."""

from collections.abc import Sequence
from dataclasses import dataclass
from enum import Enum
from typing import Any

import tvm

from schedules.space.contraction import Contraction, Role
from schedules.space.pair_dot import LANES, PairDot, pair_dot
from schedules.space.register_tile import RegisterTile, cycles, register_tiles
from schedules.space.vector_unit import VectorUnit

_TILES = 3
# How much slower a tile that divides the output may be before padded copies take its place.
_WORTH_PADDING = 1.3


class Pack(Enum):
    """When an operand is copied to panels.

    All at once costs a pass through memory that many rows earn back; a panel by the task that uses
    it stays in that core's cache, but is copied again by each task.
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
    gather : bool
        Whether the rows' operand is copied to a matrix first (for a convolution: im2col), rather
        than read in place.
    pack : Pack
        When the columns' operand is copied to panels as wide as a tile.
    dot : PairDot or None
        The instruction for two steps of the sum, if they are taken together.
    """

    tile: RegisterTile
    gather: bool
    pack: Pack
    dot: PairDot | None = None


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
        Sketch(tile=tile, gather=True, pack=pack)
        for tile in (padded[:1] if good else padded[:_TILES])
        for pack in (Pack.AT_ONCE, Pack.BY_TASK)
    ]
    return _in_place(contraction, good) + gathered


def pair_dot_of(contraction: Contraction, target: Any) -> PairDot | None:
    """Return the target's instruction for pairs, if a contraction has the form that it takes."""
    rows, columns = contraction.rows, contraction.columns
    fits = (
        rows.dtype == columns.dtype
        and rows.is_load
        and rows.read < columns.read
        and contraction.extent(Role.SUM) > 1
    )
    return pair_dot(rows.dtype, contraction.dtype, target) if fits else None


def paired_sketches(contraction: Contraction, unit: VectorUnit, dot: PairDot) -> list[Sketch]:
    """Choose the sketches with an instruction for two steps of the sum."""
    rows, columns = contraction.extent(Role.ROW), contraction.extent(Role.COLUMN)
    full = [tile for tile in register_tiles(unit, LANES, rows, columns) if tile.lanes == LANES]
    return [
        Sketch(tile=tile, gather=True, pack=pack, dot=dot)
        for tile in full[: 2 * _TILES]
        for pack in (Pack.AT_ONCE, Pack.BY_TASK)
    ]


def _in_place(contraction: Contraction, tiles: Sequence[RegisterTile]) -> list[Sketch]:
    last_column = contraction.places(Role.COLUMN)[-1]
    packs = [Pack.AT_ONCE, Pack.BY_TASK]
    if last_column in contraction.columns.innermost:
        packs.append(Pack.NEVER)
    return [Sketch(tile=tile, gather=False, pack=pack) for tile in tiles for pack in packs]
