"""Products of int8 by AVX-512 VNNI: two steps of a sum in one instruction, exactly.

``vpdpwssd`` adds two products of int16 to each int32. The instruction for four products of bytes,
``vpdpbusd``, takes one operand unsigned; its tricks for signed ones either need a second sum or are
wrong for -128, so bytes are widened to int16 instead: the rows' when they are copied, the columns'
when they are loaded, once for all rows of a tile.
"""

import functools
from typing import Any

from tvm.s_tir import TensorIntrin
from tvm.script import tirx as T
from tvm.target.codegen import target_has_features

NAME = "tunesmith.dot_16x2_i16i8i32_avx512vnni"
LANES = 16
PAIR = 2
OPERANDS = "int8"
SUMS = "int32"
WIDENED = "int16"


@T.prim_func(s_tir=True)
def _described(
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
                C[vi] = C[vi] + T.Cast("int32", T.Cast("int8", A[vk])) * T.Cast("int32", B[vi, vk])


@T.prim_func(s_tir=True)
def _implemented(
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


@functools.cache
def register() -> None:
    """Register the intrinsic, which traces of this space name. Idempotent."""
    TensorIntrin.register(NAME, _described, _implemented)


def has_pair_dot(target: Any) -> bool:
    """Whether a ``tvm.target.Target`` has the instruction."""
    return bool(target_has_features("avx512vnni", target))
