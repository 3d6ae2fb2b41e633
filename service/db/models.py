"""Tables. The schema itself is made by the migrations; a test holds the two together."""

from datetime import datetime
from typing import Any

from sqlalchemy import BigInteger, ForeignKey, Index, bindparam, text
from sqlalchemy.orm import Mapped, mapped_column

from schedules.records import FailureKind, Origin, Purpose, Tier
from service.db.columns import Base as Base
from service.db.columns import FreeText, choice
from service.db.count_rows import CountRow as CountRow
from service.db.model_rows import FeatureRow as FeatureRow
from service.db.values import (
    ACTIVE_STATES,
    BatchState,
    CheckKind,
    ItemState,
    JobPhase,
    JobState,
)


class WorkloadRow(Base):
    """A workload; its IR is stored here and nowhere else."""

    __tablename__ = "workloads"
    workload_id: Mapped[str] = mapped_column(primary_key=True)
    name: Mapped[str]
    ir: Mapped[str]
    tensors: Mapped[list[Any]]
    flops: Mapped[float]
    call: Mapped[dict[str, Any] | None]
    created_at: Mapped[datetime]
    family_id: Mapped[str | None]
    __table_args__ = (Index(None, "created_at", "workload_id"), Index(None, "family_id"))


class WorkloadCallRow(Base):
    """The short name of a workload: an operator call."""

    __tablename__ = "workload_calls"
    call_key: Mapped[str] = mapped_column(primary_key=True)
    workload_id: Mapped[str] = mapped_column(ForeignKey("workloads.workload_id"))


class TargetRow(Base):
    """A target."""

    __tablename__ = "targets"
    target_id: Mapped[str] = mapped_column(primary_key=True)
    description: Mapped[dict[str, Any]]
    created_at: Mapped[datetime]
    __table_args__ = (Index(None, "created_at", "target_id"),)


class WorkerRow(Base):
    """A worker, by its name; `quarantined` says why it may not measure."""

    __tablename__ = "workers"
    worker_id: Mapped[str] = mapped_column(primary_key=True)
    name: Mapped[str]
    target_id: Mapped[str] = mapped_column(ForeignKey("targets.target_id"))
    environment: Mapped[dict[str, Any]]
    draining: Mapped[bool]
    quarantined: Mapped[str | None] = mapped_column(FreeText)
    quarantined_at: Mapped[datetime | None]
    last_seen_at: Mapped[datetime]
    registered_at: Mapped[datetime]
    __table_args__ = (
        Index("uq_workers_name", "name", unique=True),
        Index(None, "registered_at", "worker_id"),
        Index(None, "last_seen_at"),
    )


_MISHAP = text("kind != 'reference'")


class CheckRow(Base):
    """One sign of a worker's health: a run of the reference kernel, or a mishap."""

    __tablename__ = "worker_checks"
    check_id: Mapped[str] = mapped_column(primary_key=True)
    worker_id: Mapped[str] = mapped_column(ForeignKey("workers.worker_id"))
    kind: Mapped[CheckKind] = mapped_column(choice(CheckKind, constraint="kind"))
    checked_at: Mapped[datetime]
    passed: Mapped[bool]
    problem: Mapped[str | None] = mapped_column(FreeText)
    boot_id: Mapped[str | None]
    environment_id: Mapped[str | None]
    latency_secs: Mapped[float | None]
    spread: Mapped[float | None]
    baseline_secs: Mapped[float | None]
    __table_args__ = (
        Index(None, "worker_id", "checked_at", "check_id"),
        Index(
            "ix_worker_checks_mishaps",
            "checked_at",
            "worker_id",
            sqlite_where=_MISHAP,
            postgresql_where=_MISHAP,
        ),
    )


class ShareRow(Base):
    """How many candidates of a submitter were queued for a target; see `service.db.shares`."""

    __tablename__ = "shares"
    target_id: Mapped[str] = mapped_column(ForeignKey("targets.target_id"), primary_key=True)
    submitter: Mapped[str] = mapped_column(primary_key=True)
    served: Mapped[int] = mapped_column(BigInteger)


_ACTIVE = text("state IN ('queued', 'running')")


