"""Contractions in programs that are no catalogue operators: other layouts, and fused neighbours."""

import numpy as np
import pytest
import tvm
from tvm import s_tir, te, tirx, topi

from schedules import trace as traces
from schedules.space.stage import SCHEDULED, TILED
from schedules.space.stretches import stretch_ending_at
from schedules.space.structure import blocks_of, describe
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


def first_layer():
    x, w = matrix("x", 2, 3, 15, 18), matrix("w", 24, 3, 7, 7)
    return [x, w, topi.nn.relu(topi.nn.conv2d_nchw(x, w, 2, 3, 1))]


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


def attention():
    q, k, v = (matrix(name, 2, 24, 32) for name in "qkv")
    r, s = te.reduce_axis((0, 32), name="r"), te.reduce_axis((0, 24), name="s")
    scores = te.compute(
        (2, 24, 24), lambda b, i, j: te.sum(q[b, i, r] * k[b, j, r], axis=r), name="scores"
    )
    scaled = te.compute(scores.shape, lambda *at: scores(*at) * 0.25, name="scaled")
    weights = topi.nn.softmax(scaled)
    return [
        *(q, k, v),
        te.compute(
            (2, 24, 32), lambda b, i, j: te.sum(weights[b, i, s] * v[b, s, j], axis=s), name="out"
        ),
    ]


def norm_before_and_after():
    x, w, r = matrix("x", 24, 32), matrix("W", 32, 48), matrix("R", 24, 48)
    z = product(_normalized(x, "before"), w)
    return [x, w, r, _normalized(te.compute(z.shape, lambda i, j: z[i, j] + r[i, j]), "after")]


def _normalized(x, name):
    k = te.reduce_axis((0, x.shape[1]), name="k")
    squares = te.compute((x.shape[0],), lambda i: te.sum(x[i, k] * x[i, k], axis=k), name=name)
    return te.compute(x.shape, lambda i, j: x[i, j] * te.rsqrt(squares[i] + 0.1), name=name + "_x")


def depthwise_between():
    a, b, w = matrix("A", 30, 16), matrix("B", 16, 48), matrix("W", 3, 48)
    image = product(a, b, "first")
    t = te.reduce_axis((0, 3), name="t")
    filtered = te.compute((28, 48), lambda i, j: te.sum(image[i + t, j] * w[t, j], axis=t))
    return [a, b, w, product(filtered, transpose(b), "second")]


def transpose(b):
    return te.compute((b.shape[1], b.shape[0]), lambda i, j: b[j, i], name="transpose")


def scaled_operand():
    a, b, g = matrix("A", 32, 40), matrix("B", 40, 48), matrix("G", 40)
    return [a, b, g, product(te.compute((32, 40), lambda i, j: a[i, j] * g[j]), b)]


PROGRAMS = (
    transposed_operands,
    transposed_output,
    channels_first,
    first_layer,
    residual_and_activation,
    elementwise_before,
    softmax_after,
    two_products,
    gated,
    attention,
    norm_before_and_after,
    depthwise_between,
    scaled_operand,
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


@pytest.mark.parametrize(
    ("program", "last"),
    [
        (attention, {"T_softmax_norm"}),
        (norm_before_and_after, {"before_x", "after_x"}),
        (softmax_after, {"T_softmax_norm"}),
    ],
    ids=lambda value: getattr(value, "__name__", ""),
)
def test_what_lies_between_contractions_is_worked_through_row_by_row(program, last):
    module = tvm.IRModule({"main": te.create_prim_func(program())})
    for design in context_of(module, NATIVE).generate_design_space():
        assert is_packed(design)
        for name in last:
            outermost = design.get(design.get_loops(design.get_sblock(name))[0])
            # Every stage of the stretch is in one parallel loop, with its last.
            inside = design.get_child_blocks(design.get_loops(design.get_sblock(name))[0])
            assert outermost.kind == tirx.ForKind.PARALLEL
            assert len(inside) > 2


@pytest.mark.parametrize("program", [attention, two_products, gated, depthwise_between])
def test_every_contraction_is_tiled(program):
    module = tvm.IRModule({"main": te.create_prim_func(program())})
    for design in context_of(module, NATIVE).generate_design_space():
        blocks = design.get_child_blocks(design.get_sblock("root"))
        marks = [design.get(block).annotations.get(SCHEDULED) for block in blocks]
        assert marks.count(TILED) == 2


def test_what_computes_an_operand_is_not_done_for_each_product():
    module = tvm.IRModule({"main": te.create_prim_func(scaled_operand())})
    for design in context_of(module, NATIVE).generate_design_space():
        for block in design.get_child_blocks(design.get_sblock("root")):
            if design.get(block).annotations.get(SCHEDULED) == TILED:
                assert len(describe(design.get(block)).reads) == 2


def test_a_stretch_never_waits_for_a_contraction_that_waits_for_it():
    """A residual around a product: its sum joins what comes before with what comes after."""
    x, w = matrix("x", 24, 32), matrix("W", 32, 32)
    before = _normalized(x, "before")
    z = product(before, w)
    joined = te.compute(z.shape, lambda i, j: te.exp(z[i, j] + before[i, j]), name="joined")
    module = tvm.IRModule({"main": te.create_prim_func([x, w, _normalized(joined, "after")])})
    blocks = blocks_of(s_tir.Schedule(module))
    names = [
        [item.name for item in stretch_ending_at(blocks, name)]
        for name in ("before_x", "product", "joined", "after_x")
    ]
    assert names == [["before", "before_x"], [], [], ["joined", "after", "after_x"]]


@pytest.mark.parametrize("program", [channels_first, first_layer])
def test_a_picture_whose_channels_come_first_is_read_in_place_by_some(program):
    module = tvm.IRModule({"main": te.create_prim_func(program())})
    designs = context_of(module, NATIVE).generate_design_space()
    copied = [
        {str(design.get(b).name_hint) for b in design.get_child_blocks(design.get_sblock("root"))}
        for design in designs
        if is_packed(design)
    ]
    of_picture = [any(name.startswith("pad_temp_re") for name in names) for names in copied]
    assert any(of_picture)
    assert not all(of_picture)


def test_no_vector_of_points_goes_from_one_line_of_a_picture_to_the_next():
    x, w = matrix("x", 1, 8, 12, 12), matrix("w", 64, 8, 3, 3)
    program = [x, w, topi.nn.conv2d_nchw(x, w, 1, 1, 1)]
    module = tvm.IRModule({"main": te.create_prim_func(program)})
    lanes = []
    for design in context_of(module, NATIVE).generate_design_space():
        for block in design.get_child_blocks(design.get_sblock("root")):
            lane = design.get(design.get_loops(block)[-1])
            copies = str(design.get(block).name_hint).startswith("pad_temp_re")
            if is_packed(design) and copies and lane.kind == tirx.ForKind.VECTORIZED:
                lanes.append(int(lane.extent))
    assert lanes
    assert all(12 % count == 0 for count in lanes)
