"""Contractions in programs that are no catalogue operators: other layouts, and fused neighbours."""

import numpy as np
import pytest
import tvm
from tvm import te, topi

from schedules import trace as traces
from tests.unit.schedules.test_packed import NATIVE, context_of, is_packed, random_samples


def matrix(name, *shape):
    return te.placeholder(shape, name=name)


def product(left, right, name="product"):
    k = te.reduce_axis((0, left.shape[1]), name="k")
    shape = (left.shape[0], right.shape[1])
    return te.compute(shape, lambda i, j: te.sum(left[i, k] * right[k, j], axis=k), name=name)


def transposed_operands():
    a, b = matrix("A", 32, 40), matrix("B", 48, 32)
    k = te.reduce_axis((0, 32), name="k")
    return [a, b, te.compute((40, 48), lambda i, j: te.sum(a[k, i] * b[j, k], axis=k))]


def transposed_output():
    a, b = matrix("A", 40, 32), matrix("B", 32, 48)
    k = te.reduce_axis((0, 32), name="k")
    return [a, b, te.compute((48, 40), lambda j, i: te.sum(a[i, k] * b[k, j], axis=k))]


def channels_first():
    x, w = matrix("x", 2, 8, 9, 10), matrix("w", 16, 8, 3, 3)
    return [x, w, topi.nn.relu(topi.nn.conv2d_nchw(x, w, 1, 1, 1))]


def residual_and_activation():
    a, b, r = matrix("A", 32, 40), matrix("B", 40, 48), matrix("R", 32, 48)
    c = product(a, b)
    return [a, b, r, te.compute((32, 48), lambda i, j: te.tanh(c[i, j] + r[i, j]))]


def elementwise_before():
    a, b = matrix("A", 32, 40), matrix("B", 40, 48)
    return [a, b, product(te.compute((32, 40), lambda i, j: te.exp(a[i, j])), b)]


def softmax_after():
    a, b = matrix("A", 32, 40), matrix("B", 40, 48)
    return [a, b, topi.nn.softmax(product(a, b))]


def two_products():
    a, b, d = matrix("A", 32, 40), matrix("B", 40, 48), matrix("D", 48, 24)
    return [a, b, d, product(product(a, b), d, "second")]


def gated():
    x, w, v = matrix("x", 24, 40), matrix("W", 40, 48), matrix("V", 40, 48)
    gate, value = product(x, w, "gate"), product(x, v, "value")
    return [x, w, v, te.compute((24, 48), lambda i, j: gate[i, j] * te.tanh(value[i, j]), "gated")]


PROGRAMS = (
    transposed_operands,
    transposed_output,
    channels_first,
    residual_and_activation,
    elementwise_before,
    softmax_after,
    two_products,
    gated,
)


@pytest.mark.parametrize("program", PROGRAMS, ids=lambda program: program.__name__)
def test_samples_compute_what_the_unscheduled_program_does(program):
    function = te.create_prim_func(program()).with_attr("global_symbol", "main")
    module = tvm.IRModule({"main": function})
    target = tvm.target.Target(NATIVE.as_dict())
    generator = np.random.default_rng(5)
    values = [
        generator.standard_normal([int(extent) for extent in parameter.ty.shape]).astype("float32")
        for parameter in function.params
    ]

    def run(scheduled):
        buffers = [tvm.runtime.tensor(value) for value in values]
        traces.build(scheduled, target)["main"](*buffers)
        return buffers[-1].numpy()

    expected = run(module)
    found = random_samples(module, NATIVE, 2)
    assert found
    for schedule in found:
        np.testing.assert_allclose(run(schedule.mod), expected, rtol=2e-4, atol=2e-4)


@pytest.mark.parametrize("program", [two_products, gated], ids=lambda program: program.__name__)
def test_two_products_do_not_multiply_the_designs_without_bound(program):
    module = tvm.IRModule({"main": te.create_prim_func(program())})
    designs = context_of(module, NATIVE).generate_design_space()
    assert 1 < len(designs) <= 16
    assert all(is_packed(design) for design in designs)
