"""Tiles inside a matrix run without the conditions of those at its edge."""

import numpy as np
import pytest
import tvm
from tvm import s_tir, te, tirx

from schedules import trace as traces
from schedules import verify
from schedules.canonical import objects
from schedules.detect import native_target
from schedules.ir import module_of, workload_from_call
from schedules.nests import is_conditional
from schedules.operators import find_operator
from schedules.rewrites.edge_tiles import free_whole_tiles
from tests.unit.schedules.test_packed import check
from tests.unit.schedules.test_prepack import samples

TARGET = tvm.target.Target(native_target().as_dict())
UNEVEN = {
    "matmul": {"n": 83, "m": 96, "k": 31},
    "dense": {"n": 67, "m": 131, "k": 24},
    "batch_matmul": {"b": 2, "n": 61, "m": 64, "k": 7},
    "conv2d_nhwc": {"n": 1, "h": 13, "w": 13, "ci": 4, "co": 80, "kernel_size": 3, "padding": 1},
    "conv2d_nhwc_bn_relu": {"n": 1, "h": 13, "w": 13, "ci": 4, "co": 48, "kernel_size": 3},
}


def workload_of(op):
    return workload_from_call(find_operator(op).call(UNEVEN[op]))


def choices_in(function):
    return [node for node in objects(function.body) if isinstance(node, tirx.IfThenElse)]


def conditions_in(statement):
    """Conditions on loads, and predicates, of the blocks of a statement."""
    return [
        node
        for node in objects(statement)
        if is_conditional(node)
        or (
            isinstance(node, tvm.s_tir.SBlockRealize)
            and not isinstance(node.predicate, tirx.IntImm)
        )
    ]


@pytest.mark.parametrize("op", UNEVEN)
def test_whole_tiles_have_no_conditions_and_the_output_is_right(op):
    workload = workload_of(op)
    schedules, in_place = samples(workload), 0
    for schedule in schedules:
        choices = choices_in(free_whole_tiles(schedule.mod["main"]))
        for choice in choices:
            assert conditions_in(choice.else_case)
            assert not conditions_in(choice.then_case)
        in_place += len(choices) > 1
    check(workload, schedules)
    # The sums as well as the stores.
    assert in_place > 0


def padded_copy(length, *, start=0):
    """A vector copied to whole registers, with ones after its end, and before its start."""
    x = te.placeholder((length,), name="x")

    def element(i):
        inside = i < length if start == 0 else tirx.all(i >= start, i < length)
        return tirx.if_then_else(inside, x[i], tirx.const(1.0, "float32"))

    schedule = s_tir.Schedule(
        te.create_prim_func([x, te.compute((-(-length // 16) * 16,), element, name="copied")])
    )
    [loop] = schedule.get_loops(schedule.get_sblock("copied"))
    _, lane = schedule.split(loop, [None, 16])
    schedule.vectorize(lane)
    return schedule.mod["main"]


def test_whole_vectors_of_a_copy_have_no_conditions():
    function = free_whole_tiles(padded_copy(41))
    [choice] = choices_in(function)
    assert conditions_in(choice.else_case)
    assert not conditions_in(choice.then_case)
    x = np.arange(41, dtype="float32")
    found = tvm.runtime.tensor(np.zeros(48, "float32"))
    traces.build(tvm.IRModule({"main": function}), TARGET)["main"](tvm.runtime.tensor(x), found)
    np.testing.assert_array_equal(found.numpy(), np.pad(x, (0, 7), constant_values=1))


@pytest.mark.parametrize("function", [padded_copy(48), padded_copy(41, start=3)])
def test_other_vectors_stay_as_they_are(function):
    assert free_whole_tiles(function).same_as(function)


def test_tvm_alone_computes_the_same():
    workload = workload_of("conv2d_nhwc")
    inputs = verify.random_inputs(workload.tensors, seed=3)
    for schedule in samples(workload):
        outputs = []
        for build in (traces.build, tvm.tirx.build):
            buffers = [tvm.runtime.tensor(value) for value in inputs]
            build(schedule.mod, TARGET)["main"](*buffers)
            outputs.append(buffers[-1].numpy())
        np.testing.assert_array_equal(*outputs)


@pytest.mark.parametrize(
    ("op", "args"),
    [
        ("matmul", {"n": 32, "m": 64, "k": 8}),
        ("softmax", {"m": 7, "n": 33}),
    ],
)
def test_a_program_without_uneven_tiles_stays_the_same_object(op, args):
    workload = workload_from_call(find_operator(op).call(args))
    function = module_of(workload)["main"]
    assert free_whole_tiles(function).same_as(function)
    for schedule in samples(workload) if op == "matmul" else ():
        if not conditions_in(schedule.mod["main"].body):
            function = schedule.mod["main"]
            assert free_whole_tiles(function).same_as(function)
