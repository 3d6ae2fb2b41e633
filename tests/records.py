"""Tuning records for tests."""

import uuid
from datetime import UTC, datetime

from schedules.records import (
    Candidate,
    Environment,
    Failure,
    FailureKind,
    MeasureResult,
    Origin,
    Purpose,
    TuningRecord,
    Verification,
    trace_id,
)
from schedules.target import Target

TARGET = Target.parse({"kind": "llvm", "mcpu": "x86-64", "num-cores": 2})
WORKLOAD_ID = "a" * 64


def candidate(number: int, *, origin: Origin = Origin.SEARCH, padding: int = 0) -> Candidate:
    """A candidate whose trace is distinct and as long as wanted."""
    trace = f"[[[{number}{',0' * padding}]],[]]"
    return Candidate(trace=trace, trace_id=trace_id(trace), origin=origin)


def record(
    measured: Candidate,
    *run_secs: float,
    purpose: Purpose = Purpose.TRIAL,
    passed: bool | None = None,
    failure: FailureKind | None = None,
) -> TuningRecord:
    """A record of one candidate on a workload and target that are the same for all."""
    verification = None
    if passed is not None:
        verification = Verification(
            reference="numpy", tolerance=1e-5, error=0.0 if passed else 1.0, passed=passed
        )
    if passed is False:
        failure = FailureKind.WRONG_OUTPUT
    return TuningRecord(
        record_id=uuid.uuid4().hex,
        workload_id=WORKLOAD_ID,
        target_id=TARGET.target_id,
        candidate=measured,
        purpose=purpose,
        result=MeasureResult(
            run_secs=() if failure else run_secs,
            failure=Failure(kind=failure, detail="for a test") if failure else None,
            verification=verification,
        ),
        environment=Environment(),
        created_at=datetime.now(UTC),
    )
