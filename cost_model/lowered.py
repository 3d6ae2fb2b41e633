"""The launches of a scheduled program, as TVM will allocate and address its buffers.

Schedules leave buffers at their full size and blocks with iterators of their own. The first passes
of TVM's lowering shrink each buffer to what a block or thread needs and write all indices in loop
variables, so that what is read here is what the kernel does. They are among the passes of TVM's
feature extractor, which has accepted a program before it comes here.

Not seen: what other passes add, which is the copies of a software pipeline's buffers and the
scratch space of reductions across threads; and whether a condition keeps some lanes from an access.
"""

import operator
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from math import ceil, prod
from types import MappingProxyType
from typing import Any

import numpy as np
import numpy.typing as npt
import tvm_ffi
from tvm import ir, s_tir, tirx
from tvm.ir.transform import Sequential

from cost_model.launch import WARP, IntrinsicAccess, Launch, Tile, WarpAccess
from schedules.space import warpgroup_tile

_LOWER = Sequential(
    [
        s_tir.transform.LowerInitBlock(),
        s_tir.transform.PlanAndUpdateBufferAllocationLocation(),
        s_tir.transform.ConvertBlocksToOpaque(),
        s_tir.transform.CompactBufferAllocation(),
    ]
)
_THREAD_TAGS = ("threadIdx.x", "threadIdx.y", "threadIdx.z")
_SHARED = ("shared", "shared.dyn")
_GLOBAL = ("", "global")
# Parts of matrices that the lanes of a warp hold together.
_FRAGMENTS = ("wmma.", "m16n8k8.", "warp")


@dataclass(frozen=True, kw_only=True)
class _Loop:
    """A loop around a block; `tag` is that of the thread axis it is bound to, or empty."""

    variable: int
    extent: int
    tag: str
    vectorized: bool


@dataclass(kw_only=True)
class _Grid:
    """What is found of a launch while its program is walked through.

    `spread_bytes` are those of buffers whose parts all threads of a block hold together; other
    fields are as in `Launch`.
    """

    extents: dict[str, int] = field(default_factory=dict)
    shared_bytes: int = 0
    local_bytes: int = 0
    spread_bytes: int = 0
    blocks: list[tuple[tuple[_Loop, ...], Any]] = field(default_factory=list)


def launches_of(module: Any) -> list[Launch]:
    """Read the launches of a program for a GPU.

    Parameters
    ----------
    module : tvm.IRModule
        A scheduled program that can be lowered. It is not changed.

    Returns
    -------
    list of Launch
        In the program's order.
    """
    grids: dict[int, _Grid] = {}
    _walk(_LOWER(module)["main"].body, (), grids)
    return [_launch(grid) for grid in grids.values()]


def _walk(statement: Any, loops: tuple[_Loop, ...], grids: dict[int, _Grid]) -> bool:
    """Collect what a statement allocates and its innermost blocks; say whether it has blocks."""
    if isinstance(statement, tirx.For):
        return _walk(statement.body, (*loops, _loop(statement)), grids)
    if isinstance(statement, tirx.SeqStmt):
        return _walk_all(statement.seq, loops, grids)
    if isinstance(statement, tirx.IfThenElse):
        branches = (statement.then_case, statement.else_case)
        return _walk_all([part for part in branches if part is not None], loops, grids)
    if isinstance(statement, s_tir.SBlockRealize):
        block = statement.block
        is_innermost = not _walk(block.body, loops, grids)
        first = next((loop for loop in loops if loop.tag), None)
        if first is not None:
            grid = grids.setdefault(first.variable, _Grid())
            grid.extents |= {loop.tag: loop.extent for loop in loops if loop.tag}
            _allocate(grid, block.alloc_buffers, loops)
            if is_innermost:
                grid.blocks.append((loops, block))
        return True
    return hasattr(statement, "body") and _walk(statement.body, loops, grids)


def _walk_all(statements: Iterable[Any], loops: tuple[_Loop, ...], grids: dict[int, _Grid]) -> bool:
    have_blocks = [_walk(statement, loops, grids) for statement in statements]
    return any(have_blocks)


