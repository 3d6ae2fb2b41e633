"""Values and steps that the store's tests share."""

from dataclasses import replace
from datetime import UTC, datetime
from types import MappingProxyType
from typing import Any

from schedules.identity import canonical_json, sha256_id
from schedules.records import (
    Best,
    Candidate,
    Environment,
    Failure,
    FailureKind,
    MeasureResult,
    Purpose,
    Tier,
    TuningRecord,
)
from schedules.target import Target
from schedules.workload import OperatorCall, TensorSpec, Workload
from service.db.store import Store
from service.db.values import Job, JobSpec, Lease, Report, Worker

TTL = 30.0
OWNER = "orchestrator-1"
CPU = Target.parse(
    {"kind": "llvm", "mcpu": "skylake-avx512", "mattr": ["+avx512f"], "num-cores": 2}
)
GPU = Target.parse({"kind": "cuda", "arch": "sm_90"})
ENVIRONMENT = Environment(facts=MappingProxyType({"cpu": "Xeon", "cores": 2}))
CALL = OperatorCall(op="matmul", args=MappingProxyType({"n": 4, "k": 8}), dtype="float32")
WORKLOAD = Workload(
    workload_id=sha256_id("matmul"),
    name="matmul",
    ir='{"root": 1}',
    tensors=(
        TensorSpec(name="a", shape=(4, 8), dtype="float32"),
        TensorSpec(name="scale", shape=(), dtype="float32"),
        TensorSpec(name="c", shape=(4, 4), dtype="float32", is_output=True),
    ),
    flops=256.0,
    call=CALL,
    family_id=sha256_id("products"),
)
OTHER_WORKLOAD = replace(WORKLOAD, workload_id=sha256_id("softmax"), name="softmax", call=None)


def spec(**changes: Any) -> JobSpec:
    return replace(
        JobSpec(
            workload_id=WORKLOAD.workload_id,
            target_id=CPU.target_id,
            trials=64,
            seconds=None,
            priority=0,
            space="default",
            seed=None,
        ),
        **changes,
    )


def candidate(number: int) -> Candidate:
    trace = canonical_json([["tile", number]])
    return Candidate(
        trace=trace, trace_id=sha256_id(trace), predicted_score=0.5, model_version="m1"
    )


def candidates(count: int) -> list[Candidate]:
    return [candidate(number) for number in range(count)]


def measured(secs: float = 1e-3) -> MeasureResult:
    return MeasureResult(run_secs=(secs, secs * 2, secs), build_secs=0.1)


def failed(kind: FailureKind = FailureKind.BUILD_ERROR, detail: str = "it broke") -> MeasureResult:
    return MeasureResult(failure=Failure(kind=kind, detail=detail))


def record(number: int, **changes: Any) -> TuningRecord:
    return replace(
        TuningRecord(
            record_id=f"record-{number:05}",
            workload_id=WORKLOAD.workload_id,
            target_id=CPU.target_id,
            candidate=candidate(number),
            purpose=Purpose.TRIAL,
            result=measured(),
            environment=ENVIRONMENT,
            created_at=datetime(2024, 1, 1, 0, 0, number % 60, number, tzinfo=UTC),
        ),
        **changes,
    )


def best(secs: float, **changes: Any) -> Best:
    return replace(
        Best(
            tier=Tier.EXACT,
            workload_id=WORKLOAD.workload_id,
            target_id=CPU.target_id,
            latency_secs=secs,
            latency_interval_secs=(secs * 0.9, secs * 1.1),
            default_latency_secs=1.0,
            trace=candidate(0).trace,
            trace_id=candidate(0).trace_id,
            verified=True,
            record_id="record-00000",
            environment=ENVIRONMENT,
            model_version=None,
            created_at=datetime(2024, 1, 1, tzinfo=UTC),
            expected_gain=0.125,
        ),
        **changes,
    )


def stock(store: Store) -> None:
    """Save the workloads and targets that the other helpers refer to."""
    for workload in (WORKLOAD, OTHER_WORKLOAD):
        store.save_workload(workload)
    for target in (CPU, GPU):
        store.save_target(target)


def worker(store: Store, name: str = "worker", target: Target = CPU) -> Worker:
    return store.register_worker(name, target, ENVIRONMENT)


def claim(store: Store, owner: str = OWNER, ttl_secs: float = TTL) -> Job | None:
    """Claim one job."""
    return next((claimed.job for claimed in store.claim_jobs(owner, ttl_secs)), None)


def finish(store: Store, job: Job, owner: str = OWNER) -> None:
    """End a job well, as after its finals."""
    store.begin_finals(job, owner)
    store.finish_job(job.job_id, owner)


def running_job(store: Store, owner: str = OWNER, **changes: Any) -> Job:
    """Submit a job, let `owner` claim it for a long time, and return it."""
    stock(store)
    submitted, _ = store.submit_job(spec(**changes), idempotency_key=None)
    claimed = claim(store, owner, 1e6)
    assert claimed is not None
    assert claimed.job_id == submitted.job_id
    return claimed


def enqueue(
    store: Store, job: Job, count: int = 2, *, purpose: Purpose = Purpose.TRIAL, owner: str = OWNER
) -> str:
    return store.enqueue_batch(
        job.job_id, owner, purpose=purpose, candidates=candidates(count), incumbent_secs=None
    )


def lease(store: Store, by: Worker, ttl_secs: float = TTL) -> Lease:
    got = store.lease_batch(by.worker_id, ttl_secs)
    assert got is not None
    return got


def report_all(store: Store, held: Lease, by: Worker, result: MeasureResult | None = None) -> None:
    told = store.report(
        held.lease_id,
        held.epoch,
        by.worker_id,
        ENVIRONMENT,
        [(item.item_id, result or measured()) for item in held.items],
    )
    assert told.accepted == tuple(item.item_id for item in held.items)


def report_one(
    store: Store, held: Lease, by: Worker, index: int = 0, result: MeasureResult | None = None
) -> Report:
    item_id = held.items[index].item_id
    results = [(item_id, result or measured())]
    return store.report(held.lease_id, held.epoch, by.worker_id, ENVIRONMENT, results)
