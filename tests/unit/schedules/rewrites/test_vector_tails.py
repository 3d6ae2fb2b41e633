"""Rows of odd lengths end with a vector too."""

import numpy as np
import pytest
import tvm
from tvm import s_tir, te, tirx

from schedules import trace as traces
from schedules import vector_math
from schedules.detect import native_target
from schedules.rewrites import rewritten
from schedules.rewrites.lanes import LANES
from schedules.rewrites.vector_tails import end_in_vectors
from tests.unit.schedules.rewrites.test_vector_sums import vectors_in
from tests.unit.schedules.test_streaming_space import HOST, run, sampled

TARGET = tvm.target.Target(native_target().as_dict())


def rows_mapped(columns, *, value=lambda a, i, j: te.exp(a[i, j]), rows=5, dtype="float32"):
    a = te.placeholder((rows, columns), name="A", dtype=dtype)
    mapped = te.compute((rows, columns), lambda i, j: value(a, i, j), name="mapped")
    return te.create_prim_func([a, mapped])


@pytest.mark.parametrize("columns", [17, 31, 47, 77, 197, 257])
@pytest.mark.parametrize("dtype", ["float32", "float16"])
def test_a_row_of_an_odd_length_is_all_vectors(columns, dtype):
    function = rows_mapped(columns, value=lambda a, i, j: a[i, j] * a[i, j], dtype=dtype)
    assert len(vectors_in(end_in_vectors(function))) == 2
    a = np.random.default_rng(5).integers(-9, 9, (5, columns)).astype(dtype)
    found = tvm.runtime.tensor(np.zeros_like(a))
    traces.build(tvm.IRModule({"main": function}), TARGET)["main"](tvm.runtime.tensor(a), found)
    np.testing.assert_array_equal(found.numpy(), a * a)


def test_rows_that_a_condition_leaves_out_are_left_out():
    schedule = s_tir.Schedule(rows_mapped(77, value=lambda a, i, j: a[i, j] + 1))
    [row, _] = schedule.get_loops(schedule.get_sblock("mapped"))
    schedule.split(row, [None, 2])
    assert vectors_in(end_in_vectors(schedule.mod["main"]))
    a = np.random.default_rng(5).standard_normal((5, 77)).astype("float32")
    found = tvm.runtime.tensor(np.zeros_like(a))
    traces.build(schedule.mod, TARGET)["main"](tvm.runtime.tensor(a), found)
    np.testing.assert_array_equal(found.numpy(), a + 1)


def exponentials_in_turn(rows, columns):
    """Two buffers of the program's own in each row, of which TVM makes one."""
    x = te.placeholder((rows, columns), name="X")
    places = [te.reduce_axis((0, columns), name=name) for name in ("k", "l")]
    p = te.compute(x.shape, lambda i, j: te.exp(x[i, j]), name="p")
    most = te.compute((rows,), lambda i: te.max(p[i, places[0]], axis=places[0]), name="most")
    q = te.compute(x.shape, lambda i, j: te.exp(p[i, j] - most[i]), name="q")
    total = te.compute((rows,), lambda i: te.sum(q[i, places[1]], axis=places[1]), name="total")
    return te.create_prim_func([x, te.compute(x.shape, lambda i, j: q[i, j] / total[i], "out")])


def test_a_buffer_that_takes_the_place_of_another_is_computed_once():
    x = np.random.default_rng(5).standard_normal((37, 77)).astype("float32")
    p = np.exp(x)
    q = np.exp(p - p.max(axis=1, keepdims=True))
    for schedule in sampled(tvm.IRModule({"main": exponentials_in_turn(37, 77)}), HOST):
        _, found = run(schedule, [x, np.zeros_like(x)])
        np.testing.assert_allclose(found, q / q.sum(axis=1, keepdims=True), rtol=1e-5)


@pytest.mark.parametrize("noalias", [True, False])
def test_vectors_overlap_only_where_no_memory_is_shared(noalias):
    function = rows_mapped(77).with_attr("tirx.noalias", noalias)
    extents = sorted(int(loop.extent) for loop in vectors_in(end_in_vectors(function)))
    assert extents == ([LANES, LANES] if noalias else [77 % LANES, LANES])


@pytest.mark.parametrize(
    "function",
    [
        rows_mapped(LANES - 1),
        rows_mapped(4 * LANES),
        rows_mapped(77, value=lambda a, i, j: a[i, 76 - j]),
        rows_mapped(7, rows=77, value=lambda a, i, j: a[j, i % 7]),
        rows_mapped(
            77, value=lambda a, i, j: tirx.if_then_else(j < 60, a[i, j + 4], tirx.const(0.0))
        ),
    ],
    ids=["short", "even", "backwards", "across", "conditional"],
)
def test_other_loops_stay_as_they_are(function):
    assert end_in_vectors(function).same_as(function)


def test_a_sum_is_no_map():
    a = te.placeholder((5, 77), name="A")
    k = te.reduce_axis((0, 77), name="k")
    function = te.create_prim_func([a, te.compute((5,), lambda i: te.sum(a[i, k], axis=k))])
    assert end_in_vectors(function).same_as(function)


def test_the_compiler_default_has_its_own_tails():
    function = rows_mapped(77)
    with vector_math.compiler_default():
        assert rewritten(function).same_as(function)
