"""A register tile of a product by instructions that add several products at once: an intrinsic.

No schedule primitive makes such a sum with what it needs beside it, and TVM makes float32 of
whatever bfloat16 an expression or a buffer holds, unless somebody has a pointer to it. So a whole
tile, with the whole sum, is one block here, ``C[rows, columns] += A * B``. It stands in LLVM's
language in a function of its own (`dot_source`, `amx_source`), which LLVM inlines. A and B are
packed to panels: the factors that an instruction takes at once lie together, the rows or columns of
a tile follow one another, and the steps of the sum come first.
"""

import functools
import re
from collections.abc import Iterator
from dataclasses import dataclass

from tvm import tirx
from tvm.s_tir import TensorIntrin
from tvm.script import tirx as T

from schedules.space import amx_source, dot_source
from schedules.space.dots import DOTS, FUNCTIONS, LANES, SIGNS, Dot, MatrixDot, VectorDot

PREFIX = "tunesmith.dot_"


@dataclass(frozen=True, kw_only=True)
class DotTile:
    """The parameters of the intrinsic.

    Attributes
    ----------
    rows, vectors : int
        Of the tile; a vector has `LANES` columns.
    depth : int
        Length of the sum, a multiple of `Dot.row_group`.
    """

    dot: Dot
    rows: int
    vectors: int
    depth: int

    @property
    def name(self) -> str:
        """Of the intrinsic; says all parameters."""
        return f"{PREFIX}{self.dot.name}_{self.rows}x{self.columns}x{self.depth}"

    @property
    def columns(self) -> int:
        """Elements in each row."""
        return self.vectors * LANES

    @property
    def function(self) -> str:
        """Of what it is made of."""
        return self.name.replace(PREFIX, FUNCTIONS)


_NAME = re.compile(re.escape(PREFIX) + rf"({'|'.join(DOTS)})_(\d+)x(\d+)x(\d+)\b")


def named_in(trace: str) -> Iterator[DotTile]:
    """Yield the tiles that a trace names."""
    for name, rows, columns, depth in _NAME.findall(trace):
        yield DotTile(
            dot=DOTS[name], rows=int(rows), vectors=int(columns) // LANES, depth=int(depth)
        )


@functools.cache
def register(tile: DotTile) -> None:
    """Register the intrinsic of a tile, which traces name. Idempotent."""
    m, n, k, dot = tile.rows, tile.columns, tile.depth, tile.dot
    group, row_group = dot.group, dot.row_group
    operands, sums = dot.operands, dot.sums
    function, source = tile.function, _source(tile)
    flips = [tirx.const(SIGNS, "int32")] if dot.is_unsigned else []
    # By then TVM calls what bfloat16 is stored as by its name.
    stored = {"bfloat16": "uint16"}.get(operands, operands)

    @T.prim_func(s_tir=True)
    def described(a: T.handle, b: T.handle, c: T.handle) -> None:
        A = T.match_buffer(a, (k // row_group, m, row_group), operands, offset_factor=1)
        B = T.match_buffer(b, (k // group, n, group), operands, offset_factor=1)
        C = T.match_buffer(c, (m, n), sums, offset_factor=1, scope="local")
        with T.sblock("root"):
            T.reads(
                C[0:m, 0:n],
                A[0 : k // row_group, 0:m, 0:row_group],
                B[0 : k // group, 0:n, 0:group],
            )
            T.writes(C[0:m, 0:n])
            for i, j, s in T.grid(m, n, k):
                with T.sblock("update"):
                    vi, vj, vs = T.axis.remap("SSR", [i, j, s])
                    C[vi, vj] = C[vi, vj] + T.Cast(
                        sums, A[vs // row_group, vi, vs % row_group]
                    ) * T.Cast(sums, B[vs // group, vj, vs % group])

    @T.prim_func(s_tir=True)
    def implemented(a: T.handle, b: T.handle, c: T.handle) -> None:
        c_row = T.int32()
        A = T.match_buffer(a, (k // row_group, m, row_group), operands, offset_factor=1)
        B = T.match_buffer(b, (k // group, n, group), operands, offset_factor=1)
        C = T.match_buffer(c, (m, n), sums, offset_factor=1, scope="local", strides=[c_row, 1])
        with T.sblock("root"):
            T.reads(
                C[0:m, 0:n],
                A[0 : k // row_group, 0:m, 0:row_group],
                B[0 : k // group, 0:n, 0:group],
            )
            T.writes(C[0:m, 0:n])
            T.attr(0, "pragma_import_llvm", source)
            T.evaluate(
                T.call_extern(
                    "int32",
                    function,
                    T.tvm_access_ptr(T.type_annotation(stored), A.data, A.elem_offset, m * k, 1),
                    T.tvm_access_ptr(T.type_annotation(stored), B.data, B.elem_offset, n * k, 1),
                    T.tvm_access_ptr(T.type_annotation(sums), C.data, C.elem_offset, m * n, 3),
                    c_row,
                    *flips,
                )
            )

    TensorIntrin.register(tile.name, described, implemented)


def _source(tile: DotTile) -> str:
    """Write what the intrinsic calls."""
    dot, extents = tile.dot, (tile.rows, tile.vectors, tile.depth)
    if isinstance(dot, MatrixDot):
        return amx_source.source(tile.function, dot, *extents)
    assert isinstance(dot, VectorDot)
    return dot_source.source(tile.function, dot, *extents)
