"""The tensor intrinsics of `schedules.space.warpgroup_tile`, as TVM takes them.

A whole tile of the output, with the whole sum, is one block. TVM compares it with the description,
the plain loop nest, and puts a call of the device function in its place.
"""

import functools
from typing import Any

from tvm import tirx
from tvm.backend.cuda.op import cuda_func_call
from tvm.s_tir import TensorIntrin
from tvm.script import tirx as T

from schedules.space.warpgroup_tile import SUMS, Tile, function_name, named_in, source

__all__ = ["named_in", "register", "start_name"]

_SCOPE = "shared.dyn"


def start_name(tile: Tile) -> str:
    """Name of the intrinsic for the zeros before the sum, which the tile itself does without."""
    return f"{tile.name}_start"


@functools.cache
def register(tile: Tile) -> None:
    """Register the intrinsics of a tile, which traces name. Idempotent."""
    TensorIntrin.register(tile.name, *_product(tile))
    TensorIntrin.register(start_name(tile), *_start(tile))


def _product(tile: Tile) -> tuple[object, object]:
    dtype, sums = tile.dtype, SUMS[tile.dtype]
    reaches = (
        window.reach(points) for window, points in zip(tile.windows, tile.points, strict=True)
    )
    a_shape = (*reaches, tile.depth)
    c_shape = _output_shape(tile)
    b_shape = (
        (tile.columns, tile.depth) if tile.transposed else (*tile.taps, tile.depth, tile.columns)
    )
    extents = (*c_shape, *tile.taps, tile.depth)
    kinds = "S" * len(c_shape) + "R" * (len(tile.taps) + 1)
    a_strides, b_strides, c_strides = (
        [tirx.Var(f"{name}{axis}", "int32") for axis in range(len(shape))]
        for name, shape in (("a", a_shape), ("b", b_shape), ("c", c_shape))
    )

    def places(axes: Any) -> tuple[list[Any], list[Any], list[Any]]:
        """Where the block's axes are in A, B and C."""
        (*points, column), (*taps, depth) = axes[: len(c_shape)], axes[len(c_shape) :]
        # An axis of one point has no loop.
        alone = [0] * (len(tile.points) - len(points))
        left = iter(taps)
        seen = [
            point * window.stride + (next(left) * window.dilation if window.taps > 1 else 0)
            for point, window in zip([*alone, *points], tile.windows, strict=True)
        ]
        of_b = [column, depth] if tile.transposed else [*taps, depth, column]
        return [*seen, depth], of_b, [*points, column]

    def call(a: Any, b: Any, c: Any) -> Any:
        return cuda_func_call(
            function_name(tile),
            a.access_ptr("r"),
            *a_strides[:-1],
            b.access_ptr("r"),
            b_strides[-2],
            c.access_ptr("w"),
            c_strides[-2],
            source_code=source(tile),
        )

    @T.prim_func(s_tir=True)
    def described(a: T.handle, b: T.handle, c: T.handle) -> None:
        A = T.match_buffer(a, a_shape, dtype, align=64, offset_factor=1)
        B = T.match_buffer(b, b_shape, dtype, align=64, offset_factor=1)
        C = T.match_buffer(c, c_shape, sums, align=64, offset_factor=1, scope=_SCOPE)
        with T.sblock("root"):
            T.reads(_all_of(C), _all_of(A), _all_of(B))
            T.writes(_all_of(C))
            for loops in T.grid(*extents):
                with T.sblock("update"):
                    in_a, in_b, in_c = T.meta_var(places(T.axis.remap(kinds, loops)))
                    C[in_c] = C[in_c] + T.Cast(sums, A[in_a]) * T.Cast(sums, B[in_b])

    @T.prim_func(s_tir=True)
    def implemented(a: T.handle, b: T.handle, c: T.handle) -> None:
        A = T.match_buffer(a, a_shape, dtype, align=64, offset_factor=1, strides=a_strides)
        B = T.match_buffer(b, b_shape, dtype, align=64, offset_factor=1, strides=b_strides)
        C = T.match_buffer(
            c, c_shape, sums, align=64, offset_factor=1, scope=_SCOPE, strides=c_strides
        )
        with T.sblock("root"):
            T.reads(_all_of(C), _all_of(A), _all_of(B))
            T.writes(_all_of(C))
            T.evaluate(call(A, B, C))

    return described, implemented


def _start(tile: Tile) -> tuple[object, object]:
    shape, sums = _output_shape(tile), SUMS[tile.dtype]
    kinds = "S" * len(shape)
    zero = tirx.const(0, sums)

    @T.prim_func(s_tir=True)
    def described(c: T.handle) -> None:
        C = T.match_buffer(c, shape, sums, align=64, offset_factor=1, scope=_SCOPE)
        with T.sblock("root"):
            T.reads()
            T.writes(_all_of(C))
            for loops in T.grid(*shape):
                with T.sblock("init"):
                    in_c = T.meta_var(list(T.axis.remap(kinds, loops)))
                    C[in_c] = zero

    @T.prim_func(s_tir=True)
    def implemented(c: T.handle) -> None:
        C = T.match_buffer(c, shape, sums, align=64, offset_factor=1, scope=_SCOPE)
        with T.sblock("root"):
            T.reads()
            T.writes(_all_of(C))
            T.evaluate(0)

    return described, implemented


def _output_shape(tile: Tile) -> tuple[int, ...]:
    """Of C, without the first axes of one point."""
    several = [size > 1 for size in tile.points].index(True)
    return (*tile.points[several:], tile.columns)


def _all_of(buffer: Any) -> Any:
    return buffer[tuple(slice(0, extent) for extent in buffer.shape)]
