"""The values that the store takes and returns, beside those of `schedules.records`."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Generic, TypeVar

from schedules.records import Candidate, Environment, FailureKind, Purpose
from schedules.target import Target
from schedules.workload import Workload

T_co = TypeVar("T_co", covariant=True)


class JobState(StrEnum):
    """Where a job stands."""

    QUEUED = "queued"
    RUNNING = "running"
    DONE = "done"
    FAILED = "failed"
    CANCELLED = "cancelled"

    @property
    def active(self) -> bool:
        """Whether the job still wants measurements."""
        return self in ACTIVE_STATES


ACTIVE_STATES = (JobState.QUEUED, JobState.RUNNING)


class JobPhase(StrEnum):
    """What the next batch of a job is for."""

    SEARCH = "search"
    FINAL = "final"


class BatchState(StrEnum):
    """Where a batch stands."""

    READY = "ready"
    """Waits for a worker; its job is active."""
    LEASED = "leased"
    DONE = "done"
    """Every item is recorded."""
    SPLIT = "split"
    """Came back unfinished; its open items wait in batches of their own."""
    CANCELLED = "cancelled"
    DEAD = "dead"
    """Came back unfinished too often; its open items are recorded as lost."""


OPEN_STATES = (BatchState.READY, BatchState.LEASED)


class ItemState(StrEnum):
    """Where an item of a batch stands."""

    OPEN = "open"
    DONE = "done"
    """A tuning record with the item's id exists."""
    POISON = "poison"
    """Took its worker down too often; recorded as `FailureKind.WORKER_LOST`."""
    CANCELLED = "cancelled"


class WorkerState(StrEnum):
    """What a worker does."""

    IDLE = "idle"
    BUSY = "busy"
    DRAINING = "draining"
    QUARANTINED = "quarantined"
    """Is there, but gets nothing to measure: its timing cannot be trusted."""
    OFFLINE = "offline"


class CheckKind(StrEnum):
    """What told of a worker's health."""

    REFERENCE = "reference"
    """A run of the reference kernel."""
    EXPIRY = "expiry"
    """A lease that was lost with candidates that no worker was lost with before."""
    CRASH = "crash"
    """A candidate that failed here and is known to run on another worker of the target."""


class Command(StrEnum):
    """What a heartbeat tells a worker."""

    CONTINUE = "continue"
    CANCEL = "cancel"
    """Stop: nobody waits for the rest of the batch."""
    DRAIN = "drain"
    """Finish the batch and leave."""


@dataclass(frozen=True, kw_only=True)
class JobSpec:
    """What is asked for.

    Attributes
    ----------
    workload_id, target_id : str
        What to tune, and for what.
    trials : int or None
        Stop after so many trials.
    seconds : float or None
        Stop after so many seconds; at least one of the two bounds is set.
    least_gain : float or None
        Stop when the next batch is expected to make the best faster by a smaller share.
    priority : int
        Larger goes first.
    space : str
        The schedule space.
    seed : int or None
        Makes the search reproducible.
    submitter : str
        Whose share of the fleet it takes.
    budget_id : str or None
        Where trials and seconds are those of several jobs together, their budget.
    weight : float
        How much a second of this workload counts among those that share its budget.
    """

    workload_id: str
    target_id: str
    trials: int | None
    seconds: float | None
    priority: int
    space: str
    seed: int | None
    submitter: str = ""
    least_gain: float | None = None
    budget_id: str | None = None
    weight: float = 1.0


@dataclass(frozen=True, kw_only=True)
class Job:
    """A request to tune one workload, and how far it is.

    Attributes
    ----------
    job_id : str
        Sorts by time of submission.
    spec : JobSpec
        What is asked for; later equal requests may have raised its budget.
    state, phase : JobState, JobPhase
        Where it stands.
    trials_done : int
        Trials recorded, failed ones too.
    failures : Mapping[FailureKind, int]
        How many of its records failed, by kind.
    error : str or None
        Why it failed.
    created_at, started_at, finished_at : datetime or None
        Timezone-aware UTC.
    worth_secs : float or None
        What its next batch is expected to save, if it shares a budget; None until that is told.
    """

    job_id: str
    spec: JobSpec
    state: JobState
    phase: JobPhase
    trials_done: int
    failures: Mapping[FailureKind, int]
    error: str | None
    created_at: datetime
    started_at: datetime | None
    finished_at: datetime | None
    worth_secs: float | None = None