class JobRow(Base):
    """A job. `flight_key` is equal for jobs that ask for the same.

    `measuring` is whether one of its batches is ready or leased: then it needs no orchestrator.
    `worth_secs` is what the next batch of one that shares a budget is expected to save; None until
    an orchestrator has told so after the last one.
    """

    __tablename__ = "jobs"
    job_id: Mapped[str] = mapped_column(primary_key=True)
    workload_id: Mapped[str] = mapped_column(ForeignKey("workloads.workload_id"))
    target_id: Mapped[str] = mapped_column(ForeignKey("targets.target_id"))
    operator: Mapped[str | None]
    trials: Mapped[int | None]
    seconds: Mapped[float | None]
    least_gain: Mapped[float | None]
    priority: Mapped[int]
    submitter: Mapped[str]
    space: Mapped[str]
    seed: Mapped[int | None] = mapped_column(BigInteger)
    flight_key: Mapped[str]
    state: Mapped[JobState] = mapped_column(choice(JobState, constraint="state"))
    phase: Mapped[JobPhase] = mapped_column(choice(JobPhase, constraint="phase"))
    trials_done: Mapped[int]
    error: Mapped[str | None] = mapped_column(FreeText)
    measuring: Mapped[bool]
    created_at: Mapped[datetime]
    started_at: Mapped[datetime | None]
    finished_at: Mapped[datetime | None]
    owner: Mapped[str | None]
    owner_until: Mapped[datetime | None]
    claimed_at: Mapped[datetime | None]
    epoch: Mapped[int] = mapped_column(BigInteger)
    budget_id: Mapped[str | None]
    weight: Mapped[float | None]
    worth_secs: Mapped[float | None]
    __table_args__ = (
        # Single flight.
        Index(
            "uq_jobs_active_flight_key",
            "flight_key",
            unique=True,
            sqlite_where=_ACTIVE,
            postgresql_where=_ACTIVE,
        ),
        Index(None, "created_at", "job_id"),
        Index(None, "state", "created_at", "job_id"),
        Index(None, "owner"),
        Index(None, "budget_id"),
    )


class BudgetRow(Base):
    """What several jobs may spend together."""

    __tablename__ = "budgets"
    budget_id: Mapped[str] = mapped_column(primary_key=True)
    trials: Mapped[int | None]
    seconds: Mapped[float | None]
    created_at: Mapped[datetime]


class IdempotencyKeyRow(Base):
    """Which job a client's key stands for, and what was asked for with it."""

    __tablename__ = "idempotency_keys"
    key: Mapped[str] = mapped_column(primary_key=True)
    job_id: Mapped[str] = mapped_column(ForeignKey("jobs.job_id"))
    spec_hash: Mapped[str]
    created_at: Mapped[datetime]


_READY = text("state = 'ready'")
_LEASED = text("state = 'leased'")


class BatchRow(Base):
    """A batch, and at most one lease on it at a time; the lease's id is the batch's.

    `precedence` is the job's priority negated, so that one index has the order of leasing; `turn`
    is its place among the submitters.
    """

    __tablename__ = "batches"
    batch_id: Mapped[str] = mapped_column(primary_key=True)
    job_id: Mapped[str] = mapped_column(ForeignKey("jobs.job_id"))
    split_from: Mapped[str | None] = mapped_column(ForeignKey("batches.batch_id"))
    target_id: Mapped[str] = mapped_column(ForeignKey("targets.target_id"))
    precedence: Mapped[int]
    turn: Mapped[int] = mapped_column(BigInteger)
    purpose: Mapped[Purpose] = mapped_column(choice(Purpose))
    incumbent_secs: Mapped[float | None]
    state: Mapped[BatchState] = mapped_column(choice(BatchState, constraint="state"))
    attempt: Mapped[int]
    epoch: Mapped[int] = mapped_column(BigInteger)
    not_before: Mapped[datetime]
    lease_until: Mapped[datetime | None]
    worker_id: Mapped[str | None] = mapped_column(ForeignKey("workers.worker_id"))
    created_at: Mapped[datetime]
    __table_args__ = (
        # Device exclusivity: a worker holds at most one lease.
        Index(
            "uq_batches_leased_worker_id",
            "worker_id",
            unique=True,
            sqlite_where=_LEASED,
            postgresql_where=_LEASED,
        ),
        Index(
            "ix_batches_ready",
            "target_id",
            "precedence",
            "turn",
            "created_at",
            "batch_id",
            sqlite_where=_READY,
            postgresql_where=_READY,
        ),
        Index(
            "ix_batches_lease_until",
            "lease_until",
            sqlite_where=_LEASED,
            postgresql_where=_LEASED,
        ),
        Index(None, "job_id", "state"),
    )


class ItemRow(Base):
    """One candidate of a batch.

    `batch_id` is the batch in which it waits now, `origin_batch_id` the one it was enqueued in;
    `lost_with` is the first worker that was lost with it.
    """

    __tablename__ = "batch_items"
    item_id: Mapped[str] = mapped_column(primary_key=True)
    batch_id: Mapped[str] = mapped_column(ForeignKey("batches.batch_id"), index=True)
    origin_batch_id: Mapped[str] = mapped_column(ForeignKey("batches.batch_id"), index=True)
    trace: Mapped[str]
    trace_id: Mapped[str]
    origin: Mapped[Origin] = mapped_column(choice(Origin))
    predicted_score: Mapped[float | None]
    model_version: Mapped[str | None]
    state: Mapped[ItemState] = mapped_column(choice(ItemState, constraint="state"))
    losses: Mapped[int]
    lost_with: Mapped[str | None]