def _loop(loop: Any) -> _Loop:
    binding = loop.thread_binding
    return _Loop(
        variable=loop.loop_var.__chandle__(),
        extent=constant(loop.extent),
        tag="" if binding is None else str(binding.thread_tag),
        vectorized=loop.kind == tirx.ForKind.VECTORIZED,
    )


def _allocate(grid: _Grid, buffers: Sequence[Any], loops: Sequence[_Loop]) -> None:
    for buffer in buffers:
        scope = buffer.scope()
        size_bytes = _buffer_bytes(buffer)
        if scope in _SHARED:
            grid.shared_bytes += size_bytes
            continue
        # Each virtual thread has a copy.
        copies = prod(loop.extent for loop in loops if loop.tag.startswith("vthread"))
        if not scope.startswith(_FRAGMENTS):
            grid.local_bytes += copies * size_bytes
        elif any(loop.tag in _THREAD_TAGS for loop in loops):
            grid.local_bytes += copies * ceil(size_bytes / WARP)
        else:
            grid.spread_bytes += copies * size_bytes


def _buffer_bytes(buffer: Any) -> int:
    shape = [constant(extent) for extent in buffer.shape]
    # The first stride holds what rows are padded by.
    elements = shape[0] * _strides(buffer)[0] if shape else 1
    return elements * element_bytes(buffer)


def element_bytes(buffer: Any) -> int:
    """Return the size of a buffer's element, at least a byte."""
    return max(1, int(tvm_ffi.dtype(buffer.dtype).itemsize))


def _strides(buffer: Any) -> list[int]:
    """Elements from one place of each dimension to the next."""
    if buffer.strides:
        return [constant(stride) for stride in buffer.strides]
    shape = [constant(extent) for extent in buffer.shape]
    return [prod(shape[place + 1 :]) for place in range(len(shape))]


def _launch(grid: _Grid) -> Launch:
    tile = next(filter(None, (_tile_called(block) for _, block in grid.blocks)), None)
    threads = prod(grid.extents.get(tag, 1) for tag in _THREAD_TAGS)
    # The sums of a tile are in its threads' registers.
    sums_bytes = 4 * tile.rows * tile.columns if tile else 0
    return Launch(
        blocks=prod(extent for tag, extent in grid.extents.items() if tag.startswith("blockIdx")),
        threads=threads,
        shared_bytes=grid.shared_bytes,
        local_bytes=grid.local_bytes + ceil((grid.spread_bytes + sums_bytes) / threads),
        accesses=tuple(
            access for loops, block in grid.blocks for access in _accesses(loops, block)
        ),
        tile=tile,
    )


def _tile_called(block: Any) -> Tile | None:
    """Return the tile of a block that is one call of a CUDA function."""
    call = getattr(block.body, "value", None)
    name = call.args[0] if isinstance(call, ir.Call) and call.args else None
    if not isinstance(name, ir.StringImm):
        return None
    tile = warpgroup_tile.called_by(str(name.value))
    if tile is None:
        return None
    return Tile(rows=tile.rows, columns=tile.columns, stages=tile.stages)


def _accesses(loops: Sequence[_Loop], block: Any) -> Iterator[WarpAccess | IntrinsicAccess]:
    by_intrinsic = len(block.match_buffers) > 0
    lanes = _lanes(loops)
    for regions, is_write in ((block.reads, False), (block.writes, True)):
        for region in regions:
            scope = region.source.scope()
            if scope not in _GLOBAL and scope not in _SHARED:
                continue
            kind = {"is_write": is_write, "is_shared": scope in _SHARED}
            if by_intrinsic:
                yield _intrinsic_access(loops, region, **kind)
            else:
                yield _warp_access(loops, lanes, region, **kind)


def _intrinsic_access(
    loops: Sequence[_Loop], region: Any, *, is_write: bool, is_shared: bool
) -> IntrinsicAccess:
    extents = [constant(part.extent) for part in region.region]
    return IntrinsicAccess(
        requests=prod(loop.extent for loop in loops),
        rows=prod(extents[:-1]),
        row_bytes=prod(extents[-1:]) * element_bytes(region.source),
        is_write=is_write,
        is_shared=is_shared,
    )


