"""Convolutions that are marked for Winograd's filtering compute what they should."""

import json

import numpy as np
import pytest
import tvm
from tvm import s_tir, te, tirx, topi
from tvm.s_tir import Schedule

from cost_model.features import extract
from schedules import trace as traces
from schedules import verify
from schedules.canonical import objects
from schedules.errors import InvalidTraceError
from schedules.ir import module_of, workload_from_call, workload_from_ir
from schedules.operators import find_operator
from schedules.space.register_tile import RegisterTile
from schedules.space.vector_unit import AVX512
from schedules.space.winograd import WinogradSketch, mark, winograd_sketches
from schedules.winograd import expanded
from schedules.winograd.plan import annotation
from tests.programs import ir_json
from tests.unit.schedules.test_packed import AVX2, NATIVE, NEON, check
from tuner.search.points import Space

TARGET = tvm.target.Target(NATIVE.as_dict())
# Outputs that are multiples of a tile and that are not, along one axis and two, beside axes of
# every other kind.
CASES = {
    "conv2d_nhwc": "n=1 h=8 w=9 ci=32 co=64 kernel_size=3 padding=1",
    "conv2d_nhwc unpadded": "n=2 h=9 w=11 ci=16 co=32 kernel_size=3",
    "conv2d_nhwc of five taps": "n=1 h=8 w=7 ci=16 co=32 kernel_size=5 padding=2",
    "conv2d_nhwc of two taps": "n=1 h=8 w=7 ci=16 co=32 kernel_size=2",
    "conv2d_nhwc dilated": "n=1 h=13 w=12 ci=16 co=32 kernel_size=3 dilation=2 padding=2",
    "conv2d_nhwc dilated by its stride": (
        "n=1 h=10 w=12 ci=16 co=32 kernel_size=3 stride=2 dilation=2 padding=2"
    ),
    "conv2d_nhwc in groups": "n=1 h=8 w=8 ci=32 co=64 kernel_size=3 padding=1 groups=2",
    "conv1d_nlc": "n=2 l=33 ci=32 co=32 kernel_size=3 padding=1",
    "conv3d_ndhwc": "n=1 d=4 h=5 w=6 ci=16 co=32 kernel_size=3 padding=1",
    "conv2d_capsule_nhwijc": "n=1 h=4 w=5 ci=16 co=32 kernel_size=3 padding=1",
    "conv2d_nhwc_bn_relu": "n=1 h=7 w=8 ci=16 co=64 kernel_size=3 padding=1",
}


def workload_of(case):
    args = dict(item.split("=") for item in CASES[case].split())
    sizes = {name: int(value) for name, value in args.items()}
    return workload_from_call(find_operator(case.split()[0]).call(sizes))


def contraction_of(schedule):
    blocks = schedule.get_child_blocks(schedule.get_sblock("root"))
    [found] = [block for block in blocks if schedule.get(block).init is not None]
    return found


def marked(module, *, inputs=4, rows=3, vectors=1, block=2, tasks=0):
    schedule = Schedule(module)
    tile = RegisterTile(rows=rows, vectors=vectors, lanes=16)
    sketch = WinogradSketch(inputs=inputs, tile=tile, blocks=(block,), tasks=(tasks,))
    mark(schedule, contraction_of(schedule), sketch)
    return schedule


def annotated(schedule, name):
    """The number of a plan that a schedule's one marked block holds."""
    [found] = [
        int(node.annotations[annotation(name)])
        for node in objects(schedule.mod["main"].body)
        if isinstance(node, s_tir.SBlock) and annotation(name) in node.annotations
    ]
    return found


def outputs_of(module, inputs):
    buffers = [tvm.runtime.tensor(value) for value in inputs]
    module["main"](*buffers)
    return buffers[-1].numpy()


def check_program(function, **plan):
    """Compare a marked program with the same one as TVM compiles it."""
    workload = workload_from_ir(ir_json(function))
    inputs = verify.random_inputs(workload.tensors, seed=5)
    module = module_of(workload)
    expected = outputs_of(tvm.tirx.build(module, target=TARGET), inputs)
    schedule = marked(module, **plan)
    check_output = outputs_of(traces.build(schedule.mod, TARGET), inputs)
    np.testing.assert_allclose(check_output, expected, rtol=0, atol=2e-5 * abs(expected).max())
    return expanded(schedule.mod["main"])


