"""Checking outputs: fresh inputs, references, tolerances.

The tolerance is a bound on ``max |output - reference| / scale`` with ``scale = max |reference|``:
inputs are standard normal, so sums may cancel in single elements.
"""

from collections.abc import Sequence
from math import sqrt

import ml_dtypes
import numpy as np

from schedules.errors import ContractError
from schedules.operators import find_operator
from schedules.records import Verification
from schedules.workload import TensorSpec, Workload

UNIT_ROUNDOFF = {
    "float64": 2.0**-53,
    "float32": 2.0**-24,
    "float16": 2.0**-11,
    "bfloat16": 2.0**-8,
}

# Random-walk growth of rounding errors over a sum, with room for reassociation and approximated
# functions. Source: Higham, Accuracy and Stability of Numerical Algorithms, section 2.6.
SAFETY = 32.0

NOT_FINITE = -1.0
"""Stands for an infinite error in a `Verification`, as JSON has no infinity."""


def numpy_dtype(dtype: str) -> np.dtype:
    """Return NumPy's dtype of a tensor dtype's name."""
    return np.dtype(ml_dtypes.bfloat16) if dtype == "bfloat16" else np.dtype(dtype)


def random_inputs(
    tensors: Sequence[TensorSpec], seed: int, *, distinct: int | None = None
) -> list[np.ndarray]:
    """Make fresh values for every parameter.

    Parameters
    ----------
    tensors : sequence of TensorSpec
        The parameters of a workload.
    seed : int
        Equal seeds make equal values.
    distinct : int or None
        After so many values they repeat, which is quick and good enough for timing; never by
        default.

    Returns
    -------
    list of numpy.ndarray
        Standard normal for floating dtypes, uniform in [-8, 8) for signed and [0, 8) for unsigned
        integers, all indices of what they index, and coin flips for booleans. Outputs hold a poison
        that no correct program leaves behind: NaN, or the largest integer.
    """
    generator = np.random.default_rng(seed)
    return [
        _poison(tensor) if tensor.is_output else _random(tensor, generator, distinct)
        for tensor in tensors
    ]


def reference_outputs(workload: Workload, inputs: Sequence[np.ndarray]) -> list[np.ndarray]:
    """Compute a catalogue workload's output with NumPy.

    Parameters
    ----------
    workload : Workload
        Made from a catalogue call.
    inputs : sequence of numpy.ndarray
        As from `random_inputs`, outputs included.

    Raises
    ------
    ContractError
        The workload has no catalogue call.
    """
    if workload.call is None:
        raise ContractError(f"workload {workload.name} has no NumPy reference")
    operator = find_operator(workload.call.op)
    given = [
        value
        for value, tensor in zip(inputs, workload.tensors, strict=True)
        if not tensor.is_output
    ]
    return [operator.reference(workload.call.args, given)]


def tolerance(workload: Workload) -> float:
    """Return the largest accepted error relative to the output's scale.

    It is ``SAFETY * u_acc * sqrt(n) + 2 * u_out`` with ``n`` the reduction length, ``u_acc`` the
    unit roundoff of the accumulator (float32 for half precisions) and ``u_out`` that of the output;
    0 for integer outputs.
    """
    output = next(tensor for tensor in workload.tensors if tensor.is_output)
    if output.dtype not in UNIT_ROUNDOFF:
        return 0.0
    u_out = UNIT_ROUNDOFF[output.dtype]
    u_acc = min(u_out, UNIT_ROUNDOFF["float32"])
    return SAFETY * u_acc * sqrt(_reduction_length(workload)) + 2 * u_out


def compare(
    workload: Workload,
    outputs: Sequence[np.ndarray],
    expected: Sequence[np.ndarray],
    reference: str,
) -> Verification:
    """Compare outputs with a reference.

    Parameters
    ----------
    workload : Workload
        Gives the tolerance.
    outputs, expected : sequence of numpy.ndarray
        Equal shapes; any dtypes.
    reference : str
        ``numpy`` or ``unscheduled``; kept as provenance.
    """
    error = max(
        _relative_error(output, wanted) for output, wanted in zip(outputs, expected, strict=True)
    )
    bound = tolerance(workload)
    if reference == "unscheduled":
        # The reference itself was rounded as often as the output.
        bound *= 2
    return Verification(
        reference=reference,
        tolerance=bound,
        error=error if np.isfinite(error) else NOT_FINITE,
        passed=bool(error <= bound),
    )


def find_trap(outputs: Sequence[np.ndarray], expected: Sequence[np.ndarray]) -> str | None:
    """Name what is wrong with outputs whatever the tolerance is, None if nothing is.

    A constant is close to an output that varies little, and yet no result of the program.
    """
    for output, wanted in zip(outputs, expected, strict=True):
        if output.dtype.kind == "f" and np.any(np.isfinite(wanted) & ~np.isfinite(output)):
            return "its output is not finite"
        if (
            output.size > 1
            and np.all(output == output.flat[0])
            and np.any(wanted != wanted.flat[0])
        ):
            return "its output is constant"
    return None


def _reduction_length(workload: Workload) -> float:
    if workload.call is not None:
        operator = find_operator(workload.call.op)
        return max(1.0, float(operator.reduction_length(workload.call.args)))
    outputs = sum(tensor.elements for tensor in workload.tensors if tensor.is_output)
    return max(1.0, workload.flops / (2 * outputs))


def _random(tensor: TensorSpec, generator: np.random.Generator, distinct: int | None) -> np.ndarray:
    drawn = tensor.elements if distinct is None else min(distinct, tensor.elements)
    values = _draw(tensor, generator, drawn)
    return (
        values.reshape(tensor.shape)
        if drawn == tensor.elements
        else np.resize(values, tensor.shape)
    )


def _draw(tensor: TensorSpec, generator: np.random.Generator, count: int) -> np.ndarray:
    dtype = numpy_dtype(tensor.dtype)
    if tensor.dtype in UNIT_ROUNDOFF:
        return generator.standard_normal(count, dtype=np.float32).astype(dtype)
    if tensor.dtype == "bool":
        return generator.integers(0, 2, count).astype(dtype)
    if tensor.index_below is not None:
        end = min(tensor.index_below, np.iinfo(dtype).max)
        return generator.integers(0, end, count).astype(dtype)
    low = 0 if tensor.dtype.startswith("uint") else -8
    return generator.integers(low, 8, count).astype(dtype)


def _poison(tensor: TensorSpec) -> np.ndarray:
    dtype = numpy_dtype(tensor.dtype)
    if tensor.dtype in UNIT_ROUNDOFF:
        return np.full(tensor.shape, np.nan, dtype=dtype)
    if tensor.dtype == "bool":
        return np.ones(tensor.shape, dtype=dtype)
    return np.full(tensor.shape, np.iinfo(dtype).max, dtype=dtype)


def _relative_error(output: np.ndarray, expected: np.ndarray) -> float:
    wide = np.int64 if np.issubdtype(expected.dtype, np.integer) else np.float64
    found, wanted = output.astype(wide), expected.astype(wide)
    if found.shape != wanted.shape:
        return float("inf")
    difference = np.abs(found - wanted)
    if not np.all(np.isfinite(difference)):
        return float("inf")
    scale = float(np.max(np.abs(wanted), initial=0.0))
    worst = float(np.max(difference, initial=0))
    return worst / scale if scale > 0 else worst
