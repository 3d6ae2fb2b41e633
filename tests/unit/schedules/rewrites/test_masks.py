"""Masks over what lies inside its buffer compute both of their values."""

import numpy as np
import pytest
import tvm
from tvm import te, tirx, topi

from schedules.canonical import objects
from schedules.nests import is_conditional
from schedules.rewrites.masks import choose_by_lane
from tests.unit.schedules.rewrites.test_vector_sums import vectors_in
from tests.unit.schedules.test_streaming_space import HOST, run, sampled


def masked(value, *, columns=37, dtype="float32"):
    x = te.placeholder((24, columns), name="x", dtype=dtype)
    return te.create_prim_func([x, te.compute(x.shape, lambda i, j: value(x, i, j), name="masked")])


def conditions_in(function):
    return [node for node in objects(function.body) if is_conditional(node)]


@pytest.mark.parametrize(
    "value",
    [
        lambda x, i, j: tirx.if_then_else(j <= i, x[i, j], -1.0),
        lambda x, i, j: te.exp(tirx.if_then_else(j <= i, x[i, j], -1.0)) * 2.0,
        lambda x, i, j: tirx.if_then_else(j < 9, x[i, 36 - j], x[23 - i, j]),
        lambda x, i, j: tirx.if_then_else(j <= i, tirx.if_then_else(j < 3, x[i, 0], x[i, j]), 0.0),
    ],
)
def test_what_always_lies_inside_is_chosen_by_lane(value):
    found = choose_by_lane(masked(value))
    assert not conditions_in(found)
    assert any(isinstance(node, tirx.Select) for node in objects(found.body))


@pytest.mark.parametrize(
    "function",
    [
        masked(lambda x, i, j: tirx.if_then_else(j > 0, x[i, j - 1], 0.0)),
        masked(lambda x, i, j: tirx.if_then_else(j < 36, x[i, j + 1], 0.0)),
        masked(
            lambda x, i, j: tirx.if_then_else(
                x[i, j] != 0, tirx.floordiv(tirx.const(9, "int32"), x[i, j]), 0
            ),
            dtype="int32",
        ),
        masked(lambda x, i, j: x[i, j] + 1.0),
    ],
    ids=["before", "behind", "divided by zero", "no mask"],
)
def test_what_may_not_be_computed_stays_as_it_is(function):
    assert choose_by_lane(function).same_as(function)


def causal_softmax(rows, columns):
    x = te.placeholder((rows, columns), name="x")
    kept = te.compute(x.shape, lambda i, j: tirx.if_then_else(j <= i, x[i, j], -1e9), name="kept")
    return te.create_prim_func([x, topi.nn.softmax(kept)])


@pytest.mark.parametrize(("rows", "columns"), [(31, 77), (24, 256)])
def test_a_causal_softmax_is_all_vectors(rows, columns):
    x = np.random.default_rng(5).standard_normal((rows, columns)).astype("float32")
    kept = np.where(np.arange(columns) <= np.arange(rows)[:, None], x, -1e9)
    weights = np.exp(kept - kept.max(axis=1, keepdims=True))
    for schedule in sampled(tvm.IRModule({"main": causal_softmax(rows, columns)}), HOST):
        function = choose_by_lane(schedule.mod["main"])
        assert not conditions_in(function)
        assert columns % 16 or vectors_in(function)
        _, found = run(schedule, [x, np.zeros_like(x)])
        np.testing.assert_allclose(
            found, weights / weights.sum(axis=1, keepdims=True), rtol=1e-4, atol=1e-7
        )
