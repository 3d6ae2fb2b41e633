"""How operand dtypes are accumulated and stored, for programs and references alike."""

from collections.abc import Callable, Sequence

import numpy as np
import numpy.typing as npt

from schedules.operators.operator import Args

FLOAT_DTYPES = ("float32", "float16", "bfloat16")
ALL_DTYPES = (*FLOAT_DTYPES, "int8")

_ACCUMULATORS = {**dict.fromkeys(FLOAT_DTYPES, "float32"), "int8": "int32"}

Array = npt.NDArray[np.float64]
Reference = Callable[[Args, Sequence[np.ndarray]], np.ndarray]


def accumulator_dtype(dtype: str) -> str:
    """Dtype in which products and sums of `dtype` operands are formed."""
    return _ACCUMULATORS[dtype]


def sum_dtype(dtype: str) -> str:
    """Dtype in which a sum over `dtype` operands is stored: int8 stays wide, halves do not."""
    return "int32" if dtype == "int8" else dtype


def in_float64(formula: Callable[..., Array]) -> Reference:
    """Make a reference from a formula over float64 arrays.

    Parameters
    ----------
    formula : callable (args, *inputs) -> numpy.ndarray
        Gets every input as float64.

    Returns
    -------
    callable (args, inputs) -> numpy.ndarray
        Converts the inputs first, and the result to int64 where the operands are integers. That
        is exact, because sums of int8 products stay far below 2**53, and float64 has the fast
        matrix multiplication that int64 lacks in NumPy.
    """

    def reference(args: Args, inputs: Sequence[np.ndarray]) -> np.ndarray:
        result = formula(args, *(array.astype(np.float64) for array in inputs))
        # By the first input: bfloat16 is no NumPy scalar type, so ask for integers, not for floats.
        if np.issubdtype(inputs[0].dtype, np.integer):
            return result.astype(np.int64)
        return result

    return reference
