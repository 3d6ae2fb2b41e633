"""Quotients by one divisor share its reciprocal, and others stay quotients."""

import numpy as np
import pytest
import tvm
from tvm import te, tirx

from schedules import trace as traces
from schedules import vector_math
from schedules.canonical import objects
from schedules.detect import native_target
from schedules.rewrites import rewritten
from schedules.rewrites.quotients import share_reciprocals

TARGET = tvm.target.Target(native_target().as_dict())


def quotient_by(divisor, columns=48, dtype="float32"):
    """Rows, each divided by what `divisor` makes of one number and its place."""
    a = te.placeholder((6, columns), name="A", dtype=dtype)
    b = te.placeholder((6,), name="B", dtype=dtype)
    return te.create_prim_func(
        [a, b, te.compute((6, columns), lambda i, j: 1 + a[i, j] / divisor(b[i], j), name="C")]
    )


def quotients_in(function):
    return [node for node in objects(function.body) if isinstance(node, tirx.Div)]


@pytest.mark.parametrize("divisor", [lambda b, j: b, lambda b, j: tirx.sqrt(b + 1)])
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_a_row_is_multiplied_by_the_reciprocal_of_its_divisor(divisor, dtype):
    function = quotient_by(lambda b, j: divisor(b, j).astype(dtype), dtype=dtype)
    [quotient] = quotients_in(share_reciprocals(function))
    assert float(quotient.a) == 1.0

    rng = np.random.default_rng(5)
    inputs = [rng.uniform(0.5, 2, shape).astype(dtype) for shape in ((6, 48), (6,), (6, 48))]
    outputs: list[np.ndarray] = []
    for build in (traces.build, tvm.tirx.build):
        buffers = [tvm.runtime.tensor(value) for value in inputs]
        build(tvm.IRModule({"main": function}), TARGET)["main"](*buffers)
        outputs.append(buffers[-1].numpy())
    np.testing.assert_array_max_ulp(outputs[0], outputs[1], maxulp=2)


@pytest.mark.parametrize(
    "function",
    [
        quotient_by(lambda b, j: b + j.astype("float32")),
        quotient_by(lambda b, j: b, columns=12),
        quotient_by(lambda b, j: b, dtype="float16"),
    ],
    ids=["another-for-each-element", "a-short-row", "a-half-precision"],
)
def test_other_quotients_stay(function):
    assert share_reciprocals(function).same_as(function)


def test_an_index_is_divided_as_before():
    a = te.placeholder((48, 6), name="A")
    moved = te.compute((96,), lambda i: a[i // 2, i % 2] + 1, name="B")
    function = te.create_prim_func([a, moved])
    assert share_reciprocals(function).same_as(function)


def test_the_compiler_default_divides():
    function = quotient_by(lambda b, j: b)
    with vector_math.compiler_default():
        assert rewritten(function).same_as(function)
    assert not share_reciprocals(function).same_as(function)
