"""Which blocks are contractions, and how their axes take part."""

import pytest
import tvm
from tvm.s_tir import Schedule

from schedules.operators import find_operator
from schedules.space.contraction import Role, find_contraction
from tests import programs


def block_of(op, **args):
    operator = find_operator(op)
    call = operator.call(args)
    schedule = Schedule(tvm.IRModule({"main": operator.define(call.args, "float32")}))
    return schedule.get(schedule.get_child_blocks(schedule.get_sblock("root"))[-1])


def roles(found):
    return "".join(axis.role.value for axis in found.axes)


@pytest.mark.parametrize(
    ("op", "args", "expected"),
    [
        ("matmul", {"n": 4, "m": 5, "k": 6}, "mnk"),
        ("batch_matmul", {"b": 2, "n": 4, "m": 5, "k": 6}, "bmnk"),
        ("dense", {"n": 4, "m": 5, "k": 6}, "mnk"),
        (
            "conv2d_capsule_nhwijc",
            {"n": 1, "h": 4, "w": 4, "ci": 2, "co": 3, "kernel_size": 3},
            "mmmmnnkkkk",
        ),
    ],
)
def test_axes_have_the_roles_of_a_matrix_product(op, args, expected):
    assert roles(find_contraction(block_of(op, **args))) == expected


@pytest.mark.parametrize(
    ("op", "args"),
    [
        ("gemv", {"m": 4, "k": 5}),
        ("depthwise_conv2d_nhwc", {"n": 1, "h": 4, "w": 4, "c": 8, "kernel_size": 3}),
        ("softmax", {"m": 4, "n": 4}),
        ("reduce_sum", {"m": 4, "n": 4}),
    ],
)
def test_what_lacks_rows_or_columns_is_no_contraction(op, args):
    assert find_contraction(block_of(op, **args)) is None


def test_columns_are_the_side_along_which_the_output_is_contiguous():
    schedule = Schedule(tvm.IRModule({"main": programs.matmul(4, 5, 6)}))
    found = find_contraction(schedule.get(schedule.get_sblock("C")))
    assert found is not None
    assert (found.rows.read, found.columns.read) == (0, 1)
    assert found.extent(Role.COLUMN) == 5
    assert found.flops == 2 * 4 * 5 * 6