@dataclass(frozen=True, kw_only=True)
class SharedBudget:
    """A budget that several jobs spend together.

    Attributes
    ----------
    budget_id : str
        Sorts by time of submission.
    trials, seconds : int or None, float or None
        For all of them; at least one of the two bounds is set.
    jobs : tuple of Job
        In the order of the request.
    created_at : datetime
        Timezone-aware UTC.
    """

    budget_id: str
    trials: int | None
    seconds: float | None
    jobs: tuple[Job, ...]
    created_at: datetime

    @property
    def trials_done(self) -> int:
        """Trials recorded, failed ones too."""
        return sum(job.trials_done for job in self.jobs)

    @property
    def state(self) -> JobState:
        """Running until all jobs have ended, and done only if all of them are."""
        states = {job.state for job in self.jobs}
        if len(states) == 1:
            return states.pop()
        if states & set(ACTIVE_STATES):
            return JobState.RUNNING
        return JobState.FAILED if JobState.FAILED in states else JobState.CANCELLED


@dataclass(frozen=True, kw_only=True)
class Claim:
    """A job whose next step is its owner's to take.

    Attributes
    ----------
    job : Job
        The job.
    elapsed_secs : float
        Since it was started, or the first of those that share its budget, by the database's clock.
    trials_left : int or None
        Of its budget, or of the one that it shares; None where trials are not bounded.
    """

    job: Job
    elapsed_secs: float
    trials_left: int | None


@dataclass(frozen=True, kw_only=True)
class Page(Generic[T_co]):
    """Some items of a listing; `next_cursor` leads to those after them, None at the end."""

    items: tuple[T_co, ...]
    next_cursor: str | None


@dataclass(frozen=True, kw_only=True)
class LeasedItem:
    """A candidate of a lease; `item_id` is also the id of the record that it becomes."""

    item_id: str
    candidate: Candidate


@dataclass(frozen=True, kw_only=True)
class Lease:
    """The right of one worker to measure one batch for `ttl_secs` from now.

    Attributes
    ----------
    lease_id : str
        The batch.
    epoch : int
        Fences this lease off from earlier ones of the same batch.
    items : tuple of LeasedItem
        The items that are not recorded yet.
    waited_secs : float
        How long it could have been leased before.
    """

    lease_id: str
    epoch: int
    ttl_secs: float
    job_id: str
    workload: Workload
    target: Target
    purpose: Purpose
    incumbent_secs: float | None
    items: tuple[LeasedItem, ...]
    waited_secs: float = 0.0


@dataclass(frozen=True, kw_only=True)
class Report:
    """What became of reported results.

    Attributes
    ----------
    accepted, duplicate : tuple of str
        Item ids that were stored now, and those that were recorded before.
    lease_open : bool
        Whether the reporting lease still holds; False after its last item.
    """

    accepted: tuple[str, ...]
    duplicate: tuple[str, ...]
    lease_open: bool


@dataclass(frozen=True, kw_only=True)
class Check:
    """A sign of a worker's health.

    Attributes
    ----------
    check_id, worker_id : str
        Its own id, and whose health it tells of.
    kind : CheckKind
        What was seen.
    passed : bool
        Whether the worker may be trusted after it.
    problem : str or None
        What is wrong, in words; a worker that is not held to it passes all the same.
    latency_secs, spread : float or None
        Median of the reference kernel's runs, and their interquartile range over it.
    baseline_secs : float or None
        The latency that it was compared with.
    checked_at : datetime
        By the database's clock.
    """

    check_id: str
    worker_id: str
    kind: CheckKind
    passed: bool
    problem: str | None
    latency_secs: float | None
    spread: float | None
    baseline_secs: float | None
    checked_at: datetime


@dataclass(frozen=True, kw_only=True)
class Worker:
    """A registered worker.

    Attributes
    ----------
    worker_id, name : str
        The name stands for one worker; the id is the server's.
    target, environment : Target, Environment
        What it measures for, and with what.
    state : WorkerState
        What it does now.
    quarantined : str or None
        Why it may not measure, in words.
    last_seen_at, registered_at : datetime
        When it last said something, and when its name was first seen.
    """

    worker_id: str
    name: str
    target: Target
    environment: Environment
    state: WorkerState
    quarantined: str | None
    last_seen_at: datetime
    registered_at: datetime


@dataclass(frozen=True, kw_only=True)
class BatchProgress:
    """What a job waits for.

    Attributes
    ----------
    open_batches : int
        Batches that are ready or leased.
    open_items : int
        Their items that are not recorded yet.
    leased_batches : int
        Those that a worker has now.
    """

    open_batches: int
    open_items: int
    leased_batches: int
