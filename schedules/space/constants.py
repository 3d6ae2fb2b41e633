"""Which operands of a block are constant parameters of the program."""

from typing import Any

import tvm

from schedules.prepack import constants_of
from schedules.space.stage import makers


def reads_constant(sch: Any, block: Any, read: int) -> bool:
    """Whether what a block reads at a place is a constant that nobody else reads.

    Blocks between them that only move its elements count as the block itself.
    """
    source, reader = sch.get(block).reads[read].source, block
    made = makers(sch, reader, source)
    while len(made) == 1 and isinstance(sch.get(made[0]).body.value, tvm.ir.TensorLoad):
        [reader] = made
        source = sch.get(reader).reads[0].source
        made = makers(sch, reader, source)
    function = sch.mod["main"]
    is_constant = any(function.params[place].same_as(source) for place in constants_of(function))
    blocks = [sch.get(child) for child in sch.get_child_blocks(sch.get_sblock("root"))]
    readers = sum(any(item.source.same_as(source) for item in one.reads) for one in blocks)
    return is_constant and readers == 1
