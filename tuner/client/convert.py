"""The one border between wire models and domain values."""

import json
from collections.abc import Mapping
from types import MappingProxyType

from schedules.identity import canonical_json, sha256_id
from schedules.operators import find_operator
from schedules.records import (
    Best,
    Candidate,
    Environment,
    Failure,
    MeasureResult,
    TuningRecord,
    Verification,
)
from schedules.workload import OperatorCall, TensorSpec, Workload
from tuner.client import wire


def operator_call(request: wire.OperatorWorkload) -> OperatorCall:
    """Check a named operator against the catalogue."""
    return find_operator(request.op).call(request.args, request.dtype, request.constants)


def environment(facts: Mapping[str, str | int]) -> Environment:
    """Make an environment from its facts."""
    return Environment(facts=MappingProxyType(dict(sorted(facts.items()))))


def workload_to_wire(workload: Workload) -> wire.WorkloadWire:
    """Write a workload with its IR."""
    call = workload.call
    return wire.WorkloadWire(
        workload_id=workload.workload_id,
        name=workload.name,
        op=call.op if call else None,
        args=dict(call.args) if call else None,
        dtype=call.dtype if call else None,
        constants=list(call.constants) if call else [],
        tensors=[
            wire.TensorView(
                name=tensor.name,
                shape=list(tensor.shape),
                dtype=tensor.dtype,
                is_output=tensor.is_output,
                is_constant=tensor.is_constant,
                index_below=tensor.index_below,
            )
            for tensor in workload.tensors
        ],
        flops=workload.flops,
        family_id=workload.family_id,
        ir=workload.ir,
    )


def workload_from_wire(view: wire.WorkloadWire) -> Workload:
    """Read a workload that `workload_to_wire` wrote."""
    call = None
    if view.op is not None and view.args is not None and view.dtype is not None:
        call = OperatorCall(
            op=view.op,
            args=MappingProxyType(dict(view.args)),
            dtype=view.dtype,
            constants=tuple(view.constants),
        )
    return Workload(
        workload_id=view.workload_id,
        name=view.name,
        ir=view.ir,
        tensors=tuple(
            TensorSpec(
                name=tensor.name,
                shape=tuple(tensor.shape),
                dtype=tensor.dtype,
                is_output=tensor.is_output,
                is_constant=tensor.is_constant,
                index_below=tensor.index_below,
            )
            for tensor in view.tensors
        ),
        flops=view.flops,
        call=call,
        family_id=view.family_id,
    )


def candidate_to_wire(candidate: Candidate) -> wire.CandidateWire:
    """Write a candidate."""
    return wire.CandidateWire(
        trace=candidate.trace,
        trace_id=candidate.trace_id,
        origin=candidate.origin,
        predicted_score=candidate.predicted_score,
        model_version=candidate.model_version,
    )


def candidate_from_wire(view: wire.CandidateWire) -> Candidate:
    """Read a candidate."""
    return Candidate(
        trace=view.trace,
        trace_id=view.trace_id,
        origin=view.origin,
        predicted_score=view.predicted_score,
        model_version=view.model_version,
    )


def result_to_wire(result: MeasureResult) -> wire.ResultWire:
    """Write a result."""
    failure, checked = result.failure, result.verification
    return wire.ResultWire(
        run_secs=list(result.run_secs),
        failure=wire.FailureWire(kind=failure.kind, detail=failure.detail) if failure else None,
        censored_secs=result.censored_secs,
        duplicate_of=result.duplicate_of,
        build_secs=result.build_secs,
        verification=_verification_to_wire(checked),
        conditions=dict(result.conditions),
    )


def result_from_wire(view: wire.ResultWire) -> MeasureResult:
    """Read a result."""
    failure, checked = view.failure, view.verification
    return MeasureResult(
        run_secs=tuple(view.run_secs),
        failure=Failure(kind=failure.kind, detail=failure.detail) if failure else None,
        censored_secs=view.censored_secs,
        duplicate_of=view.duplicate_of,
        build_secs=view.build_secs,
        verification=_verification_from_wire(checked),
        conditions=MappingProxyType(dict(view.conditions)),
    )


