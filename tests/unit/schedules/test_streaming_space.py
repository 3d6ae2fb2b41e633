"""The space of programs that memory bounds: right, vectorised, mutable, and replayed as it was."""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import pytest
import tvm
from scipy import special
from tvm import te
from tvm.s_tir import Schedule, meta_schedule
from tvm.s_tir.schedule import Trace

from schedules import trace as traces
from schedules import verify
from schedules.ir import module_of, workload_from_call
from schedules.operators import find_operator
from schedules.space.cpu import cpu
from schedules.space.rules import MutateChoice
from schedules.space.structure import blocks_of
from schedules.target import Target

SAMPLES = 3
HOST = Target.parse(
    {
        "kind": "llvm",
        "mcpu": tvm.get_global_func("tvm.codegen.llvm.GetHostCPUName")(),
        "num-cores": 2,
    }
)
FOREIGN = [
    Target.parse({"kind": "llvm", "mcpu": "haswell", "num-cores": 4}),
    Target.parse(
        {"kind": "llvm", "mtriple": "aarch64-linux-gnu", "mcpu": "neoverse-n1", "num-cores": 4}
    ),
]

Program = tuple[Sequence[Any], Sequence[np.ndarray], np.ndarray]


def context_of(module: Any, target: Target) -> Any:
    return meta_schedule.TuneContext(
        module,
        target=tvm.target.Target(target.as_dict()),
        space_generator=cpu(target),
        search_strategy="replay-trace",
        rand_state=1,
        num_threads=1,
    )


def sampled(module: Any, target: Target, count: int = SAMPLES) -> list[Any]:
    """Draw schedules of the space, with post-processing."""
    context = context_of(module, target)
    found = []
    for design in context.generate_design_space():
        for seed in range(count):
            schedule = Schedule(module, seed=1 + seed)
            Trace(list(design.trace.insts), {}).apply_to_schedule(schedule, remove_postproc=True)
            assert all(step.apply(schedule) for step in context.space_generator.postprocs)
            found.append(schedule)
    return found


def run(schedule: Any, arguments: Sequence[np.ndarray]) -> list[np.ndarray]:
    library = traces.build(schedule.mod, tvm.target.Target(HOST.as_dict()))
    buffers = [tvm.runtime.tensor(value) for value in arguments]
    library["main"](*buffers)
    return [buffer.numpy() for buffer in buffers]


CATALOGUE: list[tuple[str, dict[str, int], str]] = [
    ("softmax", {"m": 48, "n": 512}, "float32"),
    ("softmax", {"m": 5, "n": 997}, "float32"),
    ("softmax", {"m": 1000, "n": 17}, "float32"),
    ("softmax", {"m": 131, "n": 77}, "float32"),
    ("softmax", {"m": 64, "n": 192}, "bfloat16"),
    ("layer_norm", {"m": 33, "n": 77}, "float32"),
    ("rms_norm", {"m": 128, "n": 256}, "float16"),
    ("norm", {"b": 1, "m": 256, "n": 512}, "float32"),
    ("norm", {"b": 3, "m": 31, "n": 64}, "float32"),
    ("reduce_sum", {"m": 1, "n": 100000}, "float32"),
    ("reduce_sum", {"m": 40, "n": 640}, "int8"),
    ("reduce_max", {"m": 7, "n": 13}, "float32"),
    ("gelu", {"m": 37, "n": 131}, "float32"),
    ("add", {"m": 128, "n": 512}, "float32"),
    ("gemv", {"m": 96, "k": 1024}, "float32"),
    ("dense", {"n": 1, "m": 96, "k": 512}, "float32"),
    ("matmul", {"n": 1, "m": 48, "k": 32}, "float32"),
    ("depthwise_conv2d_nhwc", {"n": 1, "h": 14, "w": 14, "c": 48, "kernel_size": 3}, "float32"),
    ("depthwise_conv2d_nhwc", {"n": 1, "h": 9, "w": 7, "c": 31, "kernel_size": 3}, "float32"),
]


@pytest.mark.parametrize(("op", "args", "dtype"), CATALOGUE, ids=str)
def test_every_sample_of_a_catalogue_operator_is_right(
    op: str, args: dict[str, int], dtype: str
) -> None:
    workload = workload_from_call(find_operator(op).call(args, dtype))
    inputs = verify.random_inputs(workload.tensors, seed=3)
    expected = verify.reference_outputs(workload, inputs)
    for schedule in sampled(module_of(workload), HOST):
        outputs = [
            value
            for value, tensor in zip(run(schedule, inputs), workload.tensors, strict=True)
            if tensor.is_output
        ]
        assert verify.compare(workload, outputs, expected, "numpy").passed


def columns() -> Program:
    """Sums of columns, scaled: the contiguous axis is not reduced."""
    x = te.placeholder((300, 200), name="x")
    k = te.reduce_axis((0, 300), name="k")
    total = te.compute((200,), lambda j: te.sum(x[k, j], axis=k), name="total")
    y = te.compute((200,), lambda j: total[j] * 0.5, name="y")
    given = np.random.default_rng(0).standard_normal((300, 200), dtype=np.float32)
    return (x, y), (given,), given.sum(0) * 0.5


