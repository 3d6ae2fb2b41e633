"""Sums along contiguous memory are taken in lanes, whatever their length."""

from typing import Any

import numpy as np
import pytest
import tvm
from tvm import s_tir, te, tirx

from schedules import trace as traces
from schedules import vector_math
from schedules.canonical import objects
from schedules.detect import native_target
from schedules.rewrites import rewritten
from schedules.rewrites.vector_sums import LEAST_TERMS, sum_in_lanes

NATIVE = native_target()
TARGET = tvm.target.Target(NATIVE.as_dict())
FOLDS: dict[str, Any] = {"sum": (te.sum, np.sum), "max": (te.max, np.max), "min": (te.min, np.min)}


def rows_folded(columns, *, fold=te.sum, rows=5, dtype="float32", term=lambda a, i, k: a[i, k]):
    """A schedule of one sum for each row, with its start apart from its loop."""
    a = te.placeholder((rows, columns), name="A", dtype=dtype)
    k = te.reduce_axis((0, columns), name="k")
    folded = te.compute((rows,), lambda i: fold(term(a, i, k), axis=k), name="folded")
    schedule = s_tir.Schedule(te.create_prim_func([a, folded]))
    block = schedule.get_sblock("folded")
    schedule.decompose_reduction(block, schedule.get_loops(block)[-1])
    return schedule


def vectors_in(function):
    return [
        node
        for node in objects(function.body)
        if isinstance(node, tirx.For) and node.kind == tirx.ForKind.VECTORIZED
    ]


@pytest.mark.parametrize("columns", [LEAST_TERMS, 33, 47, 64, 77, 197, 255, 256, 257, 1000, 1031])
@pytest.mark.parametrize("fold", FOLDS)
@pytest.mark.parametrize("dtype", ["float32", "int32"])
def test_any_length_is_summed_in_lanes(columns, fold, dtype):
    schedule = rows_folded(columns, fold=FOLDS[fold][0], dtype=dtype)
    assert vectors_in(sum_in_lanes(schedule.mod["main"]))
    a = np.random.default_rng(5).integers(-1000, 1000, (5, columns)).astype(dtype)
    found = tvm.runtime.tensor(np.zeros(5, dtype))
    traces.build(schedule.mod, TARGET)["main"](tvm.runtime.tensor(a), found)
    # Whole numbers: exact in any order.
    np.testing.assert_array_equal(found.numpy(), FOLDS[fold][1](a, axis=1))


def test_rows_that_a_condition_leaves_out_are_left_out():
    schedule = rows_folded(77)
    [row, _] = schedule.get_loops(schedule.get_sblock("folded_update"))
    schedule.split(row, [None, 2])
    a = np.random.default_rng(5).integers(-1000, 1000, (5, 77)).astype("float32")
    found = tvm.runtime.tensor(np.zeros(5, "float32"))
    assert vectors_in(sum_in_lanes(schedule.mod["main"]))
    traces.build(schedule.mod, TARGET)["main"](tvm.runtime.tensor(a), found)
    np.testing.assert_array_equal(found.numpy(), a.sum(axis=1))


@pytest.mark.parametrize(
    "schedule",
    [
        rows_folded(LEAST_TERMS - 1),
        rows_folded(77, term=lambda a, i, k: a[i, 76 - k]),
        rows_folded(64, term=lambda a, i, k: a[i, k // 2]),
        rows_folded(5, rows=64, term=lambda a, i, k: a[k, i % 5]),
        rows_folded(
            64, term=lambda a, i, k: tirx.if_then_else(k < 60, a[i, k + 4], tirx.const(0.0))
        ),
    ],
    ids=["few", "backwards", "repeated", "across", "conditional"],
)
def test_other_sums_stay_as_they_are(schedule):
    function = schedule.mod["main"]
    assert sum_in_lanes(function).same_as(function)


def test_the_compiler_default_sums_in_order():
    function = rows_folded(77).mod["main"]
    with vector_math.compiler_default():
        assert rewritten(function).same_as(function)
