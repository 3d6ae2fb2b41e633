"""A register tile of a product by dot-product instructions of AVX-512, as a tensor intrinsic.

``vpdpbusd`` adds four products of bytes to each int32 of a vector, but takes one operand unsigned.
So 128 is added to the columns' operand, by flipping its sign bits; what that adds to a sum is 128
times the sum of the row, which one more instruction in each step adds up for all rows of the tile,
and which is taken away at the end. All of it is exact for all bytes. ``vdpbf16ps`` adds two
products of bfloat16 to each float32; it takes numbers below the smallest normal one for zero, and
rounds after each of the two.

No schedule primitive makes a second sum, and TVM makes float32 of whatever bfloat16 an expression
or a buffer holds, unless somebody has a pointer to it. So a whole tile, with the whole sum, is one
block here, ``C[rows, columns] += A * B``. It stands in LLVM's language in a function of its own,
which LLVM inlines. A and B are packed to panels: the group of factors that an instruction takes at
once lies together, the rows or columns of a tile follow one another, and the steps of the sum come
first.

Source: Intel, Architecture Instruction Set Extensions Programming Reference (VPDPBUSD, VDPBF16PS);
Jacob et al., Quantization and Training of Neural Networks, 2018, section 2.3 (offsets).
"""

import functools
import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from tvm.s_tir import TensorIntrin
from tvm.script import tirx as T
from tvm.target.codegen import target_has_features

PREFIX = "tunesmith.dot_"
LANES = 16
"""Sums in a vector."""


@dataclass(frozen=True, kw_only=True)
class Dot:
    """An instruction that adds the products of a group of pairs to each lane of a vector.

    Attributes
    ----------
    name : str
        In the names of tensor intrinsics.
    feature : str
        What a target has that has the instruction, as LLVM calls it.
    operands, sums : str
        Dtypes of the products' factors and of the sum.
    group : int
        Products that are added at once.
    registers : int
        Vector registers that a tile needs beside its sums and a row of B.
    """

    name: str
    feature: str
    operands: str
    sums: str
    group: int
    registers: int


INT8 = Dot(
    name="i8i8i32",
    feature="avx512vnni",
    operands="int8",
    sums="int32",
    group=4,
    registers=2,
)
BFLOAT16 = Dot(
    name="bf16bf16f32",
    feature="avx512bf16",
    operands="bfloat16",
    sums="float32",
    group=2,
    registers=0,
)
_DOTS = (INT8, BFLOAT16)


def dot_for(operands: str, sums: str, target: Any) -> Dot | None:
    """Return what a ``tvm.target.Target`` has for products of these dtypes."""
    for found in _DOTS:
        wanted = (found.operands, found.sums) == (operands, sums)
        if wanted and target_has_features(found.feature, target):
            return found
    return None


