"""How much memory the inner part of a loop nest touches, and what that means for its caches.

The nest around one block is looked at from the inside: with `d` loops, the part that they span
touches so many bytes of each buffer. The largest part that fits into a cache brings its bytes into
it once, and the loops outside repeat that.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from math import log2, prod

from cost_model.loop_nest import Axis, Loop, core_utilisation
from cost_model.machine import Machine

DEPTHS = 5
LEVELS = ("l1", "l2", "l3")

ANALYSIS_COLUMNS: tuple[str, ...] = (
    *(f"footprint{depth}_over_l1" for depth in range(1, DEPTHS + 1)),
    *(f"{level}_bytes_per_iteration" for level in LEVELS),
    *(f"{level}_iterations" for level in LEVELS),
    *("register_tile", "vector_use", "compute_over_roofline", "memory_over_roofline", "bound"),
)
"""Names of what `analyse` returns."""

# How much faster than memory the first, second and third cache are filled from the next level.
_LEVEL_SPEED = (12.0, 4.0, 1.0)
_USABLE = 0.75
"""The share of a cache that one part can have: other data and conflicts take the rest."""


@dataclass(frozen=True, kw_only=True)
class Access:
    """One buffer that a block reads or writes.

    Attributes
    ----------
    dimensions : tuple of Dimension
        How the block's iterators move along each of the buffer's dimensions.
    element_bytes : int
        Size of an element.
    is_write : bool
        Whether it is written.
    """

    dimensions: tuple["Dimension", ...]
    element_bytes: int
    is_write: bool


@dataclass(frozen=True, kw_only=True)
class Dimension:
    """One dimension of a buffer.

    Attributes
    ----------
    extent : int
        Of the buffer.
    strides : tuple of (int, int)
        Pairs of an iterator's number and how many elements one step of it moves by.
    window : int
        Elements that one iteration touches.
    """

    extent: int
    strides: tuple[tuple[int, int], ...]
    window: int = 1


@dataclass(frozen=True, kw_only=True)
class Nest:
    """The loops around a block, with what they do to it.

    Attributes
    ----------
    loops : tuple of Loop
        Outermost first.
    iterators : tuple of frozenset of int
        For each loop, which of the block's iterators it moves.
    extents : tuple of int
        Of the block's iterators.
    accesses : tuple of Access
        What the block reads and writes.
    """

    loops: tuple[Loop, ...] = ()
    iterators: tuple[frozenset[int], ...] = ()
    extents: tuple[int, ...] = ()
    accesses: tuple[Access, ...] = ()


def analyse(
    nest: Nest, machine: Machine, *, flops: float, roofline_secs: float, element_bytes: float
) -> list[float]:
    """Describe what a loop nest asks of the memory hierarchy.

    Parameters
    ----------
    nest : Nest
        The loops around the dominant block.
    machine : Machine
        The target's hardware.
    flops, roofline_secs, element_bytes : float
        Of the workload; see `Machine.roofline_secs`.

    Returns
    -------
    list of float
        One value for each of `ANALYSIS_COLUMNS`, all logarithms to base 2:

        ``footprint<d>_over_l1``
            Bytes that the `d` innermost loops touch, over the size of the first cache.
        ``<level>_bytes_per_iteration``, ``<level>_iterations``
            What has to be brought into a cache for one iteration of the block, and how many
            iterations the part has that fits into it.
        ``register_tile``
            Bytes of the output that are kept while a reduction goes on, over those of the vector
            registers: above 0 they spill.
        ``vector_use``
            The share of a vector register's lanes that is used.
        ``compute_over_roofline``, ``memory_over_roofline``, ``bound``
            The time for the arithmetic with the lanes and cores that are used, that for the
            slowest level's traffic, and the larger of them, over the roofline bound.
    """
    inside_out = _inside_out(nest)
    footprints = _footprints(nest, inside_out)
    iterations = [1]
    for place in inside_out:
        iterations.append(iterations[-1] * nest.loops[place].extent)
    fitting = [_largest_fitting(footprints, _USABLE * size) for size in machine.cache_bytes]
    per_iteration = [footprints[depth] / iterations[depth] for depth in fitting]
    lanes = machine.vector_bytes / element_bytes
    vector_use = min(_vectorised(nest), lanes) / lanes
    chunks = prod(loop.extent for loop in nest.loops if loop.parallel)
    peak = machine.peak_flops_per_sec(element_bytes)
    compute_secs = flops / (peak * vector_use * core_utilisation(chunks, machine.cores))
    memory_secs = max(
        iterations[-1] * cost / (machine.bytes_per_sec * speed)
        for cost, speed in zip(per_iteration, _LEVEL_SPEED, strict=True)
    )
    compute, memory = (
        log2(max(secs, 1e-12) / roofline_secs) for secs in (compute_secs, memory_secs)
    )
    shown = [footprints[min(depth, len(footprints) - 1)] for depth in range(1, DEPTHS + 1)]
    return [
        *(log2(size / machine.cache_bytes[0]) for size in shown),
        *(log2(cost) for cost in per_iteration),
        *(log2(iterations[depth]) for depth in fitting),
        log2(_register_tile_bytes(nest, inside_out) / machine.register_bytes),
        log2(vector_use),
        compute,
        memory,
        max(compute, memory),
    ]


def _inside_out(nest: Nest) -> list[int]:
    """Return the places of the loops with more than one iteration, innermost first."""
    return [place for place in reversed(range(len(nest.loops))) if nest.loops[place].extent > 1]


def _footprints(nest: Nest, inside_out: Sequence[int]) -> list[float]:
    """Return the bytes that the 0, 1, 2, ... innermost loops touch; at least one."""
    tiles = [1] * len(nest.extents)
    sizes = [_touched(nest.accesses, tiles)]
    for place in inside_out:
        _widen(nest, tiles, place)
        sizes.append(_touched(nest.accesses, tiles))
    return sizes


def _widen(nest: Nest, tiles: list[int], place: int) -> None:
    """Add a loop to a part: its iterators run further, but not beyond their extents."""
    for iterator in nest.iterators[place]:
        widened = tiles[iterator] * nest.loops[place].extent
        tiles[iterator] = min(widened, nest.extents[iterator])


def _touched(accesses: Sequence[Access], tiles: Sequence[int]) -> float:
    return max(1.0, sum(_bytes_of(access, tiles) for access in accesses))


def _bytes_of(access: Access, tiles: Sequence[int]) -> float:
    size = float(access.element_bytes)
    for dimension in access.dimensions:
        reach = dimension.window
        points = dimension.window
        for iterator, stride in dimension.strides:
            reach += abs(stride) * (tiles[iterator] - 1)
            points *= tiles[iterator]
        size *= min(reach, points, dimension.extent)
    return size


def _largest_fitting(footprints: Sequence[float], size_bytes: float) -> int:
    fitting = 0
    for depth, footprint in enumerate(footprints):
        if footprint > size_bytes:
            break
        fitting = depth
    return fitting


def _vectorised(nest: Nest) -> int:
    return prod(loop.extent for loop in nest.loops if loop.vectorized)


def _register_tile_bytes(nest: Nest, inside_out: Sequence[int]) -> float:
    """Return the bytes of the output inside the innermost reduction that has loops inside it."""
    tiles = [1] * len(nest.extents)
    written = [access for access in nest.accesses if access.is_write]
    for place in inside_out:
        if nest.loops[place].axis is not Axis.REDUCE:
            _widen(nest, tiles, place)
        elif max(tiles) > 1:
            return _touched(written, tiles)
    # Each element is reduced on its own.
    return _touched(written, [1] * len(tiles))
