"""What a block does, read off its iterators and accesses: the facts that the rules go by."""

from collections.abc import Iterator
from dataclasses import dataclass
from math import prod
from typing import Any

import tvm
from tvm.tirx import FloorDiv, FloorMod
from tvm_ffi import structural_equal

from schedules.canonical import objects

_REDUCTION = 2

# Worth computing once and keeping, rather than again for each use.
_COSTLY = frozenset(
    {
        *("exp", "exp2", "exp10", "tanh", "erf", "sigmoid", "log", "log1p", "log10"),
        *("pow", "sqrt", "rsqrt", "sin", "cos", "tan", "atan"),
    }
)


@dataclass(frozen=True, kw_only=True)
class Block:
    """The facts of one block with constant extents.

    Attributes
    ----------
    name : str
        By which a trace addresses it.
    kinds : tuple of str
        ``spatial`` or ``reduction`` for each iterator, in order.
    extents : tuple of int
        For each iterator.
    reads, writes : tuple of tvm.tirx.Var
        Buffers, without the block's own output among the reads.
    is_costly : bool
        Whether its elements are dear to compute again.
    contiguous : int or None
        The iterator along which most of what is read lies contiguous in memory.
    reused : tuple of bool
        For each buffer that is read, whether an element is read for several spatial points.
    is_pointwise : bool
        Whether each element depends on the elements in the same place only.
    """

    name: str
    kinds: tuple[str, ...]
    extents: tuple[int, ...]
    reads: tuple[Any, ...]
    writes: tuple[Any, ...]
    is_costly: bool
    contiguous: int | None
    reused: tuple[bool, ...]
    is_pointwise: bool

    @property
    def is_reduction(self) -> bool:
        """Whether it has a reduction iterator."""
        return "reduction" in self.kinds

    @property
    def is_contraction(self) -> bool:
        """Whether every operand is used again and again, as in a matrix product or convolution.

        Then arithmetic is the bound, not memory, and other rules apply. A matrix-vector product
        reads its matrix once, a depthwise convolution its image for a window's few taps.
        """
        return self.is_reduction and len(self.reads) > 1 and all(self.reused)

    @property
    def points(self) -> int:
        """Number of elements that it writes."""
        return prod(
            extent
            for extent, kind in zip(self.extents, self.kinds, strict=True)
            if kind == "spatial"
        )

    @property
    def terms(self) -> int:
        """Number of terms of each reduction."""
        return prod(self.extents) // max(1, self.points)

    def feeds(self, other: "Block") -> bool:
        """Whether another block reads what it writes."""
        return any(read.same_as(written) for read in other.reads for written in self.writes)


def blocks_of(schedule: Any) -> list[Block]:
    """Return the facts of all blocks of ``main``, producers first."""
    root = schedule.get_sblock("root")
    return [describe(schedule.get(block)) for block in schedule.get_child_blocks(root)]


def has_contraction(schedule: Any) -> bool:
    """Whether a program has a block that arithmetic bounds, not memory."""
    return any(item.is_contraction for item in blocks_of(schedule))


def describe(block: Any) -> Block:
    """Return the facts of one block."""
    kinds = tuple(
        "reduction" if int(item.iter_type) == _REDUCTION else "spatial" for item in block.iter_vars
    )
    written = tuple(region.source for region in block.writes)
    loads = [
        load for load in _loads(block) if not any(load.source.same_as(buffer) for buffer in written)
    ]
    read: list[Any] = []
    for load in loads:
        if not any(load.source.same_as(buffer) for buffer in read):
            read.append(load.source)
    variables = [item.var for item in block.iter_vars]
    extents = tuple(int(item.dom.extent) for item in block.iter_vars)
    spatial = [
        variable
        for variable, kind, extent in zip(variables, kinds, extents, strict=True)
        if kind == "spatial" and extent > 1
    ]
    return Block(
        name=str(block.name_hint),
        kinds=kinds,
        extents=extents,
        reads=tuple(read),
        writes=written,
        is_costly=any(
            str(getattr(call.op, "name", "")).rpartition(".")[2] in _COSTLY
            for call in _nodes(block, tvm.ir.Call)
        ),
        contiguous=_contiguous(loads, variables),
        reused=tuple(
            _is_reused([load for load in loads if load.source.same_as(buffer)], spatial)
            for buffer in read
        ),
        is_pointwise=all(
            len(load.indices) == len(variables)
            and all(map(_is_same, load.indices, variables))
            and tuple(map(int, load.source.ty.shape)) == extents
            for load in loads
        ),
    )


def _nodes(block: Any, kind: type) -> Iterator[Any]:
    return (node for node in objects(block.body) if isinstance(node, kind))


def _loads(block: Any) -> list[Any]:
    return list(_nodes(block, tvm.ir.TensorLoad))


def _is_same(index: Any, variable: Any) -> bool:
    return bool(index.same_as(variable))


def _contiguous(loads: list[Any], variables: list[Any]) -> int | None:
    """Vote by size: the iterator with stride 1 in the largest buffer that has one."""
    best: tuple[int, int] | None = None
    for load in loads:
        if not len(load.indices):
            continue
        last = load.indices[len(load.indices) - 1]
        size = prod(int(extent) for extent in load.source.ty.shape)
        for place, variable in enumerate(variables):
            if _has_unit_stride(last, variable) and (best is None or size > best[0]):
                best = (size, place)
    return None if best is None else best[1]


def _has_unit_stride(index: Any, variable: Any) -> bool:
    """Whether an index is the variable, or a sum with it as a term."""
    if index.same_as(variable):
        return True
    if type(index).__name__ in ("Add", "Sub"):
        return _has_unit_stride(index.a, variable) or _has_unit_stride(index.b, variable)
    return False


def _is_reused(loads: list[Any], spatial: list[Any]) -> bool:
    """Whether some spatial iterator is not seen, or only through a division, in all loads."""
    return any(
        not any(_moves_with(index, variable) for load in loads for index in _whole(load))
        for variable in spatial
    )


def _whole(load: Any) -> Iterator[Any]:
    """Yield what a load's indices go by: one that is divided, and its rest beside it, is whole."""
    divisions = [
        node for index in load.indices for node in objects(index) if isinstance(node, FloorDiv)
    ]
    for index in load.indices:
        yield index
        if isinstance(index, FloorMod) and any(
            structural_equal(index.a, one.a) and structural_equal(index.b, one.b)
            for one in divisions
        ):
            yield index.a


def _moves_with(index: Any, variable: Any) -> bool:
    if index.same_as(variable):
        return True
    if type(index).__name__ in ("Add", "Sub", "Mul"):
        return _moves_with(index.a, variable) or _moves_with(index.b, variable)
    return False
