"""Instructions of CPUs that add several products to a sum at once.

Source: Intel, Architecture Instruction Set Extensions Programming Reference (VPDPBUSD, VDPBF16PS,
TDPBSSD, TDPBF16PS).
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from tvm.target.codegen import target_has_features

LANES = 16
"""Sums in a vector, and in a row of a tile of AMX."""
FUNCTIONS = "tunesmith_dot_"
"""How the names of functions begin that multiply tiles."""
SIGNS = 0x80808080 - 2**32
"""The sign bits of four bytes: as unsigned numbers, 128 each."""
TILE_BYTES = 64
"""A row of a tile of AMX, at most."""


@dataclass(frozen=True, kw_only=True)
class Dot:
    """An instruction that adds products to sums.

    Attributes
    ----------
    name : str
        In the names of tensor intrinsics.
    feature, instruction : str
        What a target has that has the instruction, and the instruction, as LLVM calls them.
    operands, sums : str
        Dtypes of the products' factors and of the sum.
    group : int
        Products that are added at once.
    is_unsigned : bool
        Whether it takes the columns' factors unsigned.
    """

    name: str
    feature: str
    instruction: str
    operands: str
    sums: str
    group: int
    is_unsigned: bool = False

    @property
    def row_group(self) -> int:
        """How many factors of one row lie together in the packed rows' operand."""
        return self.group


@dataclass(frozen=True, kw_only=True)
class VectorDot(Dot):
    """One that adds a group of products to each lane of a vector.

    Attributes
    ----------
    operand_vector, sum_vector : str
        LLVM's types of a register of them, as the instruction takes it.
    """

    operand_vector: str
    sum_vector: str

    @property
    def registers(self) -> int:
        """Vector registers that a tile needs beside its sums and a row of B.

        For the offset and for what it has added, where there is one.
        """
        return 2 if self.is_unsigned else 0


@dataclass(frozen=True, kw_only=True)
class MatrixDot(Dot):
    """One that multiplies tiles of AMX: up to 16 rows by 16 columns, `TILE_BYTES` of the sum.

    Attributes
    ----------
    operand_bytes : int
        Of a factor.
    """

    operand_bytes: int

    @property
    def row_group(self) -> int:
        """A row of a tile."""
        return TILE_BYTES // self.operand_bytes


_DOTS: tuple[Dot, ...] = (
    MatrixDot(
        name="amx_i8i8i32",
        feature="amx-int8",
        instruction="llvm.x86.tdpbssd",
        operands="int8",
        sums="int32",
        group=4,
        operand_bytes=1,
    ),
    MatrixDot(
        name="amx_bf16bf16f32",
        feature="amx-bf16",
        instruction="llvm.x86.tdpbf16ps",
        operands="bfloat16",
        sums="float32",
        group=2,
        operand_bytes=2,
    ),
    VectorDot(
        name="i8i8i32",
        feature="avx512vnni",
        instruction="llvm.x86.avx512.vpdpbusd.512",
        operands="int8",
        sums="int32",
        operand_vector="<16 x i32>",
        sum_vector="<16 x i32>",
        group=4,
        is_unsigned=True,
    ),
    VectorDot(
        name="bf16bf16f32",
        feature="avx512bf16",
        instruction="llvm.x86.avx512bf16.dpbf16ps.512",
        operands="bfloat16",
        sums="float32",
        operand_vector="<32 x bfloat>",
        sum_vector="<16 x float>",
        group=2,
    ),
)
DOTS = {dot.name: dot for dot in _DOTS}


def dots_for(operands: str, sums: str, target: Any) -> Iterator[Dot]:
    """Yield what a ``tvm.target.Target`` has for products of these dtypes, the fastest first."""
    for dot in _DOTS:
        wanted = (dot.operands, dot.sums) == (operands, sums)
        if wanted and target_has_features(dot.feature, target):
            yield dot
