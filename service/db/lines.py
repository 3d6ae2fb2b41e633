"""What `service.db.readings` returns: the lean values that a line or a point of a page shows."""

from dataclasses import dataclass
from datetime import datetime

from schedules.records import FailureKind, Origin, Purpose, Tier
from service.db.values import JobState


@dataclass(frozen=True, kw_only=True)
class TrialLine:
    """A tuning record without its trace and environment."""

    record_id: str
    worker_id: str | None
    purpose: Purpose
    origin: Origin
    predicted_score: float | None
    model_version: str | None
    latency_secs: float | None
    censored_secs: float | None
    duplicate_of: str | None
    build_secs: float | None
    failure: FailureKind | None
    created_at: datetime
    set_aside: bool


@dataclass(frozen=True, kw_only=True)
class StepLine:
    """One batch of a job, from when it was queued to its last record; None where it has none."""

    purpose: Purpose
    queued_at: datetime
    ended_at: datetime | None
    records: int


@dataclass(frozen=True, kw_only=True)
class JobLine:
    """A job with the name of its workload and the published best of what it tunes.

    `best_job_id` is the job that found that best, `trials` what it may spend by itself.
    """

    job_id: str
    workload_id: str
    name: str
    flops: float
    target_id: str
    state: JobState
    trials: int | None
    seconds: float | None
    trials_done: int
    failed: int
    submitter: str
    latency_secs: float | None
    default_latency_secs: float | None
    best_job_id: str | None
    created_at: datetime
    started_at: datetime | None
    finished_at: datetime | None

    @property
    def speedup(self) -> float | None:
        """Default latency over the best's, None where either is unknown."""
        return speedup(self.latency_secs, self.default_latency_secs)


@dataclass(frozen=True, kw_only=True)
class BestLine:
    """A published best without its trace and environment."""

    workload_id: str
    name: str
    flops: float
    target_id: str
    tier: Tier
    latency_secs: float
    latency_low_secs: float
    latency_high_secs: float
    default_latency_secs: float | None
    verified: bool
    record_id: str
    job_id: str | None
    created_at: datetime

    @property
    def speedup(self) -> float | None:
        """Default latency over the best's, None where no default was measured."""
        return speedup(self.latency_secs, self.default_latency_secs)


@dataclass(frozen=True, kw_only=True)
class WorkloadLine:
    """A workload and what is known of it; `speedup` is the largest on any target."""

    workload_id: str
    name: str
    flops: float
    created_at: datetime
    targets: int
    speedup: float | None
    tuned_at: datetime | None


@dataclass(frozen=True, kw_only=True)
class FinalLine:
    """A finalist's re-measurement."""

    record_id: str
    job_id: str | None
    origin: Origin
    run_secs: tuple[float, ...]
    latency_secs: float
    passed: bool
    created_at: datetime


@dataclass(frozen=True, kw_only=True)
class ActivityLine:
    """How many records a worker reported in one minute, by what became of them.

    `minute` counts from the epoch.
    """

    worker_id: str | None
    minute: int
    failure: FailureKind | None
    records: int


@dataclass(frozen=True, kw_only=True)
class ScoreLine:
    """What a version of the cost model said of a candidate, and what was measured."""

    model_version: str
    workload_id: str
    target_id: str
    predicted_score: float
    latency_secs: float | None
    created_at: datetime


@dataclass(frozen=True, kw_only=True)
class FastestLine:
    """The fastest of a worker's trials of one workload on one target."""

    workload_id: str
    name: str
    flops: float
    target_id: str
    latency_secs: float
    records: int


def speedup(latency_secs: float | None, default_secs: float | None) -> float | None:
    """Return default latency over latency, None where either is unknown."""
    return default_secs / latency_secs if latency_secs and default_secs else None
