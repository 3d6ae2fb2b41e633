"""Panels of bytes are stored as unsigned numbers, where only products read them."""

import numpy as np
import pytest
import tvm
from tvm import tirx

from schedules import prepack, verify
from schedules.canonical import objects
from schedules.ir import workload_from_call
from schedules.nests import nests_of, with_root_body
from schedules.operators import find_operator
from schedules.rewrites import rewritten_whole
from schedules.rewrites.unsigned_bytes import store_unsigned
from schedules.space.dots import SIGNS, dots_for
from tests.unit.schedules.test_packed import NATIVE, check
from tests.unit.schedules.test_prepack import DENSE, constant_workload, run, samples

TARGET = tvm.target.Target(NATIVE.as_dict())
PRIMES = {"n": 37, "m": 53, "k": 29}
CASES = {
    "matmul": {"n": 64, "m": 96, "k": 32},
    "dense": PRIMES,
    "batch_matmul": {"b": 2, **PRIMES},
    "conv2d_nhwc": {"n": 1, "h": 5, "w": 7, "ci": 9, "co": 19, "kernel_size": 3, "padding": 1},
}

pytestmark = pytest.mark.skipif(
    not any(dot.is_unsigned for dot in dots_for("int8", "int32", TARGET)),
    reason="no instruction of this CPU takes unsigned bytes",
)


def unsigned_samples(workload):
    """Those whose products are of unsigned bytes."""
    return [sample for sample in samples(workload) if flips_in(sample.mod["main"])]


def flips_in(function):
    """The bits that products flip; none for those of other instructions."""
    lasts = [node.args[-1] for node in objects(function.body) if is_product(node)]
    return [int(last) for last in lasts if isinstance(last, tirx.IntImm)]


def is_product(node):
    return isinstance(node, tvm.ir.Call) and getattr(node.op, "name", "") == "tirx.call_extern"


@pytest.mark.parametrize("op", CASES)
def test_signs_are_flipped_once_and_sums_are_exact(op):
    workload = workload_from_call(find_operator(op).call(CASES[op], "int8"))
    schedules = unsigned_samples(workload)
    for schedule in schedules:
        assert set(flips_in(store_unsigned(schedule.mod["main"]))) == {0}
    chance = np.random.default_rng(3)
    extremes = [
        chance.choice(np.array([-128, -127, -1, 0, 1, 127], tensor.dtype), tensor.shape)
        for tensor in workload.tensors
    ]
    check(workload, schedules[::4], extremes)


def test_constants_are_stored_unsigned_together_with_their_calls():
    workload = constant_workload("dense", DENSE, "W", dtype="int8")
    inputs = verify.random_inputs(workload.tensors, seed=3)
    expected = verify.reference_outputs(workload, inputs)
    for schedule in unsigned_samples(workload)[::4]:
        whole = tvm.IRModule({"main": rewritten_whole(schedule.mod["main"])})
        assert set(flips_in(prepack.split(whole).module["main"])) == {0}
        output, packed = run(workload, schedule, inputs)
        assert packed == ["W"]
        assert np.array_equal(output, expected[0])


def test_calls_alone_read_constants_as_they_were_packed():
    workload = constant_workload("dense", DENSE, "W", dtype="int8")
    for schedule in unsigned_samples(workload):
        main = prepack.split(schedule.mod).module["main"]
        assert store_unsigned(main).same_as(main)
        assert set(flips_in(main)) == {SIGNS}


def test_a_panel_that_somebody_else_reads_stays_as_it_is():
    workload = workload_from_call(find_operator("matmul").call(CASES["matmul"], "int8"))
    function = unsigned_samples(workload)[0].mod["main"]
    for panel in function.body.block.alloc_buffers:
        look = tirx.Evaluate(tirx.BufferLoad(panel, [0] * len(panel.ty.shape)))
        function = with_root_body(function, tirx.SeqStmt([*nests_of(function), look]))
    assert store_unsigned(function).same_as(function)