def record_to_wire(record: TuningRecord) -> wire.RecordView:
    """Write a tuning record."""
    candidate, result, failure = record.candidate, record.result, record.result.failure
    return wire.RecordView(
        record_id=record.record_id,
        workload_id=record.workload_id,
        target_id=record.target_id,
        job_id=record.job_id,
        worker_id=record.worker_id,
        purpose=record.purpose,
        origin=candidate.origin,
        trace=json.loads(candidate.trace),
        trace_id=candidate.trace_id,
        run_secs=list(result.run_secs),
        latency_secs=result.latency_secs,
        censored_secs=result.censored_secs,
        duplicate_of=result.duplicate_of,
        build_secs=result.build_secs,
        failure=failure.kind if failure else None,
        failure_detail=failure.detail if failure else None,
        verification=_verification_to_wire(result.verification),
        predicted_score=candidate.predicted_score,
        model_version=candidate.model_version,
        protocol_version=record.protocol_version,
        environment=dict(record.environment.facts),
        created_at=record.created_at,
        set_aside=record.set_aside,
        operator=record.operator,
    )


def record_from_wire(view: wire.RecordView) -> TuningRecord:
    """Read a tuning record."""
    return TuningRecord(
        record_id=view.record_id,
        workload_id=view.workload_id,
        target_id=view.target_id,
        candidate=Candidate(
            trace=canonical_json(view.trace),
            trace_id=view.trace_id,
            origin=view.origin,
            predicted_score=view.predicted_score,
            model_version=view.model_version,
        ),
        purpose=view.purpose,
        result=MeasureResult(
            run_secs=tuple(view.run_secs),
            failure=Failure(kind=view.failure, detail=view.failure_detail or "")
            if view.failure
            else None,
            censored_secs=view.censored_secs,
            duplicate_of=view.duplicate_of,
            build_secs=view.build_secs,
            verification=_verification_from_wire(view.verification),
        ),
        environment=environment(view.environment),
        created_at=view.created_at,
        set_aside=view.set_aside,
        operator=view.operator,
        job_id=view.job_id,
        worker_id=view.worker_id,
        protocol_version=view.protocol_version,
    )


def best_to_wire(best: Best) -> wire.BestView:
    """Write a best."""
    return wire.BestView(
        tier=best.tier,
        workload_id=best.workload_id,
        target_id=best.target_id,
        latency_secs=best.latency_secs,
        latency_interval_secs=best.latency_interval_secs,
        default_latency_secs=best.default_latency_secs,
        speedup=best.speedup,
        trace=json.loads(best.trace),
        verified=best.verified,
        record_id=best.record_id,
        environment=dict(best.environment.facts),
        model_version=best.model_version,
        created_at=best.created_at,
        expected_gain=best.expected_gain,
    )


def best_from_wire(view: wire.BestView) -> Best:
    """Read a best; one that was never measured has no record."""
    return Best(
        tier=view.tier,
        workload_id=view.workload_id,
        target_id=view.target_id,
        latency_secs=view.latency_secs,
        latency_interval_secs=view.latency_interval_secs,
        default_latency_secs=view.default_latency_secs,
        trace=canonical_json(view.trace),
        trace_id=sha256_id(view.trace),
        verified=view.verified,
        record_id=view.record_id or "",
        environment=environment(view.environment),
        model_version=view.model_version,
        created_at=view.created_at,
        expected_gain=view.expected_gain,
    )


def _verification_to_wire(checked: Verification | None) -> wire.VerificationWire | None:
    if checked is None:
        return None
    return wire.VerificationWire(
        reference=checked.reference,
        tolerance=checked.tolerance,
        error=checked.error,
        passed=checked.passed,
    )


def _verification_from_wire(view: wire.VerificationWire | None) -> Verification | None:
    if view is None:
        return None
    return Verification(
        reference=view.reference, tolerance=view.tolerance, error=view.error, passed=view.passed
    )
