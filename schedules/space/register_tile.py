"""Register tiles: how many rows and vectors of the output one core holds while it sums."""

from dataclasses import dataclass
from math import ceil

from schedules.space.vector_unit import NARROWEST_BITS, VectorUnit

# A fused multiply-add takes about four cycles and one starts every cycle (two on some CPUs), so
# fewer sums than this at a time leave the unit idle.
# Source: Fog, Instruction tables; Low et al., Analytical Modeling Is Enough for High-Performance
# BLIS, 2016, section 4.
CHAINS = 8
# A panel of columns comes from the second level, which sustains some 32 to 48 bytes a cycle.
# Source: Intel, 64 and IA-32 Architectures Optimization Reference Manual, cache parameters.
_PANEL_VECTOR_CYCLES = 1.5
_MAX_ROWS = 16
_MAX_VECTORS = 6


@dataclass(frozen=True, kw_only=True)
class RegisterTile:
    """A block of the output that stays in registers.

    Attributes
    ----------
    rows : int
        Rows of the tile.
    vectors : int
        Vectors in each row.
    lanes : int
        Elements of a vector.
    """

    rows: int
    vectors: int
    lanes: int

    @property
    def columns(self) -> int:
        """Elements in each row."""
        return self.vectors * self.lanes


def register_tiles(
    unit: VectorUnit, lanes: int, rows: int, columns: int, *, divide: bool = False
) -> list[RegisterTile]:
    """Return the tiles that should be fastest for a matrix, best first.

    A tile of r rows and v vectors needs r * v registers for sums, v for a row of the columns'
    operand, and one for the rows' operand unless the CPU multiplies by a scalar in memory. Tiles
    that need more than there are would spill in every step, and are left out. The others are ranked
    by the cycles of the whole matrix, padding included.

    Parameters
    ----------
    unit : VectorUnit
        The target's registers.
    lanes : int
        Elements of a full register.
    rows, columns : int
        Extents of the output.
    divide : bool
        Only tiles that divide the matrix.
    """
    found = []
    # Half and quarter registers serve outputs with few columns, if the CPU has narrower vectors.
    least = max(1, lanes * NARROWEST_BITS // unit.bits)
    widths = {max(lanes // part, least) for part in (1, 2, 4)}
    if divide and columns < lanes:
        # The compiler rounds odd vectors up; better than a sum for each element.
        widths.add(columns)
    for width in sorted(widths):
        for height in range(1, min(rows, _MAX_ROWS) + 1):
            for vectors in range(1, _MAX_VECTORS + 1):
                tile = RegisterTile(rows=height, vectors=vectors, lanes=width)
                if height * vectors + vectors + (not unit.broadcasts) > unit.registers:
                    continue
                if divide and (rows % height or columns % tile.columns):
                    continue
                found.append(tile)
    return sorted(found, key=lambda tile: cycles(tile, rows, columns))


def cycles(tile: RegisterTile, rows: int, columns: int) -> float:
    """Estimate the cycles of one step of the sum over the whole matrix."""
    multiplications = tile.rows * tile.vectors
    loads = tile.rows + tile.vectors
    panel = _PANEL_VECTOR_CYCLES * tile.vectors
    step = max(float(CHAINS), multiplications + 0.1 * loads, 1.0 * loads, panel)
    return ceil(rows / tile.rows) * ceil(columns / tile.columns) * step