def scores() -> Program:
    """Scaled and masked softmax over the last of three axes."""
    shape = (4, 20, 96)
    x, mask = te.placeholder(shape, name="x"), te.placeholder(shape[1:], name="mask")
    z = te.compute(shape, lambda b, i, j: x[b, i, j] * 0.125 + mask[i, j], name="z")
    k = te.reduce_axis((0, 96), name="k")
    top = te.compute(shape[:2], lambda b, i: te.max(z[b, i, k], axis=k), name="top")
    e = te.compute(shape, lambda b, i, j: te.exp(z[b, i, j] - top[b, i]), name="e")
    k = te.reduce_axis((0, 96), name="k")
    total = te.compute(shape[:2], lambda b, i: te.sum(e[b, i, k], axis=k), name="total")
    y = te.compute(shape, lambda b, i, j: e[b, i, j] / total[b, i], name="y")
    random = np.random.default_rng(1)
    given = [random.standard_normal(s, dtype=np.float32) for s in (shape, shape[1:])]
    return (x, mask, y), given, special.softmax(given[0] * 0.125 + given[1], axis=-1)


def middle() -> Program:
    """Softmax over an axis that is neither the last nor contiguous."""
    shape = (3, 10, 64)
    x = te.placeholder(shape, name="x")
    k = te.reduce_axis((0, 10), name="k")
    top = te.compute((3, 64), lambda b, j: te.max(x[b, k, j], axis=k), name="top")
    e = te.compute(shape, lambda b, i, j: te.exp(x[b, i, j] - top[b, j]), name="e")
    k = te.reduce_axis((0, 10), name="k")
    total = te.compute((3, 64), lambda b, j: te.sum(e[b, k, j], axis=k), name="total")
    y = te.compute(shape, lambda b, i, j: e[b, i, j] / total[b, j], name="y")
    given = np.random.default_rng(2).standard_normal(shape, dtype=np.float32)
    return (x, y), (given,), special.softmax(given, axis=1)


def residual() -> Program:
    """RMS norm of a sum, with the norm's result used by two outputs' worth of arithmetic."""
    x, r = (te.placeholder((64, 320), name=name) for name in ("x", "r"))
    weight = te.placeholder((320,), name="weight")
    z = te.compute(x.shape, lambda i, j: x[i, j] + r[i, j], name="z")
    k = te.reduce_axis((0, 320), name="k")
    squares = te.compute((64,), lambda i: te.sum(z[i, k] * z[i, k], axis=k), name="squares")
    y = te.compute(
        x.shape,
        lambda i, j: te.tanh(z[i, j] * te.rsqrt(squares[i] / 320 + 1e-5) * weight[j]),
        name="y",
    )
    random = np.random.default_rng(3)
    given = [random.standard_normal(s, dtype=np.float32) for s in ((64, 320), (64, 320), (320,))]
    total = given[0] + given[1]
    scale = 1 / np.sqrt(np.square(total).mean(1, keepdims=True) + 1e-5)
    return (x, r, weight, y), given, np.tanh(total * scale * given[2])


def pooled() -> Program:
    """Largest of 3x3 windows in stride 2, channels last."""
    x = te.placeholder((1, 17, 17, 24), name="x")
    r, s = te.reduce_axis((0, 3), name="r"), te.reduce_axis((0, 3), name="s")
    y = te.compute(
        (1, 8, 8, 24),
        lambda n, h, w, c: te.max(x[n, 2 * h + r, 2 * w + s, c], axis=[r, s]),
        name="y",
    )
    given = np.random.default_rng(4).standard_normal((1, 17, 17, 24), dtype=np.float32)
    windows = np.lib.stride_tricks.sliding_window_view(given, (3, 3), axis=(1, 2))[:, ::2, ::2]
    return (x, y), (given,), windows.max((-1, -2))


def group_norm() -> Program:
    """Groups of channels, each normalised over two axes that lie together."""
    shape, terms = (4, 6, 80), 480
    x = te.placeholder(shape, name="x")

    def summed(name: str, term: Callable[..., Any]) -> Any:
        c, p = te.reduce_axis((0, 6), name="c"), te.reduce_axis((0, 80), name="p")
        return te.compute((4,), lambda g: te.sum(term(g, c, p), axis=[c, p]), name=name)

    total = summed("total", lambda g, c, p: x[g, c, p])
    mean = te.compute((4,), lambda g: total[g] / terms, name="mean")
    squares = summed("squares", lambda g, c, p: (x[g, c, p] - mean[g]) * (x[g, c, p] - mean[g]))
    y = te.compute(
        shape,
        lambda g, c, p: (x[g, c, p] - mean[g]) * te.rsqrt(squares[g] / terms + 1e-5),
        name="y",
    )
    given = np.random.default_rng(6).standard_normal(shape, dtype=np.float32)
    centred = given - given.mean((1, 2), keepdims=True)
    return (x, y), (given,), centred / np.sqrt(given.var((1, 2), keepdims=True) + 1e-5)


