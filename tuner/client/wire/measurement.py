"""Measurement: what a worker gets and gives, and what its measuring host does."""

from typing import Annotated, Any, Literal, Self

from pydantic import Field, model_validator

from schedules.records import FailureKind, Origin, Purpose
from tuner.client.wire.base import Wire
from tuner.client.wire.views import VerificationWire, WorkloadView

MAX_EPOCH = 2**31 - 1

Epoch = Annotated[int, Field(ge=0, le=MAX_EPOCH)]
RunSecs = Annotated[float, Field(gt=0, allow_inf_nan=False)]


class FailureWire(Wire):
    """A failed build or run."""

    kind: FailureKind
    detail: str


class ResultWire(Wire):
    """What came of one candidate."""

    run_secs: list[RunSecs] = Field(default_factory=list)
    failure: FailureWire | None = None
    censored_secs: RunSecs | None = None
    """Set for a candidate that was given up: no call took less, and the runtimes are too few."""
    duplicate_of: str | None = None
    """Trace id of the candidate with the same code, whose measurement this repeats."""
    build_secs: float | None = None
    verification: VerificationWire | None = None
    conditions: dict[str, str | int] = Field(default_factory=dict)


class CandidateWire(Wire):
    """A candidate to measure."""

    trace: str
    trace_id: str
    origin: Origin = Origin.SEARCH
    predicted_score: float | None = None
    model_version: str | None = None


class WorkloadWire(WorkloadView):
    """A workload as workers need it: the IR is always there."""

    ir: str


class BatchWire(Wire):
    """The candidates to measure together, with all that is needed for it."""

    workload: WorkloadWire
    target: dict[str, Any]
    purpose: Purpose
    candidates: list[CandidateWire]
    incumbent_secs: float | None = None


class RegisterRequest(Wire):
    """Body of ``POST /v1/workers``; registering the same name again takes its place."""

    name: Annotated[str, Field(min_length=1, max_length=200)]
    target: dict[str, Any]
    environment: dict[str, str | int]


class RegisterAnswer(Wire):
    """What a worker is told when it registers."""

    worker_id: str
    target_id: str
    heartbeat_secs: float


class CheckRequest(Wire):
    """Body of ``POST /v1/workers/{id}/checks``: what came of the reference kernel.

    Where it could not be run, `failure` says why.
    """

    boot_id: Annotated[str, Field(min_length=1, max_length=200)]
    run_secs: Annotated[list[RunSecs], Field(max_length=1000)]
    failure: str | None = None

    @model_validator(mode="after")
    def _has_an_outcome(self) -> Self:
        if not self.run_secs and self.failure is None:
            raise ValueError("run_secs may be empty only with a failure")
        return self


class CheckAnswer(Wire):
    """What the server makes of a check."""

    quarantined: str | None
    """Why nothing is leased to the worker, in words; None where it may measure."""
    check_secs: Annotated[float, Field(gt=0, allow_inf_nan=False)]
    """When to check again, in seconds from now."""


class LeaseRequest(Wire):
    """Body of ``POST /v1/workers/{id}/lease``; answered 204 when there is no work in time."""

    wait_secs: Annotated[float, Field(ge=0, le=60)] = 20.0


class LeaseItem(Wire):
    """One candidate of a lease; `item_id` is also the id of the record it becomes."""

    item_id: str
    candidate: CandidateWire


class LeaseAnswer(Wire):
    """A leased batch."""

    lease_id: str
    epoch: int
    ttl_secs: float
    job_id: str
    workload: WorkloadWire
    target: dict[str, Any]
    purpose: Purpose
    incumbent_secs: float | None
    items: list[LeaseItem]


class HeartbeatRequest(Wire):
    """Body of ``POST /v1/leases/{id}/heartbeat``."""

    epoch: Epoch


class HeartbeatAnswer(Wire):
    """What to do with the lease: go on, stop because the job is cancelled, or finish and leave."""

    command: Literal["continue", "cancel", "drain"]
    ttl_secs: float


class ReportedResult(Wire):
    """One measured item."""

    item_id: str
    result: ResultWire


class ResultsRequest(Wire):
    """Body of ``POST /v1/leases/{id}/results``."""

    epoch: Epoch
    worker_id: str
    environment: dict[str, str | int]
    protocol_version: Annotated[int, Field(ge=1, le=MAX_EPOCH)] = 1
    """The measurement protocol; workers that do not say may be as old as the first."""
    results: Annotated[list[ReportedResult], Field(min_length=1, max_length=1000)]


class ResultsAnswer(Wire):
    """What became of each result: stored, or known already."""

    accepted: list[str]
    duplicate: list[str]
    lease_open: bool


class ReleaseRequest(Wire):
    """Body of ``POST /v1/leases/{id}/release``: the worker gives back what it did not measure."""

    epoch: Epoch
