"""What a CPU target's registers hold, asked of the compiler and not of this machine."""

from dataclasses import dataclass
from typing import Any

import tvm
from tvm.target.codegen import target_has_features


@dataclass(frozen=True, kw_only=True)
class VectorUnit:
    """The vector registers of one core.

    Attributes
    ----------
    bits : int
        Width of a register.
    registers : int
        How many the instruction set names.
    broadcasts : bool
        Whether a multiplication can take one operand as a scalar from memory, so that it needs no
        register of its own.
    """

    bits: int
    registers: int
    broadcasts: bool = False

    def lanes(self, dtype: str) -> int:
        """Elements of one register."""
        return self.bits // dtype_bits(dtype)


def dtype_bits(dtype: str) -> int:
    """Return the bits of an element."""
    return int(tvm.DataType(dtype).bits)


NARROWEST_BITS = 128
"""Vectors that every target with a vector unit has."""

AVX512 = VectorUnit(bits=512, registers=32, broadcasts=True)
AVX = VectorUnit(bits=256, registers=16)
SSE = VectorUnit(bits=128, registers=16)
NEON = VectorUnit(bits=128, registers=32, broadcasts=True)


def vector_unit(target: Any) -> VectorUnit:
    """Return the vector unit of a ``tvm.target.Target`` of kind ``llvm``.

    Features come from ``mcpu`` and ``mattr``; a target without ``mtriple`` is this machine's.
    """
    for feature, unit in (("avx512f", AVX512), ("avx", AVX), ("neon", NEON)):
        if target_has_features(feature, target):
            return unit
    return SSE
