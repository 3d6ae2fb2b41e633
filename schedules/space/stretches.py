"""The parts of a program between its contractions."""

from collections.abc import Sequence

from schedules.space.structure import Block


def stretch_ending_at(blocks: Sequence[Block], name: str) -> tuple[Block, ...]:
    """Return the blocks that memory bounds and that are worked through together up to one of them.

    Two blocks are of one stretch if one reads what the other writes, directly or by way of others
    of the stretch, and no contraction is on any way between them. So a stretch never has to wait
    for a contraction that waits for the stretch.

    Parameters
    ----------
    blocks : sequence of Block
        Of a program, producers first.
    name : str
        Of a block.

    Returns
    -------
    tuple of Block
        Producers first; empty if the block is the root, a contraction, or not the last one of its
        stretch.
    """
    last = next((item for item in blocks if item.name == name), None)
    if last is None or last.is_contraction:
        return ()
    depths = _depths(blocks)
    found = {name}
    while more := {
        one.name
        for one in blocks
        for other in blocks
        if other.name in found
        and one.name not in found
        and not one.is_contraction
        and depths[one.name] == depths[name]
        and (one.feeds(other) or other.feeds(one))
    }:
        found |= more
    stretch = tuple(item for item in blocks if item.name in found)
    return stretch if stretch[-1].name == name else ()


def _depths(blocks: Sequence[Block]) -> dict[str, int]:
    """The most contractions that lie on a way from an input to each block."""
    depths: dict[str, int] = {}
    for place, item in enumerate(blocks):
        depths[item.name] = max(
            (
                depths[other.name] + other.is_contraction
                for other in blocks[:place]
                if other.feeds(item)
            ),
            default=0,
        )
    return depths
