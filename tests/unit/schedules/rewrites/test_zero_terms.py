"""Steps of a sum that only see padding are left out, and nothing else is."""

import numpy as np
import pytest
import tvm
from tvm import te, tirx

from schedules import trace as traces
from schedules import verify
from schedules.canonical import objects
from schedules.detect import native_target
from schedules.ir import module_of, workload_from_call, workload_from_ir
from schedules.operators import find_operator
from schedules.rewrites.zero_terms import skip_zero_terms
from tests.programs import ir_json
from tests.unit.schedules.test_packed import check
from tests.unit.schedules.test_prepack import samples

TARGET = tvm.target.Target(native_target().as_dict())
PADDED = {
    "conv2d_nhwc": "n=1 h=7 w=8 ci=8 co=16 kernel_size=3 padding=1",
    "conv2d_nhwc dilated": "n=1 h=8 w=8 ci=8 co=16 kernel_size=3 padding=2 dilation=2",
    "conv2d_nhwc in strides": "n=2 h=15 w=16 ci=8 co=16 kernel_size=3 padding=1 stride=2",
    "conv3d_ndhwc": "n=1 d=4 h=5 w=8 ci=8 co=16 kernel_size=3 padding=1",
}


def workload_of(case):
    return made(case.split()[0], PADDED[case])


def made(op, sizes):
    args = dict(item.split("=") for item in sizes.split())
    return workload_from_call(
        find_operator(op).call({name: int(value) for name, value in args.items()})
    )


def conditions_in(function):
    return [node.condition for node in objects(function.body) if isinstance(node, tirx.IfThenElse)]


@pytest.mark.parametrize("case", PADDED)
def test_a_step_over_the_edge_is_left_out_and_the_output_is_right(case):
    workload = workload_of(case)
    schedules = samples(workload)
    assert any(conditions_in(skip_zero_terms(schedule.mod["main"])) for schedule in schedules)
    check(workload, schedules)


def test_what_only_meets_padding_is_not_even_read():
    workload = workload_of("conv2d_nhwc")
    inputs = verify.random_inputs(workload.tensors, seed=3)
    # A window's first row meets padding alone in the first row of the output.
    inputs[1][0] = np.inf
    [skipping, *_] = [
        schedule
        for schedule in samples(workload)
        if conditions_in(skip_zero_terms(schedule.mod["main"]))
    ]
    buffers = [tvm.runtime.tensor(value) for value in inputs]
    traces.build(skipping.mod, TARGET)["main"](*buffers)
    assert np.all(np.isfinite(buffers[-1].numpy()[:, 0]))


def test_few_steps_are_taken_with_zeros():
    workload = made("conv2d_nhwc", "n=1 h=7 w=8 ci=2 co=16 kernel_size=3 padding=1")
    for schedule in samples(workload):
        assert not conditions_in(skip_zero_terms(schedule.mod["main"]))


@pytest.mark.parametrize(
    ("op", "args"),
    [
        ("matmul", {"n": 16, "m": 32, "k": 8}),
        ("conv2d_nhwc", {"n": 1, "h": 8, "w": 8, "ci": 4, "co": 16, "kernel_size": 3}),
    ],
)
def test_a_program_without_padding_stays_the_same_object(op, args):
    workload = workload_from_call(find_operator(op).call(args))
    for schedule in samples(workload):
        function = schedule.mod["main"]
        assert skip_zero_terms(function).same_as(function)


def test_a_program_that_nobody_tiled_stays_the_same_object():
    function = module_of(workload_of("conv2d_nhwc"))["main"]
    assert skip_zero_terms(function).same_as(function)


def padded_by(condition):
    """Sums over three rows that follow each other, whose padding is written by hand."""
    a, w = te.placeholder((8, 4, 16), name="A"), te.placeholder((3, 16, 32), name="W")
    zero = tirx.const(0.0, "float32")
    padded = te.compute(
        (10, 4, 16), lambda i, x, c: tirx.if_then_else(condition(i), a[i - 1, x, c], zero), "pad"
    )
    r, k = te.reduce_axis((0, 3), name="r"), te.reduce_axis((0, 16), name="k")
    out = te.compute(
        (8, 4, 32),
        lambda i, x, j: te.sum(padded[i + r, x, k] * w[r, k, j], axis=[r, k]),
        name="out",
    )
    return te.create_prim_func([a, w, out])


@pytest.mark.parametrize(
    "condition",
    [
        lambda i: tirx.And(i >= 1, i < 9),
        lambda i: tirx.And(i > 0, i <= 8),
        lambda i: tirx.And(tirx.const(0, "int32") < i, tirx.const(9, "int32") > i),
        lambda i: tirx.And(tirx.const(1, "int32") <= i, tirx.const(8, "int32") >= i),
    ],
)
def test_conditions_are_read_whichever_way_they_are_written(condition):
    workload = workload_from_ir(ir_json(padded_by(condition)))
    a, w, _ = inputs = verify.random_inputs(workload.tensors, seed=3)
    wide = np.pad(a, ((1, 1), (0, 0), (0, 0)))
    wanted = sum(wide[r : r + 8] @ w[r] for r in range(3))
    found = set()
    for schedule in samples(workload):
        found |= {str(one) for one in conditions_in(skip_zero_terms(schedule.mod["main"]))}
        buffers = [tvm.runtime.tensor(value) for value in inputs]
        traces.build(schedule.mod, TARGET)["main"](*buffers)
        np.testing.assert_allclose(buffers[-1].numpy(), wanted, rtol=1e-4, atol=1e-4)
    assert found
