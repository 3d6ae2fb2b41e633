"""Products of pairs: instructions of AVX-512 for two steps of a sum at once.

``vpdpwssd`` adds two products of int16 to each int32, exactly. The instruction for four products of
bytes, ``vpdpbusd``, takes one operand unsigned; its tricks for signed ones either need a second sum
or are wrong for -128, so bytes are widened to int16 instead: the rows' when they are copied, the
columns' when they are loaded, once for all rows of a tile.

``vdpbf16ps`` adds two products of bfloat16 to each float32; it takes numbers below the smallest
normal one for zero, and rounds after each of the two. TVM makes float32 of whatever bfloat16 an
expression holds, so the instruction stands in LLVM's language in a function of its own, which gets
the operands as int32. And it makes float32 of buffers, unless somebody has a pointer into them: so
the function gets these as well, and leaves them alone.
"""

import functools
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from tvm.s_tir import TensorIntrin
from tvm.script import tirx as T
from tvm.target.codegen import target_has_features

LANES = 16
PAIR = 2


@dataclass(frozen=True, kw_only=True)
class PairDot:
    """An instruction that adds the products of two pairs to each lane of a sum.

    Attributes
    ----------
    name : str
        Of the tensor intrinsic, in traces.
    feature : str
        What a target has that has the instruction, as LLVM calls it.
    operands, sums : str
        Dtypes of the products' factors and of the sum.
    widened : str or None
        Dtype to which the rows' operand is converted when it is copied.
    """

    name: str
    feature: str
    operands: str
    sums: str
    widened: str | None = None


INT8 = PairDot(
    name="tunesmith.dot_16x2_i16i8i32_avx512vnni",
    feature="avx512vnni",
    operands="int8",
    sums="int32",
    widened="int16",
)
BFLOAT16 = PairDot(
    name="tunesmith.dot_16x2_bf16bf16f32_avx512bf16",
    feature="avx512bf16",
    operands="bfloat16",
    sums="float32",
)


def pair_dot(operands: str, sums: str, target: Any) -> PairDot | None:
    """Return what a ``tvm.target.Target`` has for products of these dtypes."""
    for found in (INT8, BFLOAT16):
        wanted = (found.operands, found.sums) == (operands, sums)
        if wanted and target_has_features(found.feature, target):
            return found
    return None


@functools.cache
def register() -> None:
    """Register the intrinsics, which traces of this space name. Idempotent."""
    for dot, make in _MAKERS.items():
        TensorIntrin.register(dot.name, *make())


def _int8() -> tuple[Any, Any]:
    @T.prim_func(s_tir=True)
    def described(
        A: T.Buffer((2,), "int16", offset_factor=1),
        B: T.Buffer((16, 2), "int8", offset_factor=1),
        C: T.Buffer((16,), "int32", offset_factor=1, scope="local"),
    ) -> None:
        with T.sblock("root"):
            T.reads(C[0:16], A[0:2], B[0:16, 0:2])
            T.writes(C[0:16])
            for i, k in T.grid(16, 2):
                with T.sblock("update"):
                    vi, vk = T.axis.remap("SR", [i, k])
                    C[vi] = C[vi] + T.Cast("int32", T.Cast("int8", A[vk])) * T.Cast(
                        "int32", B[vi, vk]
                    )

    @T.prim_func(s_tir=True)
    def implemented(
        A: T.Buffer((2,), "int16", offset_factor=1),
        B: T.Buffer((16, 2), "int8", offset_factor=1),
        C: T.Buffer((16,), "int32", offset_factor=1, scope="local"),
    ) -> None:
        with T.sblock("root"):
            T.reads(C[0:16], A[0:2], B[0:16, 0:2])
            T.writes(C[0:16])
            C[T.ramp(0, 1, 16)] = T.call_llvm_pure_intrin(
                "int32x16",
                T.llvm_lookup_intrinsic_id("llvm.x86.avx512.vpdpwssd.512"),
                C.vload([0], "int32x16"),
                T.reinterpret(
                    "int16x32", T.broadcast(T.reinterpret("int32", A.vload([0], "int16x2")), 16)
                ),
                T.Cast("int16x32", B.vload([0, 0], "int8x32")),
            )

    return described, implemented


def _bfloat16() -> tuple[Any, Any]:
    @T.prim_func(s_tir=True)
    def described(
        A: T.Buffer((2,), "bfloat16", offset_factor=1),
        B: T.Buffer((16, 2), "bfloat16", offset_factor=1),
        C: T.Buffer((16,), "float32", offset_factor=1, scope="local"),
    ) -> None:
        with T.sblock("root"):
            T.reads(C[0:16], A[0:2], B[0:16, 0:2])
            T.writes(C[0:16])
            for i, k in T.grid(16, 2):
                with T.sblock("update"):
                    vi, vk = T.axis.remap("SR", [i, k])
                    C[vi] = C[vi] + T.Cast("float32", A[vk]) * T.Cast("float32", B[vi, vk])

    @T.prim_func(s_tir=True)
    def implemented(
        A: T.Buffer((2,), "bfloat16", offset_factor=1),
        B: T.Buffer((16, 2), "bfloat16", offset_factor=1),
        C: T.Buffer((16,), "float32", offset_factor=1, scope="local"),
    ) -> None:
        with T.sblock("root"):
            T.reads(C[0:16], A[0:2], B[0:16, 0:2])
            T.writes(C[0:16])
            T.attr(0, "pragma_import_llvm", _BFLOAT16_SOURCE)
            C[T.ramp(0, 1, 16)] = T.call_extern(
                "float32x16",
                "tunesmith_dot_bf16",
                C.vload([0], "float32x16"),
                T.reinterpret("int32", A.vload([0], "bfloat16x2")),
                T.reinterpret("int32x16", B.vload([0, 0], "bfloat16x32")),
                # By now TVM calls what bfloat16 is stored as by its name.
                T.tvm_access_ptr(T.type_annotation("uint16"), A.data, A.elem_offset, 2, 1),
                T.tvm_access_ptr(T.type_annotation("uint16"), B.data, B.elem_offset, 32, 1),
            )

    return described, implemented


_BFLOAT16_SOURCE = """
declare <16 x float> @llvm.x86.avx512bf16.dpbf16ps.512(
  <16 x float>, <32 x bfloat>, <32 x bfloat>)

define <16 x float> @tunesmith_dot_bf16(
  <16 x float> %sums, i32 %row, <16 x i32> %columns, ptr, ptr) {
  %first = insertelement <16 x i32> poison, i32 %row, i64 0
  %rows = shufflevector <16 x i32> %first, <16 x i32> poison, <16 x i32> zeroinitializer
  %left = bitcast <16 x i32> %rows to <32 x bfloat>
  %right = bitcast <16 x i32> %columns to <32 x bfloat>
  %result = call <16 x float> @llvm.x86.avx512bf16.dpbf16ps.512(
    <16 x float> %sums, <32 x bfloat> %left, <32 x bfloat> %right)
  ret <16 x float> %result
}
"""

_MAKERS: dict[PairDot, Callable[[], tuple[Any, Any]]] = {INT8: _int8, BFLOAT16: _bfloat16}
