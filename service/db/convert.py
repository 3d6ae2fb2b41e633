"""The one border between rows and domain values."""

import math
from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

from cost_model.versions import ModelVersion, TrainedOn
from schedules.errors import InputError
from schedules.records import (
    Best,
    Candidate,
    Environment,
    Failure,
    FailureKind,
    MeasureResult,
    TuningRecord,
    Verification,
)
from schedules.target import Target
from schedules.workload import OperatorCall, TensorSpec, Workload
from service.db.model_rows import ModelVersionRow, OrderRow
from service.db.model_values import ModelOrder
from service.db.models import (
    BestRow,
    CheckRow,
    ItemRow,
    JobRow,
    RecordRow,
    TargetRow,
    WorkerRow,
    WorkloadRow,
)
from service.db.values import Check, Job, JobSpec, Worker, WorkerState


def workload_values(workload: Workload) -> dict[str, Any]:
    """Return the columns of a workload, without its time."""
    return {
        "workload_id": workload.workload_id,
        "name": workload.name,
        "ir": workload.ir,
        "tensors": [
            {
                "name": tensor.name,
                "shape": list(tensor.shape),
                "dtype": tensor.dtype,
                "is_output": tensor.is_output,
                "is_constant": tensor.is_constant,
                "index_below": tensor.index_below,
            }
            for tensor in workload.tensors
        ],
        "flops": workload.flops,
        "call": call_values(workload.call),
        "family_id": workload.family_id,
    }


def call_values(call: OperatorCall | None) -> dict[str, Any] | None:
    """Return the JSON of an operator call."""
    if call is None:
        return None
    return {
        "op": call.op,
        "args": dict(call.args),
        "dtype": call.dtype,
        "constants": list(call.constants),
    }


def workload(row: WorkloadRow) -> Workload:
    """Make a workload from its row."""
    call = row.call
    return Workload(
        workload_id=row.workload_id,
        name=row.name,
        ir=row.ir,
        tensors=tuple(
            TensorSpec(
                name=tensor["name"],
                shape=tuple(tensor["shape"]),
                dtype=tensor["dtype"],
                is_output=tensor["is_output"],
                is_constant=tensor.get("is_constant", False),
                index_below=tensor.get("index_below"),
            )
            for tensor in row.tensors
        ),
        flops=row.flops,
        call=None
        if call is None
        else OperatorCall(
            op=call["op"],
            args=MappingProxyType(dict(call["args"])),
            dtype=call["dtype"],
            constants=tuple(call.get("constants", ())),
        ),
        family_id=row.family_id,
    )


def target(row: TargetRow) -> Target:
    """Make a target from its row."""
    description = dict(row.description)
    kind = description.pop("kind")
    return Target(
        kind=kind,
        attributes=MappingProxyType(
            {
                name: tuple(value) if isinstance(value, list) else value
                for name, value in description.items()
            }
        ),
    )


def environment(facts: Mapping[str, str | int]) -> Environment:
    """Make an environment from its facts."""
    return Environment(facts=MappingProxyType(dict(facts)))


def worker(row: WorkerRow, of_target: TargetRow, state: WorkerState) -> Worker:
    """Make a worker from its row."""
    return Worker(
        worker_id=row.worker_id,
        name=row.name,
        target=target(of_target),
        environment=environment(row.environment),
        state=state,
        quarantined=row.quarantined,
        last_seen_at=row.last_seen_at,
        registered_at=row.registered_at,
    )


def check(row: CheckRow) -> Check:
    """Make a sign of health from its row."""
    return Check(
        check_id=row.check_id,
        worker_id=row.worker_id,
        kind=row.kind,
        passed=row.passed,
        problem=row.problem,
        latency_secs=row.latency_secs,
        spread=row.spread,
        baseline_secs=row.baseline_secs,
        checked_at=row.checked_at,
    )


def job_spec(row: JobRow) -> JobSpec:
    """Make the specification of a job from its row."""
    return JobSpec(
        workload_id=row.workload_id,
        target_id=row.target_id,
        trials=row.trials,
        seconds=row.seconds,
        least_gain=row.least_gain,
        priority=row.priority,
        space=row.space,
        seed=row.seed,
        submitter=row.submitter,
        budget_id=row.budget_id,
        weight=1.0 if row.weight is None else row.weight,
    )


def job(row: JobRow, failures: Mapping[FailureKind, int]) -> Job:
    """Make a job from its row and the counts of its failed records."""
    return Job(
        job_id=row.job_id,
        spec=job_spec(row),
        state=row.state,
        phase=row.phase,
        trials_done=row.trials_done,
        failures=MappingProxyType(dict(failures)),
        error=row.error,
        created_at=row.created_at,
        started_at=row.started_at,
        finished_at=row.finished_at,
        worth_secs=row.worth_secs,
    )


def candidate_values(candidate: Candidate) -> dict[str, Any]:
    """Return the columns of a candidate; a score that is not finite predicts nothing."""
    score = candidate.predicted_score
    return {
        "trace": candidate.trace,
        "trace_id": candidate.trace_id,
        "origin": candidate.origin,
        "predicted_score": score if score is not None and math.isfinite(score) else None,
        "model_version": candidate.model_version,
    }


def candidate(row: ItemRow | RecordRow) -> Candidate:
    """Make a candidate from an item or a record."""
    return Candidate(
        trace=row.trace,
        trace_id=row.trace_id,
        origin=row.origin,
        predicted_score=row.predicted_score,
        model_version=row.model_version,
    )


