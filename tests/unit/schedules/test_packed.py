"""The default space of CPUs on contractions: its samples compute what they should."""

import json
from math import ceil

import numpy as np
import pytest
import tvm
import tvm_ffi
from tvm.s_tir import meta_schedule

from schedules import trace as traces
from schedules import verify
from schedules.detect import native_target
from schedules.ir import module_of, workload_from_call
from schedules.operators import find_operator
from schedules.space.generators import space_generator
from schedules.target import Target

NATIVE = native_target()
AVX2 = Target.parse({"kind": "llvm", "mcpu": "haswell", "num-cores": 4})
NEON = Target.parse(
    {"kind": "llvm", "mtriple": "aarch64-linux-gnu", "mcpu": "neoverse-n1", "num-cores": 4}
)

# One row per kind of contraction, and per kind of extent: even, odd, prime, one.
CASES = {
    "matmul": "n=64 m=96 k=32",
    "matmul of primes": "n=37 m=53 k=29",
    "batch_matmul of primes": "b=2 n=13 m=17 k=7",
    "dense": "n=32 m=48 k=24",
    "dense of primes": "n=19 m=31 k=23",
    "transpose_batch_matmul": "batch=2 seq_len=16 n_head=3 n_dim=8",
    "conv1d_nlc": "n=1 l=33 ci=8 co=24 kernel_size=3 stride=2 padding=1",
    "conv2d_nhwc of primes": "n=1 h=7 w=5 ci=3 co=19 kernel_size=3 padding=1",
    "conv2d_nhwc of points": "n=1 h=8 w=8 ci=16 co=32 kernel_size=1",
    "conv2d_nhwc in groups": "n=1 h=8 w=8 ci=16 co=32 kernel_size=3 padding=1 groups=4",
    "conv2d_nhwc dilated": "n=1 h=9 w=9 ci=4 co=16 kernel_size=3 dilation=2 padding=2",
    "conv2d_nhwc dilated by its stride": (
        "n=1 h=10 w=12 ci=4 co=16 kernel_size=3 stride=2 dilation=2 padding=2"
    ),
    "conv3d_ndhwc": "n=1 d=3 h=4 w=4 ci=4 co=16 kernel_size=3 padding=1",
    "conv2d_nhwc_bn_relu": "n=1 h=8 w=8 ci=8 co=16 kernel_size=3 padding=1",
    "conv2d_transpose_nhwc": "n=1 h=4 w=4 ci=8 co=16 kernel_size=4 stride=2 padding=1",
    "conv2d_capsule_nhwijc": "n=1 h=4 w=4 ci=4 co=8 kernel_size=3 padding=1",
}


def workload_of(case, dtype="float32"):
    operator = find_operator(case.split()[0])
    args = dict(item.split("=") for item in CASES[case].split())
    sizes = {name: int(value) for name, value in args.items()}
    return workload_from_call(operator.call(sizes, dtype))


def context_of(module, target, space="default"):
    return meta_schedule.TuneContext(
        module,
        target=tvm.target.Target(target.as_dict()),
        space_generator=space_generator(space, target),
        search_strategy=meta_schedule.search_strategy.ReplayTrace(),
        rand_state=7,
        num_threads=1,
    )


def packed_designs(context):
    return [design for design in context.generate_design_space() if is_packed(design)]


def is_packed(schedule):
    return "SetScope" in str(schedule.trace.as_json())


def samples(workload, target, count):
    return random_samples(module_of(workload), target, count)


def random_samples(module, target, count):
    """Random members of the packed part of the space."""
    context = context_of(module, target)
    context.pre_tuning(
        max_trials=count,
        num_trials_per_iter=count,
        design_spaces=packed_designs(context),
        database=meta_schedule.database.MemoryDatabase(),
        cost_model=meta_schedule.cost_model.RandomModel(),
    )
    return [candidate.sch for candidate in context.generate_measure_candidates()]


@pytest.mark.parametrize("case", CASES)
def test_samples_compute_what_the_reference_does(case):
    check_samples(workload_of(case))


def test_a_window_dilated_by_its_stride_without_padding_is_left_to_tvm():
    args = {"n": 1, "h": 9, "w": 9, "ci": 4, "co": 16, "kernel_size": 3, "stride": 2, "dilation": 2}
    workload = workload_from_call(find_operator("conv2d_nhwc").call(args))
    context = context_of(module_of(workload), NATIVE)
    designs = context.generate_design_space()
    assert designs
    assert not any(map(is_packed, designs))


@pytest.mark.parametrize("dtype", ["int8", "bfloat16"])
@pytest.mark.parametrize("case", ["matmul of primes", "conv2d_nhwc of points"])
def test_samples_of_low_precision_compute_what_the_reference_does(case, dtype):
    check_samples(workload_of(case, dtype))


