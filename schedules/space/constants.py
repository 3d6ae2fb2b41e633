"""Which operands of a block are constant parameters of the program."""

from typing import Any

import tvm

from schedules.prepack import constants_of


def reads_constant(sch: Any, block: Any, read: int) -> bool:
    """Whether what a block reads at a place is a constant that nobody else reads.

    Blocks between them that only move its elements count as the block itself.
    """
    source, reader = sch.get(block).reads[read].source, block
    makers = _makers(sch, reader, source)
    while len(makers) == 1 and isinstance(sch.get(makers[0]).body.value, tvm.ir.TensorLoad):
        [reader] = makers
        source = sch.get(reader).reads[0].source
        makers = _makers(sch, reader, source)
    function = sch.mod["main"]
    is_constant = any(function.params[place].same_as(source) for place in constants_of(function))
    blocks = [sch.get(child) for child in sch.get_child_blocks(sch.get_sblock("root"))]
    readers = sum(any(item.source.same_as(source) for item in one.reads) for one in blocks)
    return is_constant and readers == 1


def _makers(sch: Any, reader: Any, buffer: Any) -> list[Any]:
    return [
        producer
        for producer in sch.get_producers(reader)
        if sch.get(producer).writes[0].source.same_as(buffer)
    ]
