import logging
from typing import Any

import numpy as np
import pytest
import tvm
import tvm_ffi
from tvm import te
from tvm.s_tir import Schedule, meta_schedule

from cost_model.dataset import Dataset
from cost_model.features import FEATURE_NAMES, extract
from cost_model.metrics import pairwise_accuracy
from cost_model.xgboost_model import XgbCostModel
from schedules.target import Target
from schedules.workload import TensorSpec, Workload

SIZE = 128
TARGET = Target.parse({"kind": "llvm", "mcpu": "x86-64-v3", "num-cores": 4})
WORKLOAD = Workload(
    workload_id="0" * 64,
    name="matmul",
    ir="",
    tensors=tuple(
        TensorSpec(name=name, shape=(SIZE, SIZE), dtype="float32", is_output=name == "C")
        for name in "ABC"
    ),
    flops=2.0 * SIZE**3,
)


@pytest.fixture(scope="module")
def module() -> Any:
    left = te.placeholder((SIZE, SIZE), name="A")
    right = te.placeholder((SIZE, SIZE), name="B")
    k = te.reduce_axis((0, SIZE), name="k")
    product = te.compute(
        (SIZE, SIZE), lambda i, j: te.sum(left[i, k] * right[k, j], axis=k), name="C"
    )
    return tvm.IRModule({"main": te.create_prim_func([left, right, product])})


@pytest.fixture(scope="module")
def candidates(module: Any) -> list[Any]:
    """64 random candidates of TVM's own space."""
    # Not by TuneContext's constructor, which parses every tensor intrinsic first and takes minutes
    # on a busy machine.
    context = tvm_ffi.get_global_func("s_tir.meta_schedule.TuneContext")(
        module,
        tvm.target.Target(TARGET.as_dict()),
        meta_schedule.space_generator.PostOrderApply(),
        meta_schedule.search_strategy.ReplayTrace(),
        "candidates",
        1,
        7,
        None,
    )
    tvm_ffi.get_global_func("s_tir.meta_schedule.TuneContextInitialize")(context)
    context.pre_tuning(
        64,
        64,
        context.generate_design_space(),
        meta_schedule.database.MemoryDatabase(),
        meta_schedule.cost_model.RandomModel(),
    )
    return [candidate.sch for candidate in context.generate_measure_candidates()]


def tiled(module: Any) -> Any:
    """The usual register tiling: 4 x 8 outputs, reduced 16 at a time, rows in parallel."""
    schedule = Schedule(module)
    block = schedule.get_sblock("C")
    i, j, k = schedule.get_loops(block)
    i_outer, i_inner = schedule.split(i, [None, 4])
    j_outer, j_inner = schedule.split(j, [None, 8])
    k_outer, k_inner = schedule.split(k, [None, 16])
    schedule.reorder(i_outer, j_outer, k_outer, k_inner, i_inner, j_inner)
    schedule.parallel(i_outer)
    schedule.vectorize(j_inner)
    schedule.decompose_reduction(block, k_outer)
    return schedule


def row_of(schedule: Any, target: Target = TARGET) -> dict[str, float]:
    (row,) = extract([schedule], workload=WORKLOAD, target=target)
    return dict(zip(FEATURE_NAMES, row.tolist(), strict=True))


def test_rows_of_real_candidates_are_finite_and_distinct(candidates: list[Any]) -> None:
    features = extract(candidates, workload=WORKLOAD, target=TARGET)

    assert features.shape == (64, len(FEATURE_NAMES))
    assert features.dtype == np.float32
    assert np.isfinite(features).all()
    assert len(np.unique(features, axis=0)) > 56


def test_a_row_does_not_depend_on_its_neighbours_or_on_threads(candidates: list[Any]) -> None:
    together = extract(candidates[:8], workload=WORKLOAD, target=TARGET, threads=2)
    alone = [extract([each], workload=WORKLOAD, target=TARGET)[0] for each in candidates[:8]]

    np.testing.assert_array_equal(together, np.stack(alone))


def test_no_schedules_make_no_rows() -> None:
    assert extract([], workload=WORKLOAD, target=TARGET).shape == (0, len(FEATURE_NAMES))


def test_a_model_learns_to_order_unseen_candidates(candidates: list[Any]) -> None:
    features = extract(candidates, workload=WORKLOAD, target=TARGET)
    column = {name: features[:, index] for index, name in enumerate(FEATURE_NAMES)}
    # A toy machine: wide register tiles and full vectors are fast, cache misses are slow.
    log_latency = (
        0.3 * column["total.lines"]
        - 0.5 * np.minimum(column["loops.tile2.last"], 4.0)
        - 0.3 * column["loops.tile2.other"]
        - 2.0 * column["loops.core_utilisation"]
    )
    dataset = Dataset(
        features=features,
        latency_secs=np.exp2(log_latency).astype(np.float64),
        groups=np.ones(64, dtype=np.int64),
        flops=np.full(64, WORKLOAD.flops),
    )
    order = np.random.default_rng(0).permutation(64)
    held_out = dataset.rows(order[40:])
    model = XgbCostModel(seed=1)
    model.fit(dataset.rows(order[:40]))

    scores = model.predict(held_out.features)

    accuracy = pairwise_accuracy(scores, held_out.latency_secs, held_out.groups)
    assert accuracy is not None
    assert accuracy > 0.75