def _warp_access(
    loops: Sequence[_Loop],
    lanes: Mapping[int, npt.NDArray[np.int64]],
    region: Any,
    *,
    is_write: bool,
    is_shared: bool,
) -> WarpAccess:
    index = _Index(lanes)
    place: _Places = 0
    for part, stride in zip(region.region, _strides(region.source), strict=True):
        place = place + index.of(part.min) * stride
    count, width = _warp_shape(loops)
    return WarpAccess(
        requests=_requests(loops, index.used),
        lanes=tuple(map(tuple, np.broadcast_to(place, (count, width)).tolist())),
        element_bytes=element_bytes(region.source),
        is_write=is_write,
        is_shared=is_shared,
    )


_Places = int | npt.NDArray[np.int64]
"""Of one element for all lanes, or shape (lanes, 1), (1, width) or (lanes, width)."""


def _threads(loops: Sequence[_Loop]) -> list[_Loop]:
    """Return the thread axes, that with the closest neighbours first."""
    bound = {loop.tag: loop for loop in loops}
    return [bound[tag] for tag in _THREAD_TAGS if tag in bound]


def _warp_shape(loops: Sequence[_Loop]) -> tuple[int, int]:
    """Return how many lanes a warp has in a block, and how many elements each takes at once."""
    threads = prod(loop.extent for loop in _threads(loops))
    return min(WARP, threads), prod(loop.extent for loop in loops if loop.vectorized)


def _lanes(loops: Sequence[_Loop]) -> dict[int, npt.NDArray[np.int64]]:
    """Return the values of thread and vector loops in the first warp, by variable."""
    count, width = _warp_shape(loops)
    values: dict[int, npt.NDArray[np.int64]] = {}
    rest = np.arange(count, dtype=np.int64)[:, None]
    for loop in _threads(loops):
        rest, values[loop.variable] = np.divmod(rest, loop.extent)
    rest = np.arange(width, dtype=np.int64)[None, :]
    for loop in reversed(loops):
        if loop.vectorized:
            rest, values[loop.variable] = np.divmod(rest, loop.extent)
    return values


def _requests(loops: Sequence[_Loop], used: set[int]) -> int:
    """Count how often warps do an access, which the compiler takes out of loops inside it.

    Threads and vector loops are in one request; loops further in than the last one that moves the
    access do not repeat it.
    """
    last = max((place for place, loop in enumerate(loops) if loop.variable in used), default=-1)
    threads = prod(loop.extent for loop in _threads(loops))
    repeated = prod(
        loop.extent
        for place, loop in enumerate(loops)
        if loop.tag not in _THREAD_TAGS
        and not loop.vectorized
        and (loop.tag.startswith("blockIdx") or place <= last)
    )
    return repeated * ceil(threads / WARP)


class _Index:
    """Evaluates indices for all lanes at once, at the first iteration of all other loops.

    Attributes
    ----------
    used : set of int
        The variables that were met.
    """

    def __init__(self, lanes: Mapping[int, npt.NDArray[np.int64]]) -> None:
        self._lanes = lanes
        self.used: set[int] = set()

    def of(self, index: Any) -> _Places:
        """Return the values of an index; 0 for what depends on data."""
        kind = type(index)
        if kind is tirx.IntImm:
            return int(index.value)
        if kind is tirx.Var:
            variable = index.__chandle__()
            self.used.add(variable)
            return self._lanes.get(variable, 0)
        if kind is tirx.Cast:
            return self.of(index.value)
        combine = _OPERATORS.get(kind)
        return 0 if combine is None else combine(self.of(index.a), self.of(index.b))


_OPERATORS: Mapping[type, Callable[[Any, Any], _Places]] = MappingProxyType(
    {
        tirx.Add: operator.add,
        tirx.Sub: operator.sub,
        tirx.Mul: operator.mul,
        tirx.FloorDiv: operator.floordiv,
        tirx.FloorMod: operator.mod,
        tirx.Min: np.minimum,
        tirx.Max: np.maximum,
    }
)


def constant(value: Any) -> int:
    """Return the value of an extent; 1 for one that is not constant."""
    return int(value) if isinstance(value, tirx.IntImm | int) else 1
