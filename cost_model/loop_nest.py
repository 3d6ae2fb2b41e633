"""The loop nest around one block as numbers that mean the same for every shape.

TVM's features say how much memory a loop nest touches; they do not say how it is tiled. The tile
sizes decide what stays in registers and in cache, so they are given here directly, by the kind of
axis instead of by its name, which makes them comparable between operators. Read off the program and
not off the trace, they do not depend on which schedule space it came from.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from math import ceil, log2, prod

TILES = 5


class Axis(StrEnum):
    """What a loop walks over."""

    LAST = "last"
    """The last spatial axis, along which the output is contiguous."""
    OTHER = "other"
    """Any other spatial axis."""
    REDUCE = "reduce"
    """A reduction axis."""
    FUSED = "fused"
    """Axes of several kinds at once."""


@dataclass(frozen=True, kw_only=True)
class Loop:
    """One loop around a block.

    Attributes
    ----------
    extent : int
        Number of iterations.
    axis : Axis
        What it walks over.
    parallel : bool
        Whether it is spread over cores or over GPU blocks and threads.
    vectorized, unrolled : bool
        Whether its iterations become lanes of vector instructions, or are written out.
    """

    extent: int
    axis: Axis
    parallel: bool = False
    vectorized: bool = False
    unrolled: bool = False


_AXES = (Axis.LAST, Axis.OTHER, Axis.REDUCE)

LOOP_COLUMNS: tuple[str, ...] = (
    *(f"tile{depth}.{axis}" for depth in range(1, TILES + 1) for axis in _AXES),
    *(f"chunk.{axis}" for axis in _AXES),
    *("parallel", "parallel_per_core", "core_utilisation", "vector_length", "unrolled"),
)
"""Names of what `summarise` returns."""


def summarise(loops: Sequence[Loop], cores: int) -> list[float]:
    """Describe a loop nest by its tile sizes.

    Loops of one iteration are left out, as the compiler removes them, and so are parallel ones.

    Parameters
    ----------
    loops : sequence of Loop
        Outermost first.
    cores : int
        Number of cores that parallel loops are spread over.

    Returns
    -------
    list of float
        One value for each of `LOOP_COLUMNS`:

        ``tile<d>.<axis>``
            log2 of the iterations over such axes in the `d` innermost loops together.
        ``chunk.<axis>``
            The same in one parallel iteration: which axes are divided among the cores.
        ``parallel``, ``parallel_per_core``
            log2 of the iterations of parallel loops, and of these for each core.
        ``core_utilisation``
            The share of the cores' time that is used if all parallel iterations take the same
            time: 3 iterations on 2 cores use 0.75 of it.
        ``vector_length``, ``unrolled``
            log2 of the iterations of vectorised loops, and of those that are written out.
    """
    inside_out = [loop for loop in reversed(loops) if loop.extent > 1]
    serial = [loop for loop in inside_out if not loop.parallel]
    chunks = prod(loop.extent for loop in inside_out if loop.parallel)
    return [
        *_tiles(serial),
        *(log2(prod(loop.extent for loop in serial if loop.axis is axis)) for axis in _AXES),
        log2(chunks),
        log2(chunks / cores),
        core_utilisation(chunks, cores),
        log2(prod(loop.extent for loop in serial if loop.vectorized)),
        log2(prod(loop.extent for loop in serial if loop.unrolled)),
    ]


def core_utilisation(chunks: int, cores: int) -> float:
    """Return the share of the cores' time that so many equal parallel iterations use."""
    return chunks / (ceil(chunks / cores) * cores)


def _tiles(serial: Sequence[Loop]) -> list[float]:
    sizes = dict.fromkeys(_AXES, 0.0)
    values: list[float] = []
    for depth in range(TILES):
        if depth < len(serial) and serial[depth].axis in sizes:
            sizes[serial[depth].axis] += log2(serial[depth].extent)
        values.extend(sizes.values())
    return values