def transposed() -> Program:
    x = te.placeholder((70, 50), name="x")
    y = te.compute((50, 70), lambda i, j: te.exp(x[j, i]), name="y")
    given = np.random.default_rng(5).standard_normal((70, 50), dtype=np.float32)
    return (x, y), (given,), np.exp(given.T)


PROGRAMS = [columns, scores, middle, residual, pooled, group_norm, transposed]


@pytest.mark.parametrize("program", PROGRAMS, ids=lambda program: program.__name__)
def test_every_sample_of_a_fused_program_is_right(program: Callable[[], Program]) -> None:
    tensors, inputs, expected = program()
    module = tvm.IRModule({"main": te.create_prim_func(list(tensors))})
    for schedule in sampled(module, HOST):
        *_, found = run(schedule, [*inputs, np.zeros(expected.shape, dtype=np.float32)])
        np.testing.assert_allclose(found, expected, rtol=2e-5, atol=1e-5)


@pytest.mark.parametrize("target", FOREIGN, ids=str)
@pytest.mark.parametrize("op", ["softmax", "layer_norm", "reduce_sum", "depthwise_conv2d_nhwc"])
def test_other_cpus_get_vectors_of_their_own_width(op: str, target: Target) -> None:
    args = {"m": 256, "n": 256}
    if op.startswith("depthwise"):
        args = {"n": 1, "h": 28, "w": 28, "c": 64, "kernel_size": 3, "padding": 1}
    module = module_of(workload_from_call(find_operator(op).call(args, "float32")))
    packed = "ymm" if target.attributes["mcpu"] == "haswell" else ".4s"
    for schedule in sampled(module, target, count=1):
        text = traces.build(schedule.mod, tvm.target.Target(target.as_dict())).inspect_source("asm")
        assert packed in text
        assert "expf" not in text


def test_a_trace_replays_to_the_same_program() -> None:
    module = module_of(
        workload_from_call(find_operator("softmax").call({"m": 48, "n": 512}, "float32"))
    )
    for schedule in sampled(module, HOST):
        again = traces.replay(traces.canonical_trace(schedule.trace), module)
        tvm.ir.assert_structural_equal(again.mod, schedule.mod)


def test_every_choice_can_be_mutated() -> None:
    module = module_of(
        workload_from_call(find_operator("softmax").call({"m": 512, "n": 512}, "float32"))
    )
    context = context_of(module, HOST)
    [design] = context.generate_design_space()
    mutator = MutateChoice()
    mutator._initialize_with_tune_context(context)
    seen = {traces.canonical_trace(mutator.apply(design.trace)) for _ in range(40)}
    # One choice of chunks and one of lanes for each of the two reductions, three others of each.
    assert len(seen) > 6
    for text in seen:
        traces.replay(text, module)


def test_padding_of_windows_may_be_inlined() -> None:
    args = {"n": 1, "h": 14, "w": 14, "c": 32, "kernel_size": 3, "padding": 1}
    module = module_of(
        workload_from_call(find_operator("depthwise_conv2d_nhwc").call(args, "float32"))
    )
    designs = [blocks_of(schedule) for schedule in sampled(module, HOST, count=1)]
    inlined, apart = sorted(designs, key=len)
    assert "pad_input" in {block.name for block in apart}
    assert "pad_input" not in {block.name for block in inlined}


def test_sums_of_windows_stay_in_registers() -> None:
    args = {"n": 1, "h": 7, "w": 7, "c": 32, "kernel_size": 3, "padding": 1}
    module = module_of(
        workload_from_call(find_operator("depthwise_conv2d_nhwc").call(args, "float32"))
    )
    for schedule in sampled(module, HOST):
        if "pad_input" not in {block.name for block in blocks_of(schedule)}:
            library = traces.build(schedule.mod, tvm.target.Target(HOST.as_dict()))
            assert "TVMBackendAllocWorkspace" not in library.inspect_source("asm")


def test_tiny_work_starts_no_threads() -> None:
    module = module_of(
        workload_from_call(find_operator("softmax").call({"m": 8, "n": 64}, "float32"))
    )
    for schedule in sampled(module, HOST):
        library = traces.build(schedule.mod, tvm.target.Target(HOST.as_dict()))
        assert "TVMBackendParallelLaunch" not in library.inspect_source("ll").split("declare")[0]


def test_what_is_a_contraction_is_told_by_reuse() -> None:
    expected = {
        ("batch_matmul", "b=1 n=8 m=8 k=8"): True,
        ("gemv", "m=64 k=64"): False,
        ("conv2d_nhwc", "n=1 h=8 w=8 ci=16 co=16 kernel_size=1 groups=4"): True,
        ("depthwise_conv2d_nhwc", "n=1 h=8 w=8 c=16 kernel_size=3"): False,
    }
    for (op, text), is_contraction in expected.items():
        args = {name: int(value) for name, value in (item.split("=") for item in text.split())}
        module = module_of(workload_from_call(find_operator(op).call(args, "float32")))
        found = any(block.is_contraction for block in blocks_of(Schedule(module)))
        assert found is is_contraction, op
