"""References, poison and tolerances."""

import numpy as np
import pytest

from schedules import verify
from schedules.errors import ContractError
from schedules.ir import workload_from_call, workload_from_ir
from schedules.operators import find_operator
from schedules.workload import TensorSpec
from tests import programs


def workload_of(op="batch_matmul", dtype="float32", **args):
    args = args or {"b": 1, "n": 8, "m": 8, "k": 64}
    return workload_from_call(find_operator(op).call(args, dtype))


def test_equal_seeds_make_equal_inputs_and_others_do_not():
    tensors = workload_of().tensors
    first, again, other = (verify.random_inputs(tensors, seed) for seed in (1, 1, 2))
    assert np.array_equal(first[0], again[0])
    assert not np.array_equal(first[0], other[0])


@pytest.mark.parametrize("dtype", ["float32", "float16", "bfloat16", "int8"])
def test_outputs_start_as_poison_that_never_passes(dtype):
    workload = workload_of(dtype=dtype)
    inputs = verify.random_inputs(workload.tensors, 1)
    expected = verify.reference_outputs(workload, inputs)
    assert not verify.compare(workload, [inputs[-1]], expected, "numpy").passed


@pytest.mark.parametrize("dtype", ["float32", "float16", "bfloat16"])
def test_a_rounded_reference_passes_and_a_slightly_wrong_one_does_not(dtype):
    workload = workload_of(dtype=dtype)
    inputs = verify.random_inputs(workload.tensors, 1)
    [expected] = verify.reference_outputs(workload, inputs)
    rounded = expected.astype(verify.numpy_dtype(dtype))
    assert verify.compare(workload, [rounded], [expected], "numpy").passed
    wrong = expected.copy()
    wrong.flat[3] += 2 * verify.tolerance(workload) * np.abs(expected).max()
    assert not verify.compare(workload, [wrong], [expected], "numpy").passed


def test_integer_outputs_must_be_exact():
    workload = workload_of(dtype="int8")
    inputs = verify.random_inputs(workload.tensors, 1)
    [expected] = verify.reference_outputs(workload, inputs)
    assert verify.compare(workload, [expected], [expected], "numpy").passed
    assert not verify.compare(workload, [expected + 1], [expected], "numpy").passed


def test_the_tolerance_grows_with_the_reduction_and_shrinks_with_precision():
    short = verify.tolerance(workload_of(b=1, n=8, m=8, k=16))
    long = verify.tolerance(workload_of(b=1, n=8, m=8, k=1024))
    half = verify.tolerance(workload_of(dtype="float16", b=1, n=8, m=8, k=16))
    assert short < long < half < 0.01


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_one_value_that_is_not_finite_fails_and_is_stored_as_a_number(value):
    workload = workload_of()
    inputs = verify.random_inputs(workload.tensors, 1)
    [expected] = verify.reference_outputs(workload, inputs)
    wrong = expected.copy()
    wrong.flat[0] = value
    checked = verify.compare(workload, [wrong], [expected], "numpy")
    assert not checked.passed
    assert checked.error == verify.NOT_FINITE


def test_ir_workloads_have_no_numpy_reference():
    workload = workload_from_ir(programs.ir_json(programs.scale(8)))
    with pytest.raises(ContractError):
        verify.reference_outputs(workload, verify.random_inputs(workload.tensors, 1))


def test_a_constant_output_is_a_trap_where_the_reference_varies():
    wanted = np.array([[1.0, 1.0 + 1e-7]], dtype=np.float32)
    constant = np.ones_like(wanted)
    assert verify.find_trap([constant], [wanted]) == "its output is constant"
    assert verify.find_trap([constant], [constant]) is None
    assert verify.find_trap([wanted], [wanted]) is None


def test_an_output_that_is_not_finite_is_a_trap_where_the_reference_is():
    wanted = np.ones(2, dtype=np.float32)
    found = np.array([1.0, np.nan], dtype=np.float32)
    assert verify.find_trap([found], [wanted]) == "its output is not finite"


def test_inputs_for_timing_repeat_their_values_and_are_quick_to_make():
    tensors = [TensorSpec(name="A", shape=(4, 100), dtype="float32")]
    [full] = verify.random_inputs(tensors, seed=3)
    [tiled] = verify.random_inputs(tensors, seed=3, distinct=100)
    assert len(np.unique(full)) > 390
    np.testing.assert_array_equal(tiled, np.tile(full[0], (4, 1)))


@pytest.mark.parametrize(("rows", "dtype", "end"), [(3000, "int32", 3000), (3000, "int8", 127)])
def test_indices_lie_in_what_they_index(rows, dtype, end):
    function = programs.gather(rows, 4, 10_000, dtype=dtype)
    workload = workload_from_ir(programs.ir_json(function))
    _, places, _ = verify.random_inputs(workload.tensors, seed=3)
    assert places.min() == 0
    assert end / 2 < places.max() < end
