"""Trials to learn from: real candidates of real programs, with latencies of a toy machine."""

import uuid
from datetime import UTC, datetime
from functools import cache
from typing import Any

import numpy as np
import tvm
import tvm_ffi
from tvm.s_tir import meta_schedule

from cost_model.arrays import FloatMatrix, SecondsVector
from cost_model.columns import FEATURE_NAMES
from cost_model.features import extract
from schedules.ir import module_of, workload_from_call
from schedules.operators import find_operator
from schedules.records import (
    Candidate,
    Environment,
    Failure,
    FailureKind,
    MeasureResult,
    Purpose,
    TuningRecord,
    trace_id,
)
from schedules.target import Target
from schedules.trace import canonical_trace
from schedules.workload import Workload
from service.db.store import Store

TARGET = Target.parse({"kind": "llvm", "mcpu": "x86-64-v3", "num-cores": 4})


@cache
def matmul(n: int, m: int, k: int) -> Workload:
    """A matrix product of the catalogue."""
    return workload_from_call(find_operator("matmul").call({"n": n, "m": m, "k": k}))


def sample(workload: Workload, count: int) -> tuple[Any, ...]:
    """Random schedules of TVM's own space."""
    # Not by TuneContext's constructor, which parses every tensor intrinsic first.
    context = tvm_ffi.get_global_func("s_tir.meta_schedule.TuneContext")(
        module_of(workload),
        tvm.target.Target(TARGET.as_dict()),
        meta_schedule.space_generator.PostOrderApply(),
        meta_schedule.search_strategy.ReplayTrace(),
        "lessons",
        1,
        7,
        None,
    )
    tvm_ffi.get_global_func("s_tir.meta_schedule.TuneContextInitialize")(context)
    context.pre_tuning(
        count,
        count,
        context.generate_design_space(),
        meta_schedule.database.MemoryDatabase(),
        meta_schedule.cost_model.RandomModel(),
    )
    return tuple(item.sch for item in context.generate_measure_candidates())


def toy_latencies(features: FloatMatrix) -> SecondsVector:
    """Wide register tiles and full vectors are fast, cache misses and idle cores are slow."""
    column = {name: features[:, index] for index, name in enumerate(FEATURE_NAMES)}
    log_latency = (
        column["task.log2_roofline_secs"]
        + 0.3 * column["total.lines"]
        - 0.5 * np.minimum(column["loops.tile2.last"], 4.0)
        - 0.3 * column["loops.tile2.other"]
        - 2.0 * column["loops.core_utilisation"]
    )
    latencies: SecondsVector = np.exp2(log_latency).astype(np.float64)
    return latencies


_sampled: dict[tuple[str, int], list[tuple[str, float]]] = {}


def records_of(workload: Workload, count: int) -> list[TuningRecord]:
    """Trials of a workload; one in sixteen has failed."""
    key = (workload.workload_id, count)
    if key not in _sampled:
        schedules = sample(workload, count)
        latencies = toy_latencies(extract(schedules, workload=workload, target=TARGET))
        traces = [canonical_trace(schedule.trace) for schedule in schedules]
        _sampled[key] = list(zip(traces, latencies.tolist(), strict=True))
    found = []
    for place, (trace, secs) in enumerate(_sampled[key]):
        broken = Failure(kind=FailureKind.BUILD_ERROR, detail="for a test")
        found.append(
            TuningRecord(
                record_id=uuid.uuid4().hex,
                workload_id=workload.workload_id,
                target_id=TARGET.target_id,
                candidate=Candidate(trace=trace, trace_id=trace_id(trace)),
                purpose=Purpose.TRIAL,
                result=MeasureResult(failure=broken)
                if place % 16 == 15
                else MeasureResult(run_secs=(secs,) * 3),
                environment=Environment(),
                created_at=datetime.now(UTC),
            )
        )
    return found


def teach(store: Store, *workloads: Workload, count: int = 32) -> None:
    """Store trials of workloads."""
    store.save_target(TARGET)
    for workload in workloads:
        store.save_workload(workload)
        store.add_records(records_of(workload, count))
