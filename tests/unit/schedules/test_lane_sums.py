"""Products that are summed in vector lanes: where the rule applies, and that it is right."""

import numpy as np
import pytest
import tvm
from tvm import te
from tvm.s_tir import Schedule

from schedules import trace as traces
from schedules.ir import module_of, workload_from_call
from schedules.operators import find_operator
from schedules.space.contraction import find_contraction
from schedules.space.lane_sums import lane_sums
from tests.unit.schedules.test_packed import NATIVE, NEON, check


def workload_of(op, sizes, dtype="float32"):
    return workload_from_call(find_operator(op).call(sizes, dtype))


def designs_of(module, target):
    """Schedule the program's product in all ways of the rule, each with other samples."""
    found = []
    for seed in (1, 2, 3):
        schedule = Schedule(module, seed=seed)
        root = schedule.get_sblock("root")
        [product] = [
            block
            for block in schedule.get_child_blocks(root)
            if find_contraction(schedule.get(block)) is not None
        ]
        untouched, *designs = lane_sums(target).apply(schedule, product)
        assert untouched.trace.insts == schedule.trace.insts
        found += designs
    return found


@pytest.mark.parametrize(
    ("op", "sizes"),
    [
        ("dense", {"n": 6, "m": 20, "k": 128}),
        ("dense", {"n": 5, "m": 7, "k": 64}),
        ("dense", {"n": 16, "m": 48, "k": 72}),
    ],
    ids=["even", "odd", "half vectors"],
)
def test_designs_compute_what_the_reference_does(op, sizes):
    workload = workload_of(op, sizes)
    module = module_of(workload)
    designs = [traces.canonical_trace(design.trace) for design in designs_of(module, NATIVE)]
    check(workload, [traces.replay(trace, module) for trace in designs])


def test_batches_are_tasks_of_their_own():
    left = te.placeholder((3, 4, 64), name="left")
    right = te.placeholder((3, 10, 64), name="right")
    k = te.reduce_axis((0, 64), name="k")
    product = te.compute(
        (3, 4, 10), lambda b, i, j: te.sum(left[b, i, k] * right[b, j, k], axis=k), name="product"
    )
    program = te.create_prim_func([left, right, product]).with_attr("global_symbol", "main")
    random = np.random.default_rng(1)
    x, y = (random.standard_normal(shape, np.float32) for shape in ((3, 4, 64), (3, 10, 64)))
    designs = designs_of(tvm.IRModule({"main": program}), NATIVE)
    assert designs
    for design in designs:
        buffers = [tvm.runtime.tensor(value) for value in (x, y, np.zeros((3, 4, 10), np.float32))]
        traces.build(design.mod, tvm.target.Target(NATIVE.as_dict()))["main"](*buffers)
        np.testing.assert_allclose(buffers[-1].numpy(), x @ y.swapaxes(1, 2), atol=1e-4)


@pytest.mark.parametrize(
    ("op", "sizes", "dtype"),
    [
        ("dense", {"n": 257, "m": 64, "k": 64}, "float32"),
        ("dense", {"n": 8, "m": 64, "k": 60}, "float32"),
        ("dense", {"n": 8, "m": 64, "k": 24}, "float32"),
        ("dense", {"n": 8, "m": 64, "k": 128}, "int8"),
        ("matmul", {"n": 8, "m": 64, "k": 128}, "float32"),
    ],
    ids=["many rows", "odd sum", "short sum", "wider sums", "columns contiguous"],
)
def test_other_products_are_left_to_other_rules(op, sizes, dtype):
    assert not designs_of(module_of(workload_of(op, sizes, dtype)), NATIVE)


def test_designs_compile_for_arm():
    workload = workload_of("dense", {"n": 6, "m": 20, "k": 128})
    for design in designs_of(module_of(workload), NEON):
        library = traces.build(design.mod, tvm.target.Target(NEON.as_dict()))
        assert "fmla" in library.inspect_source("asm")
