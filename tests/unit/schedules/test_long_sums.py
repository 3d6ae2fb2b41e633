"""Sums that are cut in parts: which are, and that what is added up is right."""

import pytest
from tvm.s_tir import Schedule

from schedules.ir import module_of, workload_from_call
from schedules.operators import find_operator
from schedules.space.axis_roles import contraction_in
from schedules.space.contraction import Role
from schedules.space.long_sums import in_parts
from schedules.space.vector_unit import AVX512
from tests.unit.schedules.test_packed import NATIVE, check, context_of, samples


def workload_of(op, sizes, dtype="float32", constants=()):
    return workload_from_call(find_operator(op).call(sizes, dtype, constants=constants))


WORKLOADS = {
    "matmul": lambda: workload_of("matmul", {"n": 32, "m": 48, "k": 12288}),
    "odd columns": lambda: workload_of("matmul", {"n": 37, "m": 13, "k": 12288}),
    "convolution": lambda: workload_of(
        "conv2d_nhwc",
        {"n": 1, "h": 6, "w": 6, "ci": 1408, "co": 16, "kernel_size": 3, "padding": 1},
    ),
    "int8": lambda: workload_of("dense", {"n": 32, "m": 16, "k": 49152}, "int8"),
    "with consumers": lambda: workload_of(
        "conv2d_nhwc_bn_relu", {"n": 1, "h": 8, "w": 8, "ci": 1408, "co": 16, "kernel_size": 3}
    ),
}


@pytest.mark.parametrize("name", WORKLOADS)
def test_parts_add_up_to_what_the_reference_computes(name):
    workload = WORKLOADS[name]()
    found = samples(workload, NATIVE, 3)
    assert all("RFactor" in str(schedule.trace.as_json()) for schedule in found)
    check(workload, found)


def parts_of(workload):
    """Extents of the batch and the sum after the rule, on registers of 16 floats."""
    schedule = Schedule(module_of(workload))
    [product] = [
        block
        for block in schedule.get_child_blocks(schedule.get_sblock("root"))
        if contraction_in(schedule, block) is not None
    ]
    before = schedule.mod
    whole = contraction_in(schedule, product)
    assert whole is not None
    _, _, found = in_parts(schedule, product, whole, AVX512)
    assert schedule.mod.same_as(before)
    return found.extent(Role.BATCH), found.extent(Role.SUM)


@pytest.mark.parametrize(
    ("op", "sizes", "dtype", "expected"),
    [
        ("matmul", {"n": 64, "m": 64, "k": 5120}, "float32", (1, 5120)),
        ("matmul", {"n": 64, "m": 64, "k": 8192}, "float32", (2, 4096)),
        ("matmul", {"n": 64, "m": 64, "k": 11008}, "float32", (4, 2752)),
        ("matmul", {"n": 64, "m": 64, "k": 8192}, "int8", (1, 8192)),
        ("matmul", {"n": 64, "m": 64, "k": 12289}, "float32", (1, 12289)),
        ("matmul", {"n": 16, "m": 64, "k": 8192}, "float32", (1, 8192)),
        ("batch_matmul", {"b": 3, "n": 64, "m": 64, "k": 8192}, "float32", (6, 4096)),
    ],
    ids=["short", "in two", "in four", "small elements", "prime", "few rows", "batches"],
)
def test_a_sum_is_cut_where_its_panels_are_longer_than_the_cache(op, sizes, dtype, expected):
    assert parts_of(workload_of(op, sizes, dtype)) == expected


def test_a_sum_over_constants_stays_whole():
    workload = workload_of("matmul", {"n": 64, "m": 64, "k": 8192}, constants=("B",))
    assert parts_of(workload) == (1, 8192)


def test_channels_are_cut_and_not_the_window():
    sizes = {"n": 1, "d": 4, "h": 7, "w": 7, "ci": 512, "co": 64, "kernel_size": 3, "padding": 1}
    assert parts_of(workload_of("conv3d_ndhwc", sizes)) == (4, 3456)


def test_a_product_that_is_cut_keeps_its_number_of_designs():
    workload = WORKLOADS["matmul"]()
    assert len(context_of(module_of(workload), NATIVE).generate_design_space()) <= 16