@dataclass(frozen=True, kw_only=True)
class DotTile:
    """The parameters of the intrinsic.

    Attributes
    ----------
    rows, vectors : int
        Of the tile; a vector has `LANES` columns.
    depth : int
        Length of the sum, a multiple of the instruction's group.
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
    def steps(self) -> int:
        """Steps of the sum."""
        return self.depth // self.dot.group


_NAME = re.compile(
    re.escape(PREFIX) + rf"({'|'.join(dot.name for dot in _DOTS)})_(\d+)x(\d+)x(\d+)\b"
)


def named_in(trace: str) -> Iterator[DotTile]:
    """Yield the tiles that a trace names."""
    for name, rows, columns, depth in _NAME.findall(trace):
        [dot] = [dot for dot in _DOTS if dot.name == name]
        yield DotTile(dot=dot, rows=int(rows), vectors=int(columns) // LANES, depth=int(depth))


@functools.cache
def register(tile: DotTile) -> None:
    """Register the intrinsic of a tile, which traces name. Idempotent."""
    m, n, k, group, steps = tile.rows, tile.columns, tile.depth, tile.dot.group, tile.steps
    operands, sums = tile.dot.operands, tile.dot.sums
    function, source = _function_name(tile), _source(tile)
    # By then TVM calls what bfloat16 is stored as by its name.
    stored = {"bfloat16": "uint16"}.get(operands, operands)

    @T.prim_func(s_tir=True)
    def described(a: T.handle, b: T.handle, c: T.handle) -> None:
        A = T.match_buffer(a, (steps, m, group), operands, offset_factor=1)
        B = T.match_buffer(b, (steps, n, group), operands, offset_factor=1)
        C = T.match_buffer(c, (m, n), sums, offset_factor=1, scope="local")
        with T.sblock("root"):
            T.reads(C[0:m, 0:n], A[0:steps, 0:m, 0:group], B[0:steps, 0:n, 0:group])
            T.writes(C[0:m, 0:n])
            for i, j, s in T.grid(m, n, k):
                with T.sblock("update"):
                    vi, vj, vs = T.axis.remap("SSR", [i, j, s])
                    C[vi, vj] = C[vi, vj] + T.Cast(sums, A[vs // group, vi, vs % group]) * T.Cast(
                        sums, B[vs // group, vj, vs % group]
                    )

    @T.prim_func(s_tir=True)
    def implemented(a: T.handle, b: T.handle, c: T.handle) -> None:
        c_row = T.int32()
        A = T.match_buffer(a, (steps, m, group), operands, offset_factor=1)
        B = T.match_buffer(b, (steps, n, group), operands, offset_factor=1)
        C = T.match_buffer(c, (m, n), sums, offset_factor=1, scope="local", strides=[c_row, 1])
        with T.sblock("root"):
            T.reads(C[0:m, 0:n], A[0:steps, 0:m, 0:group], B[0:steps, 0:n, 0:group])
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
                )
            )

    TensorIntrin.register(tile.name, described, implemented)


# --- LLVM's language -----------------------------------------------------------------------------


def _function_name(tile: DotTile) -> str:
    return tile.name.replace(".", "_")


def _source(tile: DotTile) -> str:
    """Write the function: a loop over the steps, with all sums in variables."""
    step = _byte_step if tile.dot is INT8 else _bfloat16_step
    held = [
        _Held(name=f"sum{row}.{vector}", type=_VECTORS[tile.dot.sums])
        for row in range(tile.rows)
        for vector in range(tile.vectors)
    ]
    if tile.dot is INT8:
        held.append(_Held(name="offsets", type=_VECTORS["int32"]))
    row_bytes, column_bytes = 4 * tile.rows, 4 * tile.columns
    lines = [
        *_DECLARATIONS[tile.dot],
        f"define i32 @{_function_name(tile)}(ptr %a, ptr %b, ptr %c, i32 %c_row) {{",
        "entry:",
        "  br label %step",
        "step:",
        "  %at = phi i64 [ 0, %entry ], [ %next, %step ]",
        *(
            f"  %{each.name} = phi {each.type} [ zeroinitializer, %entry ], "
            f"[ %{each.name}.next, %step ]"
            for each in held
        ),
        f"  %a.offset = mul i64 %at, {row_bytes}",
        "  %a.step = getelementptr i8, ptr %a, i64 %a.offset",
        f"  %b.offset = mul i64 %at, {column_bytes}",
        "  %b.step = getelementptr i8, ptr %b, i64 %b.offset",
        *step(tile),
        "  %next = add i64 %at, 1",
        f"  %more = icmp ult i64 %next, {tile.steps}",
        "  br i1 %more, label %step, label %end",
        "end:",
        *_end(tile),
        "  ret i32 0",
        "}",
    ]
    return "\n".join(lines)


@dataclass(frozen=True, kw_only=True)
class _Held:
    """A variable that lives through all steps."""

    name: str
    type: str


_VECTORS = {"int32": "<16 x i32>", "float32": "<16 x float>"}
_DECLARATIONS = {
    INT8: (
        "declare <16 x i32> @llvm.x86.avx512.vpdpbusd.512(<16 x i32>, <16 x i32>, <16 x i32>)",
        "declare <16 x i32> @llvm.masked.load.v16i32.p0(ptr, i32, <16 x i1>, <16 x i32>)",
    ),
    BFLOAT16: (
        "declare <16 x float> @llvm.x86.avx512bf16.dpbf16ps.512("
        "<16 x float>, <32 x bfloat>, <32 x bfloat>)",
    ),
}


def _byte_step(tile: DotTile) -> Iterator[str]:
    dot = "call <16 x i32> @llvm.x86.avx512.vpdpbusd.512(<16 x i32>"
    signs = _splat(0x80808080 - 2**32)
    mask = ", ".join(f"i1 {int(row < tile.rows)}" for row in range(LANES))
    yield (
        "  %rows = call <16 x i32> @llvm.masked.load.v16i32.p0(ptr %a.step, i32 4, "
        f"<16 x i1> <{mask}>, <16 x i32> zeroinitializer)"
    )
    yield f"  %offsets.next = {dot} %offsets, <16 x i32> {signs}, <16 x i32> %rows)"
    for vector in range(tile.vectors):
        yield from _load(f"signed{vector}", "<16 x i32>", "%b.step", 4 * LANES * vector)
        yield f"  %column{vector} = xor <16 x i32> %signed{vector}, {signs}"
    for row in range(tile.rows):
        yield from _broadcast_row(row)
        for vector in range(tile.vectors):
            name = f"%sum{row}.{vector}"
            yield (
                f"  {name}.next = {dot} {name}, <16 x i32> %column{vector}, <16 x i32> %row{row})"
            )


def _bfloat16_step(tile: DotTile) -> Iterator[str]:
    pairs = "<32 x bfloat>"
    dot = "call <16 x float> @llvm.x86.avx512bf16.dpbf16ps.512(<16 x float>"
    for vector in range(tile.vectors):
        yield from _load(f"column{vector}", pairs, "%b.step", 4 * LANES * vector)
    for row in range(tile.rows):
        yield from _broadcast_row(row)
        yield f"  %pairs{row} = bitcast <16 x i32> %row{row} to {pairs}"
        for vector in range(tile.vectors):
            name = f"%sum{row}.{vector}"
            yield f"  {name}.next = {dot} {name}, {pairs} %pairs{row}, {pairs} %column{vector})"


def _end(tile: DotTile) -> Iterator[str]:
    """Add the sums to C; of bytes, without what the offset has added to each row."""
    vector_type = _VECTORS[tile.dot.sums]
    add = "fadd" if tile.dot is BFLOAT16 else "add"
    for row in range(tile.rows):
        yield f"  %c.row{row} = mul i32 %c_row, {row}"
        if tile.dot is INT8:
            yield (
                f"  %offset{row} = shufflevector <16 x i32> %offsets.next, <16 x i32> poison, "
                f"<16 x i32> {_splat(row)}"
            )
        for vector in range(tile.vectors):
            at = f"{row}.{vector}"
            result = f"%sum{at}.next"
            if tile.dot is INT8:
                yield f"  %exact{at} = sub <16 x i32> {result}, %offset{row}"
                result = f"%exact{at}"
            yield f"  %c.at{at} = add i32 %c.row{row}, {LANES * vector}"
            yield f"  %c.to{at} = getelementptr i32, ptr %c, i32 %c.at{at}"
            yield f"  %c.old{at} = load {vector_type}, ptr %c.to{at}, align 4"
            yield f"  %c.new{at} = {add} {vector_type} %c.old{at}, {result}"
            yield f"  store {vector_type} %c.new{at}, ptr %c.to{at}, align 4"


def _broadcast_row(row: int) -> Iterator[str]:
    """Load a row's group of factors and repeat it in all lanes, which the instruction can do."""
    yield from _load(f"group{row}", "i32", "%a.step", 4 * row)
    yield f"  %first{row} = insertelement <16 x i32> poison, i32 %group{row}, i64 0"
    yield (
        f"  %row{row} = shufflevector <16 x i32> %first{row}, <16 x i32> poison, "
        "<16 x i32> zeroinitializer"
    )


def _load(name: str, kind: str, base: str, offset_bytes: int) -> Iterator[str]:
    yield f"  %{name}.at = getelementptr i8, ptr {base}, i64 {offset_bytes}"
    yield f"  %{name} = load {kind}, ptr %{name}.at, align 4"


def _splat(value: int) -> str:
    return f"<{', '.join([f'i32 {value}'] * LANES)}>"
