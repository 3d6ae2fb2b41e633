"""Moves that the rules for whole programs share, on CPUs and on GPUs."""

from collections.abc import Sequence
from math import prod
from typing import Any

from tvm.s_tir import ScheduleError

from schedules.space.structure import Block, blocks_of, describe

# Tiles in the innermost block: more than fit into a cache at any size.
_MOST_TILES = 512


def is_untouched(schedule: Any, blocks: Sequence[Block]) -> bool:
    """Whether no rule has changed a loop yet."""
    return all(
        len(schedule.get_loops(schedule.get_sblock(item.name))) == len(item.extents)
        for item in blocks
    )


def inline_cheap(schedule: Any, among: Sequence[Block], *, again: bool) -> list[Block]:
    """Inline each elementwise block that costs its consumers nothing to compute again.

    Parameters
    ----------
    schedule : tvm.s_tir.Schedule
        Changed in place.
    among : sequence of Block
        Both a block that is inlined and its consumers.
    again : bool
        Whether also cheap ones that windows read several times over, but not what is broadcast.

    Returns
    -------
    list of Block
        Those of `among` that are left, as they are now.
    """
    names = {item.name for item in among}
    changed = True
    while changed:
        changed = False
        blocks = blocks_of(schedule)
        for place, item in enumerate(blocks[:-1]):
            if item.name not in names:
                continue
            consumers = [other for other in blocks[place + 1 :] if item.feeds(other)]
            once = len(consumers) == 1 and prod(consumers[0].extents) <= item.points
            grows = any(
                (other.points if again else prod(other.extents)) > 2 * item.points
                for other in consumers
            )
            if item.is_reduction or not consumers or not (once or not (item.is_costly or grows)):
                continue
            if any(other.name not in names for other in consumers):
                continue
            try:
                schedule.compute_inline(schedule.get_sblock(item.name))
            except ScheduleError:
                # An output, or a block whose elements are not written one by one.
                continue
            changed = True
            break
    return [item for item in blocks if item.name in names]


def runs_along(facts: Block) -> bool:
    """Whether a reduction sums what lies side by side in memory."""
    return facts.contiguous is None or facts.kinds[facts.contiguous] == "reduction"


def fused_reduction(schedule: Any, block: Any) -> Any:
    """Make one loop, the innermost, of a fresh block's reduction loops."""
    kinds = describe(schedule.get(block)).kinds
    loops = list(zip(schedule.get_loops(block), kinds, strict=True))
    spatial = [loop for loop, kind in loops if kind == "spatial"]
    reduction = [loop for loop, kind in loops if kind == "reduction"]
    schedule.reorder(*spatial, *reduction)
    return schedule.fuse(*reduction) if len(reduction) > 1 else reduction[0]


def choice(schedule: Any, values: Sequence[int]) -> Any:
    """Sample one of some values, each as likely."""
    share = 1.0 / len(values)
    return schedule.sample_categorical(list(values), [share] * len(values))


def grouped(schedule: Any, loop: Any, parts: int) -> list[Any]:
    """Split a loop over tiles to nested groups of them, of sampled sizes."""
    return list(schedule.split(loop, schedule.sample_perfect_tile(loop, parts, _MOST_TILES)))


def divisors(number: int) -> list[int]:
    """Return all divisors, ascending."""
    return [size for size in range(1, number + 1) if number % size == 0]


def divisor(number: int, limit: int) -> int:
    """Return the largest divisor up to a limit."""
    return max(size for size in divisors(number) if size <= limit)
