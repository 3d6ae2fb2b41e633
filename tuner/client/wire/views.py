"""What clients get."""

from datetime import datetime
from typing import Any, Generic, Literal, TypeVar

from pydantic import Field

from schedules.records import FailureKind, Origin, Purpose, Tier
from tuner.client.wire.base import Wire

Item = TypeVar("Item")


class VerificationWire(Wire):
    """How an output was checked."""

    reference: str
    tolerance: float
    error: float
    passed: bool


class Page(Wire, Generic[Item]):
    """A part of a list; `next_cursor` asks for the part after it and is None at the end."""

    items: list[Item]
    next_cursor: str | None = None


class ArgumentView(Wire):
    """One named integer argument of an operator; without `default` it must be given."""

    name: str
    default: int | None
    minimum: int
    maximum: int
    aliases: list[str]
    doc: str


class OperatorView(Wire):
    """One operator of the catalogue."""

    name: str
    aliases: list[str]
    summary: str
    arguments: list[ArgumentView]
    dtypes: list[str]


class TensorView(Wire):
    """One parameter of a workload."""

    name: str
    shape: list[int]
    dtype: str
    is_output: bool
    is_constant: bool = False
    index_below: int | None = None


class WorkloadView(Wire):
    """A workload, with its IR where it was asked for."""

    workload_id: str
    name: str
    op: str | None
    args: dict[str, int] | None
    dtype: str | None
    constants: list[str] = Field(default_factory=list)
    tensors: list[TensorView]
    flops: float
    family_id: str | None = None
    ir: str | None = None


class TargetView(Wire):
    """A target."""

    target_id: str
    target: dict[str, Any]


class BestView(Wire):
    """The best that is known of a workload on a target.

    Exact ones were published after a measurement. Others were never measured: the latency and its
    interval are what is expected, `record_id` is that of the neighbour whose trace was adapted, or
    None, and nothing is verified.

    `expected_gain` is the share of the latency that tuning is expected to take off: another batch
    of trials, or tuning at all where nothing was measured; null where nobody can tell.
    """

    tier: Tier
    workload_id: str
    target_id: str
    latency_secs: float
    latency_interval_secs: tuple[float, float]
    default_latency_secs: float | None
    speedup: float | None
    trace: Any
    verified: bool
    record_id: str | None
    environment: dict[str, str | int]
    model_version: str | None
    created_at: datetime
    expected_gain: float | None = None


class JobView(Wire):
    """The state of a job."""

    id: str
    state: Literal["queued", "running", "done", "failed", "cancelled"]
    workload_id: str
    target_id: str
    attached: bool = False
    trials_done: int
    trials_budget: int | None
    seconds_budget: float | None = None
    least_gain: float | None = None
    priority: int = 0
    space: str = "default"
    failures: dict[FailureKind, int]
    best: BestView | None
    error: str | None
    waiting_for: str | None = None
    """Why a queued or running job does not progress, in words; None where it does."""
    created_at: datetime
    finished_at: datetime | None = None
    budget_id: str | None = None
    """The shared budget whose bounds are shown; None where the job has a budget of its own."""
    weight: float = 1.0


class SharedBudgetView(Wire):
    """A budget that several jobs spend together, and how far they are."""

    id: str
    state: Literal["queued", "running", "done", "failed", "cancelled"]
    trials_done: int
    trials_budget: int | None
    seconds_budget: float | None
    jobs: list[JobView]
    """In the order of the request, equal workloads once."""
    created_at: datetime


class RecordView(Wire):
    """A tuning record."""

    record_id: str
    workload_id: str
    target_id: str
    job_id: str | None
    worker_id: str | None
    purpose: Purpose
    origin: Origin
    trace: Any
    trace_id: str
    run_secs: list[float]
    latency_secs: float | None
    censored_secs: float | None = None
    """Set, without a latency, where timing was given up as clearly slow: no call took less."""
    duplicate_of: str | None = None
    """Trace id of the candidate with the same code, whose measurement this repeats."""
    build_secs: float | None
    failure: FailureKind | None
    failure_detail: str | None
    verification: VerificationWire | None
    predicted_score: float | None
    model_version: str | None
    protocol_version: int
    environment: dict[str, str | int]
    created_at: datetime
    set_aside: bool = False
    """Whether it counts for nothing at present, because its device is under suspicion."""
    operator: str | None = None
    """What the workload was known as when this was stored; None for a program sent as IR."""


class TrialView(Wire):
    """A tuning record without its trace: the data of a ``trial`` event."""

    record_id: str
    worker_id: str | None
    purpose: Purpose
    origin: Origin
    latency_secs: float | None
    censored_secs: float | None = None
    failure: FailureKind | None
    created_at: datetime


class WorkerView(Wire):
    """A registered worker."""

    worker_id: str
    name: str
    target_id: str
    target: dict[str, Any]
    environment: dict[str, str | int]
    state: Literal["idle", "busy", "draining", "quarantined", "offline"]
    quarantined: str | None = None
    """Why it may not measure; its records since its last good check are set aside."""
    last_seen_at: datetime
    registered_at: datetime


class CheckView(Wire):
    """A sign of a worker's health: a run of the reference kernel, or a mishap."""

    check_id: str
    worker_id: str
    kind: Literal["reference", "expiry", "crash"]
    passed: bool
    problem: str | None
    latency_secs: float | None
    spread: float | None
    baseline_secs: float | None
    checked_at: datetime


class ImportAnswer(Wire):
    """What became of imported records."""

    stored: int
    known: int
    """Records that were in the database before."""
    published: int
    """How many (workload, target) pairs have a new best."""


class HealthView(Wire):
    """Answer of ``GET /healthz`` and ``GET /readyz``."""

    status: Literal["ok"]
    version: str


class ErrorView(Wire):
    """Body of every error answer."""

    error: str
    detail: str