def record_values(record: TuningRecord) -> dict[str, Any]:
    """Return the columns of a tuning record.

    Raises
    ------
    InputError
        The result has neither runtimes nor a failure, or a bound without runtimes or beside a
        failure, or a number is not finite.
    """
    result = record.result
    _check_outcome(record.record_id, result)
    checked = result.verification
    numbers = [
        *result.run_secs,
        *(number or 0.0 for number in (result.censored_secs, result.build_secs)),
        checked.tolerance if checked else 0.0,
    ]
    if not all(map(math.isfinite, numbers)):
        raise InputError(f"the result of {record.record_id} has a number that is not finite")
    return {
        "record_id": record.record_id,
        "workload_id": record.workload_id,
        "target_id": record.target_id,
        "operator": record.operator,
        "job_id": record.job_id,
        "worker_id": record.worker_id,
        "purpose": record.purpose,
        **candidate_values(record.candidate),
        "run_secs": list(result.run_secs),
        "latency_secs": result.latency_secs,
        "censored_secs": result.censored_secs,
        "duplicate_of": result.duplicate_of,
        "build_secs": result.build_secs,
        "failure": result.failure.kind if result.failure else None,
        "failure_detail": result.failure.detail if result.failure else None,
        "verification": None
        if checked is None
        else {
            "reference": checked.reference,
            "tolerance": checked.tolerance,
            "error": checked.error if math.isfinite(checked.error) else -1.0,
            "passed": checked.passed,
        },
        "environment": dict(record.environment.facts),
        "protocol_version": record.protocol_version,
        "created_at": record.created_at,
    }


def _check_outcome(record_id: str, result: MeasureResult) -> None:
    if not result.run_secs and result.failure is None:
        raise InputError(f"the result of {record_id} has neither runtimes nor a failure")
    if result.censored_secs is not None and (not result.run_secs or result.failure is not None):
        raise InputError(
            f"the result of {record_id} has a bound beside a failure, or without the runtimes that "
            "it comes from"
        )


def record(row: RecordRow) -> TuningRecord:
    """Make a tuning record from its row."""
    checked = row.verification
    return TuningRecord(
        record_id=row.record_id,
        workload_id=row.workload_id,
        target_id=row.target_id,
        job_id=row.job_id,
        worker_id=row.worker_id,
        purpose=row.purpose,
        candidate=candidate(row),
        result=MeasureResult(
            run_secs=tuple(row.run_secs),
            failure=None
            if row.failure is None
            else Failure(kind=row.failure, detail=row.failure_detail or ""),
            censored_secs=row.censored_secs,
            duplicate_of=row.duplicate_of,
            build_secs=row.build_secs,
            verification=None if checked is None else Verification(**checked),
        ),
        environment=environment(row.environment),
        protocol_version=row.protocol_version,
        created_at=row.created_at,
        set_aside=row.set_aside_at is not None,
        operator=row.operator,
    )


def best_values(best: Best) -> dict[str, Any]:
    """Return the columns of a best.

    Raises
    ------
    InputError
        A number is not finite.
    """
    low, high = best.latency_interval_secs
    if not all(map(math.isfinite, (best.latency_secs, low, high, best.default_latency_secs or 0))):
        raise InputError(f"the best of {best.workload_id} has a number that is not finite")
    return {
        "workload_id": best.workload_id,
        "target_id": best.target_id,
        "tier": best.tier,
        "latency_secs": best.latency_secs,
        "latency_low_secs": low,
        "latency_high_secs": high,
        "default_latency_secs": best.default_latency_secs,
        "trace": best.trace,
        "trace_id": best.trace_id,
        "verified": best.verified,
        "record_id": best.record_id,
        "environment": dict(best.environment.facts),
        "model_version": best.model_version,
        "created_at": best.created_at,
        "expected_gain": best.expected_gain,
    }


def best(row: BestRow) -> Best:
    """Make a best from its row."""
    return Best(
        tier=row.tier,
        workload_id=row.workload_id,
        target_id=row.target_id,
        latency_secs=row.latency_secs,
        latency_interval_secs=(row.latency_low_secs, row.latency_high_secs),
        default_latency_secs=row.default_latency_secs,
        trace=row.trace,
        trace_id=row.trace_id,
        verified=row.verified,
        record_id=row.record_id,
        environment=environment(row.environment),
        model_version=row.model_version,
        created_at=row.created_at,
        expected_gain=row.expected_gain,
    )


def model_version_values(version: ModelVersion) -> dict[str, Any]:
    """Return the columns of a version of the cost model."""
    return {
        "version": version.version,
        "parent": version.parent,
        "feature_version": version.feature_version,
        "code_version": version.code_version,
        "trained_on": version.trained_on.as_dict(),
        "metrics": dict(version.metrics),
        "created_at": version.created_at,
    }


def model_version(row: ModelVersionRow) -> ModelVersion:
    """Make a version of the cost model from its row."""
    return ModelVersion(
        version=row.version,
        created_at=row.created_at,
        parent=row.parent,
        feature_version=row.feature_version,
        code_version=row.code_version,
        trained_on=TrainedOn(**row.trained_on),
        metrics=row.metrics,
    )


def model_order(row: OrderRow) -> ModelOrder:
    """Make an order from its row."""
    return ModelOrder(
        order_id=row.order_id,
        kind=row.kind,
        state=row.state,
        request=MappingProxyType(dict(row.request)),
        content=row.content,
        result=None if row.result is None else MappingProxyType(dict(row.result)),
        error=row.error,
        created_at=row.created_at,
        finished_at=row.finished_at,
    )
