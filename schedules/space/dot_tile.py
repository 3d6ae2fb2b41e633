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
    feature, instruction : str
        What a target has that has the instruction, and the instruction, as LLVM calls them.
    operands, sums : str
        Dtypes of the products' factors and of the sum.
    operand_vector, sum_vector : str
        LLVM's types of a register of them, as the instruction takes it.
    group : int
        Products that are added at once.
    is_unsigned : bool
        Whether it takes the first operand unsigned.
    """

    name: str
    feature: str
    instruction: str
    operands: str
    sums: str
    operand_vector: str
    sum_vector: str
    group: int
    is_unsigned: bool = False

    @property
    def registers(self) -> int:
        """Vector registers that a tile needs beside its sums and a row of B.

        For the offset and for what it has added, where there is one.
        """
        return 2 if self.is_unsigned else 0


INT8 = Dot(
    name="i8i8i32",
    feature="avx512vnni",
    instruction="llvm.x86.avx512.vpdpbusd.512",
    operands="int8",
    sums="int32",
    operand_vector="<16 x i32>",
    sum_vector="<16 x i32>",
    group=4,
    is_unsigned=True,
)
BFLOAT16 = Dot(
    name="bf16bf16f32",
    feature="avx512bf16",
    instruction="llvm.x86.avx512bf16.dpbf16ps.512",
    operands="bfloat16",
    sums="float32",
    operand_vector="<32 x bfloat>",
    sum_vector="<16 x float>",
    group=2,
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

_BITS = "<16 x i32>"
"""A register, whatever is in it."""
_SIGNS = 0x80808080 - 2**32
"""The sign bits of four bytes: as unsigned numbers, 128 each."""


def _function_name(tile: DotTile) -> str:
    return tile.name.replace(".", "_")


def _source(tile: DotTile) -> str:
    """Write the function: a loop over the steps, with all sums in variables."""
    dot = tile.dot
    held = [f"sum{row}.{vector}" for row in range(tile.rows) for vector in range(tile.vectors)]
    if dot.is_unsigned:
        held.append("offsets")
    lines = [
        f"declare {dot.sum_vector} @{dot.instruction}"
        f"({dot.sum_vector}, {dot.operand_vector}, {dot.operand_vector})",
        f"declare {_BITS} @llvm.masked.load.v16i32.p0(ptr, i32, <16 x i1>, {_BITS})",
        f"define i32 @{_function_name(tile)}(ptr %a, ptr %b, ptr %c, i32 %c_row) {{",
        "entry:",
        "  br label %step",
        "step:",
        "  %at = phi i64 [ 0, %entry ], [ %next, %step ]",
        *(
            f"  %{name} = phi {dot.sum_vector} [ zeroinitializer, %entry ], [ %{name}.next, %step ]"
            for name in held
        ),
        f"  %a.offset = mul i64 %at, {4 * tile.rows}",
        "  %a.step = getelementptr i8, ptr %a, i64 %a.offset",
        f"  %b.offset = mul i64 %at, {4 * tile.columns}",
        "  %b.step = getelementptr i8, ptr %b, i64 %b.offset",
        *_step(tile),
        "  %next = add i64 %at, 1",
        f"  %more = icmp ult i64 %next, {tile.steps}",
        "  br i1 %more, label %step, label %end",
        "end:",
        *_end(tile),
        "  ret i32 0",
        "}",
    ]
    return "\n".join(lines)


def _step(tile: DotTile) -> Iterator[str]:
    """Add one group of products to every sum."""
    dot, operands = tile.dot, tile.dot.operand_vector
    multiply = f"call {dot.sum_vector} @{dot.instruction}({dot.sum_vector}"
    signs = _splat(_SIGNS)
    if dot.is_unsigned:
        mask = ", ".join(f"i1 {int(row < tile.rows)}" for row in range(LANES))
        yield (
            f"  %rows = call {_BITS} @llvm.masked.load.v16i32.p0(ptr %a.step, i32 4, "
            f"<16 x i1> <{mask}>, {_BITS} zeroinitializer)"
        )
        yield f"  %offsets.next = {multiply} %offsets, {operands} {signs}, {operands} %rows)"
    for vector in range(tile.vectors):
        yield from _load(f"bits{vector}", _BITS, "%b.step", 4 * LANES * vector)
        if dot.is_unsigned:
            yield f"  %column{vector} = xor {_BITS} %bits{vector}, {signs}"
        else:
            yield f"  %column{vector} = bitcast {_BITS} %bits{vector} to {operands}"
    for row in range(tile.rows):
        # Repeated in all lanes, which the instruction can do itself.
        yield from _load(f"group{row}", "i32", "%a.step", 4 * row)
        yield f"  %first{row} = insertelement {_BITS} poison, i32 %group{row}, i64 0"
        yield (
            f"  %repeated{row} = shufflevector {_BITS} %first{row}, {_BITS} poison, "
            f"{_BITS} zeroinitializer"
        )
        yield f"  %row{row} = bitcast {_BITS} %repeated{row} to {operands}"
        for vector in range(tile.vectors):
            name = f"%sum{row}.{vector}"
            factors = f"{operands} %column{vector}, {operands} %row{row}"
            yield f"  {name}.next = {multiply} {name}, {factors})"


def _end(tile: DotTile) -> Iterator[str]:
    """Add the sums to C; of bytes, without what the offset has added to each row."""
    vector_type = tile.dot.sum_vector
    add = "fadd" if tile.dot.sums == "float32" else "add"
    for row in range(tile.rows):
        yield f"  %c.row{row} = mul i32 %c_row, {row}"
        if tile.dot.is_unsigned:
            yield (
                f"  %offset{row} = shufflevector {_BITS} %offsets.next, {_BITS} poison, "
                f"{_BITS} {_splat(row)}"
            )
        for vector in range(tile.vectors):
            at = f"{row}.{vector}"
            result = f"%sum{at}.next"
            if tile.dot.is_unsigned:
                yield f"  %exact{at} = sub {_BITS} {result}, %offset{row}"
                result = f"%exact{at}"
            yield f"  %c.at{at} = add i32 %c.row{row}, {LANES * vector}"
            yield f"  %c.to{at} = getelementptr i32, ptr %c, i32 %c.at{at}"
            yield f"  %c.old{at} = load {vector_type}, ptr %c.to{at}, align 4"
            yield f"  %c.new{at} = {add} {vector_type} %c.old{at}, {result}"
            yield f"  store {vector_type} %c.new{at}, ptr %c.to{at}, align 4"


def _load(name: str, kind: str, base: str, offset_bytes: int) -> Iterator[str]:
    yield f"  %{name}.at = getelementptr i8, ptr {base}, i64 {offset_bytes}"
    yield f"  %{name} = load {kind}, ptr %{name}.at, align 4"


def _splat(value: int) -> str:
    return f"<{', '.join([f'i32 {value}'] * LANES)}>"