@pytest.mark.parametrize(
    ("dtype", "instruction"), [("int8", "vpdpbusd"), ("bfloat16", "vdpbf16ps")]
)
def test_low_precision_compiles_to_dot_products(dtype, instruction):
    target = Target.parse({"kind": "llvm", "mcpu": "znver4", "num-cores": 2})
    [schedule] = samples(workload_of("matmul", dtype), target, 1)
    library = traces.build(schedule.mod, tvm.target.Target(target.as_dict()))
    code = library.inspect_source("asm")
    assert instruction in code
    # Nothing of it is a call, and no operand was made a wider number.
    assert "tunesmith" not in code
    assert "vfmadd" not in code


def test_samples_are_exact_for_the_extremes_of_int8():
    workload = workload_of("matmul of primes", "int8")
    chance = np.random.default_rng(3)
    inputs = [
        chance.choice(np.array([-128, -127, -1, 0, 1, 127], tensor.dtype), tensor.shape)
        for tensor in workload.tensors
    ]
    check_samples(workload, inputs)


def check_samples(workload, inputs=None):
    check(workload, samples(workload, NATIVE, 2), inputs)


def check(workload, schedules, inputs=None):
    """Run schedules and compare what they compute with the reference."""
    target = tvm.target.Target(NATIVE.as_dict())
    inputs = inputs or verify.random_inputs(workload.tensors, seed=3)
    expected = verify.reference_outputs(workload, inputs)
    assert schedules
    for schedule in schedules:
        buffers = [tvm.runtime.tensor(value) for value in inputs]
        traces.build(schedule.mod, target)["main"](*buffers)
        output = verify.compare(workload, [buffers[-1].numpy()], expected, "numpy")
        assert output.passed, schedule.trace


@pytest.mark.parametrize("target", [AVX2, NEON], ids=["avx2", "neon"])
@pytest.mark.parametrize("case", ["matmul", "conv2d_nhwc in groups"])
def test_samples_compile_for_other_cpus(case, target):
    workload = workload_of(case)
    instruction = {"haswell": "vfmadd", "neoverse-n1": "fmla"}[str(target.attributes["mcpu"])]
    for schedule in samples(workload, target, 1):
        library = traces.build(schedule.mod, tvm.target.Target(target.as_dict()))
        assert instruction in library.inspect_source("asm")


@pytest.mark.parametrize("case", ["matmul of primes", "conv2d_nhwc in groups"])
def test_a_sample_replays_from_its_canonical_trace(case):
    workload = workload_of(case)
    for schedule in samples(workload, NATIVE, 2):
        canonical = traces.canonical_trace(schedule.trace)
        again = traces.replay(canonical, module_of(workload))
        assert tvm_ffi.structural_equal(again.mod, schedule.mod)
        assert traces.canonical_trace(again.trace) == canonical


def test_a_sample_goes_through_tvms_json_database(tmp_path):
    workload = workload_of("conv2d_nhwc_bn_relu")
    [schedule, *_] = samples(workload, NATIVE, 2)
    database = meta_schedule.database.JSONDatabase(work_dir=str(tmp_path))
    entry = database.commit_workload(module_of(workload))
    database.commit_tuning_record(meta_schedule.database.TuningRecord(schedule.trace, entry, [1.0]))
    [record] = meta_schedule.database.JSONDatabase(work_dir=str(tmp_path)).get_all_tuning_records()
    text = json.loads(traces.canonical_trace(record.trace))
    assert text == json.loads(traces.canonical_trace(schedule.trace))
    again = tvm.s_tir.Schedule(module_of(workload))
    record.trace.apply_to_schedule(again, remove_postproc=False)
    assert tvm_ffi.structural_equal(again.mod, schedule.mod)


@pytest.mark.parametrize("case", ["matmul", "conv2d_nhwc in groups", "dense of primes"])
def test_the_space_holds_tvms_own_schedules_too(case):
    designs = context_of(module_of(workload_of(case)), NATIVE).generate_design_space()
    packed = [design for design in designs if is_packed(design)]
    assert 0 < len(packed) < len(designs)


@pytest.mark.parametrize("op", ["gemv", "softmax"])
def test_other_operators_keep_tvms_own_schedules(op):
    sizes = {"gemv": {"m": 8, "k": 16}, "softmax": {"m": 8, "n": 16}}[op]
    workload = workload_from_call(find_operator(op).call(sizes))
    assert not packed_designs(context_of(module_of(workload), NATIVE))


def test_samples_keep_all_cores_busy():
    workload = workload_from_call(find_operator("matmul").call({"n": 64, "m": 96, "k": 8}))
    for schedule in samples(workload, AVX2, 6):
        loops = [line for line in schedule.mod.script().splitlines() if "T.parallel(" in line]
        # The contraction comes after the copies of its operands.
        tasks = int(loops[-1].split("T.parallel(")[1].split(")")[0])
        assert ceil(tasks / AVX2.cores) * AVX2.cores <= 1.25 * tasks
