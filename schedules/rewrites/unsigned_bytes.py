"""Packing bytes as the unsigned numbers that their products' instruction takes.

``vpdpbusd`` takes one of two bytes unsigned, so each vector of a panel has its sign bits flipped
whenever a tile reads it (`schedules.space.dot_source`). Where the program packs the panel itself,
for nobody else, it stores the bytes with their signs flipped, once.
"""

from collections.abc import Iterable
from typing import Any

import tvm
from tvm import s_tir, tirx

from schedules.canonical import objects
from schedules.nests import changed, is_among, is_call, with_arguments, with_block_body
from schedules.space.dots import FUNCTIONS, SIGNS

_COLUMNS = 2
"""Place of the columns' operand among the arguments of a product; the bits to flip are the last."""
_CALL = "tirx.call_extern"
_SIGN = tirx.const(-128, "int8")


def store_unsigned(function: Any) -> Any:
    """Let panels of bytes be stored as unsigned numbers, if only products read them.

    Parameters
    ----------
    function : tvm.tirx.PrimFunc
        A scheduled program.

    Returns
    -------
    tvm.tirx.PrimFunc
        The same object where there is none.
    """
    panels = _panels(function)

    def flipped(statement: Any, _loops: tuple[Any, ...]) -> Any:
        if not isinstance(statement, s_tir.SBlockRealize):
            return None
        block = statement.block
        if is_among(_stored_by(block), panels):
            store = block.body
            value = tirx.bitwise_xor(store.value, _SIGN)
            return with_block_body(statement, tirx.BufferStore(store.buffer, value, store.indices))
        if is_among(_columns_of(block), panels):
            return with_block_body(statement, _without_flips(block.body))
        return statement

    return changed(function, flipped) if panels else function


def _panels(function: Any) -> list[Any]:
    """Return the buffers that are only stored element by element and read as columns."""
    stored: list[Any] = []
    read: list[Any] = []

    def seen(statement: Any, _loops: tuple[Any, ...]) -> Any:
        if not isinstance(statement, s_tir.SBlockRealize):
            return None
        stored.append(_stored_by(statement.block))
        read.append(_columns_of(statement.block))
        return statement

    changed(function, seen)
    made = [one for one in function.body.block.alloc_buffers if is_among(one, read)]
    if not made:
        return []
    nodes = list(objects(function.body))
    return [one for one in made if _count(one, map(_used_by, nodes)) == _count(one, stored + read)]


def _count(buffer: Any, among: Iterable[Any]) -> int:
    return sum(buffer.same_as(other) for other in among)


def _used_by(node: Any) -> Any:
    """Return the buffer that a node stores to, loads from or matches; None of other nodes."""
    if isinstance(node, tirx.BufferStore):
        return node.buffer
    if isinstance(node, s_tir.MatchBufferRegion):
        return node.source.source
    return node.source if isinstance(node, tvm.ir.TensorLoad) else None


def _stored_by(block: Any) -> Any:
    """Return the buffer whose elements a block stores one by one, None if it is none."""
    is_store = isinstance(block.body, tirx.BufferStore) and block.init is None
    return block.body.buffer if is_store else None


def _columns_of(block: Any) -> Any:
    """Return the buffer of columns whose signs a block's product flips, None if it is none."""
    if not block.match_buffers:
        return None
    product = next(filter(_flips, objects(block.body)), None)
    if product is None:
        return None
    [pointed] = product.args[_COLUMNS].args[1].args
    return next(one.source.source for one in block.match_buffers if one.buffer.same_as(pointed))


def _flips(node: Any) -> bool:
    """Whether a node calls the product of a tile that flips signs."""
    if not is_call(node, _CALL):
        return False
    name, *_, last = node.args
    return name.value.startswith(FUNCTIONS) and isinstance(last, tirx.IntImm) and int(last) == SIGNS


def _without_flips(body: Any) -> Any:
    """Return what a block does, with no signs to flip."""
    if isinstance(body, tirx.AttrStmt):
        return tirx.AttrStmt(body.node, body.attr_key, body.value, _without_flips(body.body))
    *others, _ = body.value.args
    return tirx.Evaluate(with_arguments(body.value, [*others, tirx.const(0, "int32")]))