@pytest.mark.parametrize(
    ("case", "inputs"),
    [(case, inputs) for case in CASES for inputs in (4, 6) if inputs == 6 or "five" not in case],
)
@pytest.mark.parametrize("rows", [1, 5])
def test_each_task_takes_points(case, inputs, rows):
    workload = workload_of(case)
    check(workload, [marked(module_of(workload), inputs=inputs, rows=rows)])


@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("block", [1, 4])
def test_each_task_takes_a_panel(case, block):
    workload = workload_of(case)
    columns = workload.tensors[-1].shape[-1] * (4 if "capsule" in case else 1)
    groups = 2 if "groups" in case else 1
    panels = columns // groups // 16
    check(workload, [marked(module_of(workload), inputs=6, block=block, tasks=panels)])


@pytest.mark.parametrize("case", [case for case in CASES if "groups" not in case])
def test_each_task_takes_a_share_of_the_panels(case):
    workload = workload_of(case)
    columns = workload.tensors[-1].shape[-1] * (4 if "capsule" in case else 1)
    check(workload, [marked(module_of(workload), inputs=6, rows=4, tasks=columns // 32)])


def test_panels_of_several_vectors():
    workload = workload_of("conv2d_nhwc")
    for tasks in (0, 1, 2):
        check(workload, [marked(module_of(workload), rows=2, vectors=2, tasks=tasks)])


# --- what stands beside a convolution ------------------------------------------------------------


def convolution(before, after, *, index="int32", size=10):
    """Something elementwise, a convolution, and what comes after it."""

    def extent(value):
        return tirx.const(value, index)

    data = te.placeholder([extent(one) for one in (1, size, size, 16)], name="data")
    weights = te.placeholder([extent(one) for one in (3, 3, 16, 32)], name="weights")
    read = before(data)
    taps = [te.reduce_axis((extent(0), extent(3)), name=name) for name in ("i", "j")]
    channel = te.reduce_axis((extent(0), extent(16)), name="k")
    shape = [extent(one) for one in (1, size - 2, size - 2, 32)]
    sums = te.compute(
        shape,
        lambda n, h, w, c: te.sum(
            read[n, h + taps[0], w + taps[1], channel] * weights[taps[0], taps[1], channel, c],
            axis=[*taps, channel],
        ),
        name="sums",
    )
    return te.create_prim_func([data, weights, after(sums)])


def same(tensor):
    return tensor


def relu(tensor):
    zero = tirx.const(0.0, "float32")
    return te.compute(tensor.shape, lambda *at: te.max(tensor[at], zero), name="relu")


def gelu_like(tensor):
    return te.compute(tensor.shape, lambda *at: tensor[at] * te.tanh(tensor[at]), name="gelu")


def channels_first(tensor):
    n, h, w, c = tensor.shape
    return te.compute((n, c, h, w), lambda n, c, h, w: tensor[n, h, w, c] + 1.0, name="turned")


def neighbours(tensor):
    n, h, w, c = tensor.shape
    shape = (n, h - 1, w, c)
    return te.compute(shape, lambda n, h, w, c: tensor[n, h, w, c] + tensor[n, h + 1, w, c])


def means(tensor):
    n, h, w, c = tensor.shape
    at = te.reduce_axis((0, w), name="at")
    return te.compute((n, h, c), lambda n, h, c: te.sum(tensor[n, h, at, c], axis=at), name="mean")


@pytest.mark.parametrize("index", ["int32", "int64"])
@pytest.mark.parametrize("tasks", [0, 2])
def test_a_program_may_count_in_either_dtype(index, tasks):
    check_program(convolution(same, relu, index=index), tasks=tasks)


@pytest.mark.parametrize("after", [relu, gelu_like, channels_first])
def test_what_makes_one_element_of_each_is_computed_with_it(after):
    function = check_program(convolution(same, after))
    made = [buffer.name for buffer in function.body.block.alloc_buffers]
    assert made == ["filters"]


@pytest.mark.parametrize("after", [neighbours, means])
def test_other_consumers_read_what_was_stored(after):
    function = convolution(same, after)
    schedule = Schedule(tvm.IRModule({"main": function}))
    sketch = WinogradSketch(
        inputs=4, tile=RegisterTile(rows=3, vectors=1, lanes=16), blocks=(1,), tasks=(2,)
    )
    mark(schedule, schedule.get_sblock("sums"), sketch)
    inputs = verify.random_inputs(workload_from_ir(ir_json(function)).tensors, seed=5)
    expected = outputs_of(tvm.tirx.build(function, target=TARGET), inputs)
    found = outputs_of(traces.build(schedule.mod, TARGET), inputs)
    np.testing.assert_allclose(found, expected, rtol=0, atol=2e-5 * abs(expected).max())


def test_what_comes_before_stays_a_stage():
    function = check_program(convolution(relu, same), tasks=2)
    made = [buffer.name for buffer in function.body.block.alloc_buffers]
    assert made == ["relu", "data"]


def picture(after, *, batch=1, size=(9, 10), channels=(32, 32), padding=1):
    """A convolution whose channels come first."""
    height, width = size
    inputs, outputs = channels
    data = te.placeholder((batch, inputs, height, width), name="data")
    weights = te.placeholder((outputs, inputs, 3, 3), name="weights")
    read = topi.nn.pad(data, [0, 0, padding, padding], name="padded") if padding else data
    taps = [te.reduce_axis((0, 3), name=name) for name in ("i", "j")]
    channel = te.reduce_axis((0, inputs), name="k")
    edge = 2 - 2 * padding
    sums = te.compute(
        (batch, outputs, height - edge, width - edge),
        lambda n, c, h, w: te.sum(
            read[n, channel, h + taps[0], w + taps[1]] * weights[c, channel, taps[0], taps[1]],
            axis=[channel, *taps],
        ),
        name="sums",
    )
    return te.create_prim_func([data, weights, after(sums)])


@pytest.mark.parametrize("tasks", [0, 1, 2])
@pytest.mark.parametrize(
    "changes",
    [{}, {"batch": 2, "padding": 0}, {"size": (5, 33)}, {"channels": (48, 64)}],
    ids=["padded", "unpadded", "long lines", "many channels"],
)
@pytest.mark.parametrize("after", [same, relu])
def test_channels_that_come_first_are_copied(tasks, changes, after):
    # As many panels as tasks, twice as many, or points.
    outputs = changes.get("channels", (32, 32))[1]
    function = check_program(picture(after, **changes), tasks=tasks * outputs // 32)
    assert len(function.body.block.alloc_buffers) == (1 if tasks == 1 else 2)


# --- which blocks, and which plans ---------------------------------------------------------------


def sketches_of(op, args, dtype="float32"):
    workload = workload_from_call(find_operator(op).call(args, dtype))
    schedule = Schedule(module_of(workload))
    return winograd_sketches(schedule, contraction_of(schedule), AVX512, cores=2)


@pytest.mark.parametrize(
    ("changes", "dtype"),
    [
        ({"kernel_size": 1}, "float32"),
        ({"stride": 2}, "float32"),
        ({"kernel_size": 7}, "float32"),
        ({"ci": 3}, "float32"),
        ({"co": 17}, "float32"),
        ({}, "int8"),
        ({}, "bfloat16"),
    ],
    ids=["points", "strides", "seven taps", "few inputs", "odd outputs", "bytes", "bfloat16"],
)
def test_other_convolutions_have_no_sketch(changes, dtype):
    args = {"n": 1, "h": 32, "w": 32, "ci": 64, "co": 64, "kernel_size": 3, **changes}
    assert sketches_of("conv2d_nhwc", args, dtype) == []


@pytest.mark.parametrize(
    ("op", "args"),
    [
        ("matmul", {"n": 64, "m": 64, "k": 64}),
        ("depthwise_conv2d_nhwc", {"n": 1, "h": 32, "w": 32, "c": 64, "kernel_size": 3}),
    ],
)
def test_other_sums_have_no_sketch(op, args):
    assert sketches_of(op, args) == []


def test_sketches_are_for_convolutions_with_many_points():
    few = {"n": 1, "h": 7, "w": 7, "ci": 512, "co": 512, "kernel_size": 3, "padding": 1}
    many = {"n": 1, "h": 28, "w": 28, "ci": 128, "co": 128, "kernel_size": 3, "padding": 1}
    assert sketches_of("conv2d_nhwc", few) == []
    found = sketches_of("conv2d_nhwc", many)
    assert {sketch.inputs for sketch in found} == {4, 6}


def test_a_program_that_is_not_marked_stays_the_same_object():
    function = module_of(workload_of("conv2d_nhwc"))["main"]
    assert expanded(function).same_as(function)


def test_tvm_alone_builds_the_same_trace_to_the_same_outputs():
    workload = workload_of("conv2d_nhwc_bn_relu")
    schedule = marked(module_of(workload))
    inputs = verify.random_inputs(workload.tensors, seed=5)
    plain = outputs_of(tvm.tirx.build(schedule.mod, target=TARGET), inputs)
    filtered = outputs_of(traces.build(schedule.mod, TARGET), inputs)
    np.testing.assert_allclose(plain, filtered, rtol=0, atol=2e-5 * abs(plain).max())


@pytest.mark.parametrize(
    ("name", "value"), [("vectors", 3), ("inputs", 9), ("inputs", 3), ("rows", 0), ("tasks", 3)]
)
def test_a_trace_whose_plan_does_not_fit_is_refused(name, value):
    workload = workload_of("conv2d_nhwc")
    trace = traces.canonical_trace(marked(module_of(workload)).trace)
    written = json.loads(trace)
    for kind, inputs, attributes, _ in written[0]:
        if kind == "Annotate" and attributes == [annotation(name)]:
            inputs[1] = value
    with pytest.raises(InvalidTraceError, match="Winograd"):
        traces.replay(json.dumps(written), module_of(workload))


def test_a_trace_replays_from_its_canonical_form():
    workload = workload_of("conv2d_nhwc")
    schedule = marked(module_of(workload))
    text = traces.canonical_trace(schedule.trace)
    assert traces.canonical_trace(traces.replay(text, module_of(workload)).trace) == text


@pytest.mark.parametrize("target", [AVX2, NEON], ids=["avx2", "neon"])
def test_other_cpus_have_such_designs(target):
    args = {"n": 1, "h": 28, "w": 28, "ci": 64, "co": 64, "kernel_size": 3, "padding": 1}
    workload = workload_from_call(find_operator("conv2d_nhwc").call(args))
    space = Space(workload=workload, target=target, space="default", seed=1)
    found = [
        applied.schedule
        for design in range(len(space))
        if (applied := space.apply(space.open_point(design), seed=1)) is not None
        and not expanded(applied.schedule.mod["main"]).same_as(applied.schedule.mod["main"])
    ]
    assert found
    instruction = {"haswell": "vfmadd", "neoverse-n1": "fmla"}[str(target.attributes["mcpu"])]
    library = traces.build(found[0].mod, tvm.target.Target(target.as_dict()))
    assert instruction in library.inspect_source("asm")


def test_features_are_those_of_the_loops_that_are_compiled():
    workload = workload_of("conv2d_nhwc")
    schedules = [marked(module_of(workload), inputs=inputs) for inputs in (4, 6)]
    rows = extract(schedules, workload=workload, target=NATIVE)
    assert np.all(np.isfinite(rows))
    assert not np.array_equal(*rows)


def test_a_trace_is_adapted_to_another_shape():
    args = {"n": 1, "h": 28, "w": 28, "ci": 64, "co": 64, "kernel_size": 3, "padding": 1}
    operator = find_operator("conv2d_nhwc")
    there = Space(
        workload=workload_from_call(operator.call(args)), target=NATIVE, space="default", seed=1
    )
    here = Space(
        workload=workload_from_call(operator.call({**args, "h": 27, "ci": 48})),
        target=NATIVE,
        space="default",
        seed=1,
    )
    last = there.apply(there.open_point(len(there) - 1), seed=3)
    assert last is not None
    adapted = here.adapt(traces.canonical_trace(last.schedule.trace), seed=3)
    assert adapted is not None
    plans = [
        [annotated(applied.schedule, name) for name in ("inputs", "rows", "vectors", "tasks")]
        for applied in (last, adapted)
    ]
    assert plans[0] == plans[1]