def test_the_tiling_of_a_schedule_is_read_off_its_loops(module: Any) -> None:
    row = row_of(tiled(module))

    assert row["loops.tile1.last"] == 3
    assert row["loops.tile2.other"] == 2
    assert row["loops.tile3.reduce"] == 4
    assert row["loops.tile4.reduce"] == 7
    assert row["loops.tile5.last"] == 7
    assert row["loops.parallel"] == 5
    assert row["loops.parallel_per_core"] == 3
    assert row["loops.core_utilisation"] == 1


def test_tvms_columns_have_the_meaning_of_their_names(module: Any) -> None:
    row = row_of(tiled(module))

    iterations = np.log2(1 + SIZE**3)
    assert row["dominant.outer.extent"] == pytest.approx(iterations)
    assert row["total.arithmetic.float_mul"] == pytest.approx(iterations)
    assert row["total.arithmetic.float_add_sub"] == pytest.approx(iterations)
    assert row["largest.vectorize.extent"] == pytest.approx(np.log2(1 + 8))
    assert row["largest.parallel.extent"] == pytest.approx(np.log2(1 + 32))
    assert row["largest.unroll.count"] == 0
    assert row["dominant.gpu.is_gpu"] == 0
    assert row["dominant.outer.loops"] == pytest.approx(np.log2(1 + 6))
    # Of A, B and C, each in every iteration.
    assert row["total.bytes"] == pytest.approx(np.log2(1 + 3 * 4 * SIZE**3))
    assert row["share.parallel"] == 1
    assert row["share.vectorize"] == 1
    assert row["share.unroll"] == 0


def test_the_program_around_the_dominant_block_is_seen(module: Any) -> None:
    tiled_row, plain = row_of(tiled(module)), row_of(Schedule(module))

    # One parallel region with the initialisation and the update in it.
    assert tiled_row["program.parallel_regions"] == 1
    assert tiled_row["program.least_parallel"] == 5
    assert tiled_row["program.nests"] == pytest.approx(np.log2(3))
    assert tiled_row["program.serial_iterations"] == 0
    assert plain["program.parallel_regions"] == 0
    assert plain["program.serial_iterations"] == pytest.approx(np.log2(1 + SIZE**3))


def test_unrolling_is_seen(module: Any) -> None:
    schedule = tiled(module)
    outer = schedule.get_loops(schedule.get_sblock("C_update"))[0]
    schedule.annotate(outer, "pragma_auto_unroll_max_step", 64)

    row = row_of(schedule)

    assert row["largest.outer.unroll_step"] == pytest.approx(np.log2(1 + 64))
    assert row["share.unroll"] == 1


def test_the_workload_and_the_target_are_in_every_row(module: Any) -> None:
    row = row_of(Schedule(module))

    assert row["task.log2_flops"] == pytest.approx(22, abs=1e-5)
    assert row["task.log2_bytes"] == pytest.approx(np.log2(3 * 4 * SIZE**2), abs=1e-4)
    assert row["task.log2_flops_per_byte"] == pytest.approx(np.log2(1 + SIZE / 6))
    assert row["task.log2_cores"] == 2


def test_gpu_loops_are_seen_on_gpu_targets(module: Any) -> None:
    schedule = Schedule(module)
    i, j, _ = schedule.get_loops(schedule.get_sblock("C"))
    schedule.bind(i, "blockIdx.x")
    schedule.bind(j, "threadIdx.x")

    row = row_of(schedule, Target.parse({"kind": "cuda", "arch": "sm_90"}))

    assert row["dominant.gpu.is_gpu"] == 1
    assert row["dominant.gpu.thread_x"] == pytest.approx(np.log2(1 + SIZE))
    assert row["loops.parallel"] == 14


def test_extraction_leaves_schedules_as_they_are(module: Any) -> None:
    schedule = tiled(module)
    before = schedule.mod.script()

    row_of(schedule)

    assert schedule.mod.script() == before


def test_a_program_that_cannot_be_lowered_costs_only_its_own_row(
    module: Any, caplog: pytest.LogCaptureFixture
) -> None:
    broken = Schedule(module)
    i, j, _ = broken.get_loops(broken.get_sblock("C"))
    _, j_inner = broken.split(j, [None, 32])
    broken.bind(i, "threadIdx.x")
    broken.bind(j_inner, "threadIdx.x")
    caplog.set_level(logging.INFO, logger="cost_model.features")

    rows = extract([tiled(module), broken], workload=WORKLOAD, target=TARGET)

    task_columns = [name.startswith("task.") for name in FEATURE_NAMES]
    np.testing.assert_array_equal(rows[0], list(row_of(tiled(module)).values()))
    np.testing.assert_array_equal(rows[1] != 0, task_columns)
    assert [record.__dict__["action"] for record in caplog.records] == ["extract_features_failed"]
