"""Which records and jobs are asked for."""

from dataclasses import dataclass
from datetime import datetime

from schedules.records import FailureKind, Origin, Purpose
from service.db.values import JobState


@dataclass(frozen=True, kw_only=True)
class RecordFilter:
    """Which tuning records are meant; None does not restrict.

    Attributes
    ----------
    from_ir : bool
        Only records of programs that came as IR, which have no operator.
    failed : bool or None
        Only records that failed, whatever the kind, or only those that did not.
    since, until : datetime or None
        When they were stored: from `since` on, before `until`.
    latency_min_secs, latency_max_secs : float or None
        Bounds of the latency, both inclusive; records without a latency are then left out.
    device : str or None
        Model of the device, as the environment names it.
    space : str or None
        Schedule space of the job.
    """

    workload_id: str | None = None
    target_id: str | None = None
    job_id: str | None = None
    worker_id: str | None = None
    trace_id: str | None = None
    operator: str | None = None
    from_ir: bool = False
    device: str | None = None
    space: str | None = None
    purpose: Purpose | None = None
    origin: Origin | None = None
    failure: FailureKind | None = None
    failed: bool | None = None
    censored: bool | None = None
    verified: bool | None = None
    set_aside: bool | None = None
    model_version: str | None = None
    protocol_version: int | None = None
    latency_min_secs: float | None = None
    latency_max_secs: float | None = None
    since: datetime | None = None
    until: datetime | None = None


@dataclass(frozen=True, kw_only=True)
class JobQuery:
    """Which jobs to list, and in which order; None does not restrict.

    Attributes
    ----------
    text : str or None
        Part of the workload's name, or of the job's id.
    sort : str
        One of `service.db.job_readings.JOB_ORDERS`.
    """

    job_id: str | None = None
    budget_id: str | None = None
    state: JobState | None = None
    workload_id: str | None = None
    target_id: str | None = None
    submitter: str | None = None
    text: str | None = None
    sort: str = "created"
    descending: bool = True
