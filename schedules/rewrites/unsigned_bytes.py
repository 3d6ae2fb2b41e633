"""Packing bytes as the unsigned numbers that their products' instruction takes.

``vpdpbusd`` takes one of two bytes unsigned, so each vector of a panel has its sign bits flipped
whenever a tile reads it (`schedules.space.dot_source`). Where the program packs the panel itself,
for nobody else, it stores the bytes with their signs flipped, once.
"""

from collections.abc import Iterator
from typing import Any

import tvm
from tvm import s_tir, tirx

from schedules.canonical import objects
from schedules.nests import changed, with_block_body
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
    panels = list(_panels(function))

    def flipped(statement: Any, _loops: tuple[Any, ...]) -> Any:
        if not isinstance(statement, s_tir.SBlockRealize):
            return None
        block = statement.block
        if any(_stores(block, panel) for panel in panels):
            store = block.body
            value = tirx.bitwise_xor(store.value, _SIGN)
            return with_block_body(statement, tirx.BufferStore(store.buffer, value, store.indices))
        if any(_multiplies(block, panel) for panel in panels):
            return with_block_body(statement, _without_flips(block.body))
        return statement

    return changed(function, flipped) if panels else function


def _panels(function: Any) -> Iterator[Any]:
    """Yield the buffers that are only stored element by element and read as columns."""
    blocks: list[Any] = []

    def seen(statement: Any, _loops: tuple[Any, ...]) -> Any:
        if not isinstance(statement, s_tir.SBlockRealize):
            return None
        blocks.append(statement.block)
        return statement

    changed(function, seen)
    for buffer in function.body.block.alloc_buffers:
        stored = sum(_stores(block, buffer) for block in blocks)
        read = sum(_multiplies(block, buffer) for block in blocks)
        uses = sum(_uses(node, buffer) for node in objects(function.body))
        if read and uses == stored + read:
            yield buffer


def _uses(node: Any, buffer: Any) -> bool:
    """Whether a node is a statement, load or match of a buffer."""
    if isinstance(node, tirx.BufferStore):
        return bool(node.buffer.same_as(buffer))
    if isinstance(node, s_tir.MatchBufferRegion):
        return bool(node.source.source.same_as(buffer))
    return isinstance(node, tvm.ir.TensorLoad) and node.source.same_as(buffer)


def _stores(block: Any, buffer: Any) -> bool:
    """Whether a block stores a buffer's elements, one by one."""
    store = block.body
    is_store = isinstance(store, tirx.BufferStore) and block.init is None
    return is_store and store.buffer.same_as(buffer)


def _multiplies(block: Any, buffer: Any) -> bool:
    """Whether a block multiplies tiles, and flips the signs of a buffer's bytes, its columns."""
    product = next(filter(_flips, objects(block.body)), None)
    if product is None:
        return False
    pointer = product.args[_COLUMNS].args[1]
    return any(
        pointer.args[0].same_as(match.buffer) and match.source.source.same_as(buffer)
        for match in block.match_buffers
    )


def _flips(node: Any) -> bool:
    """Whether a node calls the product of a tile that flips signs."""
    if not (isinstance(node, tvm.ir.Call) and getattr(node.op, "name", "") == _CALL):
        return False
    name, *_, last = node.args
    return name.value.startswith(FUNCTIONS) and isinstance(last, tirx.IntImm) and int(last) == SIGNS


def _without_flips(body: Any) -> Any:
    """Return what a block does, with no signs to flip."""
    if isinstance(body, tirx.AttrStmt):
        return tirx.AttrStmt(body.node, body.attr_key, body.value, _without_flips(body.body))
    product = body.value
    arguments = [*list(product.args)[:-1], tirx.const(0, "int32")]
    call = tvm.ir.Call(
        product.op, arguments, product.attrs, product.ty_args, product.span, product.ty
    )
    return tirx.Evaluate(call)