_FAILED = text("failure IS NOT NULL")
_FINAL = text("purpose = 'final'")
_SET_ASIDE = text("set_aside_at IS NOT NULL")


class RecordRow(Base):
    """A tuning record; one that is set aside counts for nothing until its worker is cleared.

    `job_id` and `worker_id` are no foreign keys: an imported record's come from elsewhere.
    """

    __tablename__ = "records"
    record_id: Mapped[str] = mapped_column(primary_key=True)
    workload_id: Mapped[str] = mapped_column(ForeignKey("workloads.workload_id"))
    target_id: Mapped[str] = mapped_column(ForeignKey("targets.target_id"))
    operator: Mapped[str | None]
    job_id: Mapped[str | None]
    worker_id: Mapped[str | None]
    purpose: Mapped[Purpose] = mapped_column(choice(Purpose))
    trace: Mapped[str]
    trace_id: Mapped[str]
    origin: Mapped[Origin] = mapped_column(choice(Origin))
    predicted_score: Mapped[float | None]
    model_version: Mapped[str | None]
    run_secs: Mapped[list[Any]]
    latency_secs: Mapped[float | None]
    censored_secs: Mapped[float | None]
    duplicate_of: Mapped[str | None]
    build_secs: Mapped[float | None]
    failure: Mapped[FailureKind | None] = mapped_column(choice(FailureKind))
    failure_detail: Mapped[str | None] = mapped_column(FreeText)
    verification: Mapped[dict[str, Any] | None]
    environment: Mapped[dict[str, Any]]
    protocol_version: Mapped[int]
    created_at: Mapped[datetime]
    set_aside_at: Mapped[datetime | None]
    __table_args__ = (
        Index(None, "created_at", "record_id"),
        Index(None, "workload_id", "created_at", "record_id"),
        Index(None, "workload_id", "target_id", "created_at", "record_id"),
        Index(None, "target_id", "created_at", "record_id"),
        Index(None, "job_id", "created_at", "record_id"),
        Index(None, "worker_id", "created_at", "record_id"),
        Index(None, "operator", "created_at", "record_id"),
        Index(
            "ix_records_failure",
            "failure",
            "created_at",
            "record_id",
            sqlite_where=_FAILED,
            postgresql_where=_FAILED,
        ),
        Index(
            "ix_records_job_failure",
            "job_id",
            "failure",
            sqlite_where=_FAILED,
            postgresql_where=_FAILED,
        ),
        Index(
            "ix_records_finals",
            "workload_id",
            "target_id",
            "created_at",
            "record_id",
            sqlite_where=_FINAL,
            postgresql_where=_FINAL,
        ),
        Index(
            "ix_records_set_aside",
            "worker_id",
            sqlite_where=_SET_ASIDE,
            postgresql_where=_SET_ASIDE,
        ),
    )


class BestRow(Base):
    """The published record of a workload on a target; `first_at` keeps its place in listings."""

    __tablename__ = "bests"
    workload_id: Mapped[str] = mapped_column(ForeignKey("workloads.workload_id"), primary_key=True)
    target_id: Mapped[str] = mapped_column(ForeignKey("targets.target_id"), primary_key=True)
    tier: Mapped[Tier] = mapped_column(choice(Tier))
    latency_secs: Mapped[float]
    latency_low_secs: Mapped[float]
    latency_high_secs: Mapped[float]
    default_latency_secs: Mapped[float | None]
    trace: Mapped[str]
    trace_id: Mapped[str]
    verified: Mapped[bool]
    record_id: Mapped[str]
    environment: Mapped[dict[str, Any]]
    model_version: Mapped[str | None]
    created_at: Mapped[datetime]
    job_id: Mapped[str | None]
    first_at: Mapped[datetime]
    expected_gain: Mapped[float | None]
    __table_args__ = (
        Index(None, "first_at", "workload_id", "target_id"),
        Index(None, "target_id", "first_at"),
    )


# Written out in the statement: SQLite does not use a partial index for a bound value.
IS_ACTIVE = JobRow.state.in_(
    bindparam("active", ACTIVE_STATES, expanding=True, literal_execute=True)
)
IS_READY = BatchRow.state == bindparam("ready", BatchState.READY, literal_execute=True)
IS_LEASED = BatchRow.state == bindparam("leased", BatchState.LEASED, literal_execute=True)
IS_FINAL = RecordRow.purpose == bindparam("final", Purpose.FINAL, literal_execute=True)
