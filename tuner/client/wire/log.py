"""What the tuning log is asked for, and what it answers; records themselves are in `views`."""

import re
from datetime import UTC, datetime
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BeforeValidator, Field, WithJsonSchema

from schedules.records import FailureKind, Origin, Purpose
from tuner.client.wire.base import Wire

NONE = "none"
"""In place of an operator: programs that came as IR. In place of a failure: no failure."""

MAX_LIMIT = 1000
MAX_CURSOR = 1000

_FAILURES = (NONE, *(kind.value for kind in FailureKind))


def _keep_plus(value: Any) -> Any:
    """Undo what a query string makes of the plus in ``+00:00`` when it is not escaped."""
    return re.sub(r" (\d\d:?\d\d)$", r"+\1", value) if isinstance(value, str) else value


def _in_utc(time: datetime) -> datetime:
    try:
        return time.replace(tzinfo=UTC) if time.tzinfo is None else time.astimezone(UTC)
    except OverflowError:
        raise ValueError("the time is out of range") from None


def _known_failure(value: str) -> str:
    if value not in _FAILURES:
        raise ValueError(f"there is no failure {value[:50]!r}; it is one of {', '.join(_FAILURES)}")
    return value


# Ids are opaque; longer ones than any of ours cannot exist.
_Name = Annotated[str, Field(min_length=1, max_length=200)]
_Time = Annotated[datetime, BeforeValidator(_keep_plus), AfterValidator(_in_utc)]
_Secs = Annotated[float, Field(ge=0, allow_inf_nan=False)]
_Failure = Annotated[
    str,
    AfterValidator(_known_failure),
    WithJsonSchema({"type": "string", "enum": list(_FAILURES)}),
]


class RecordQuery(Wire):
    """Which tuning records are meant; all conditions have to hold."""

    workload_id: Annotated[_Name | None, Field(description="Of this workload.")] = None
    target_id: Annotated[_Name | None, Field(description="For this target.")] = None
    job_id: Annotated[_Name | None, Field(description="Of this job.")] = None
    worker_id: Annotated[_Name | None, Field(description="Measured by this worker.")] = None
    operator: Annotated[
        _Name | None,
        Field(description="Of workloads of this operator; 'none' for programs sent as IR."),
    ] = None
    failure: Annotated[
        _Failure | None,
        Field(description="Failed in this way; 'none' for those that did not fail."),
    ] = None
    since: Annotated[
        _Time | None, Field(description="From this time on: ISO 8601, UTC where no zone is given.")
    ] = None
    until: Annotated[_Time | None, Field(description="Before this time.")] = None
    device: Annotated[
        _Name | None, Field(description="Measured on this model, the environment's 'device'.")
    ] = None
    latency_min_secs: Annotated[_Secs | None, Field(description="At least this slow.")] = None
    latency_max_secs: Annotated[_Secs | None, Field(description="At most this slow.")] = None
    trace_id: Annotated[_Name | None, Field(description="Of this trace.")] = None
    purpose: Annotated[Purpose | None, Field(description="Measured for this.")] = None
    origin: Annotated[Origin | None, Field(description="Candidates from there.")] = None
    space: Annotated[_Name | None, Field(description="Of jobs with this schedule space.")] = None
    model_version: Annotated[
        _Name | None, Field(description="Proposed by this version of the cost model.")
    ] = None
    protocol_version: Annotated[
        Annotated[int, Field(ge=0, lt=2**31)] | None,
        Field(description="Measured by this version of the protocol; 0 for imports."),
    ] = None
    censored: Annotated[
        bool | None, Field(description="Whether there is only a bound on the latency.")
    ] = None
    verified: Annotated[bool | None, Field(description="Whether the output was checked.")] = None
    set_aside: Annotated[
        bool | None, Field(description="Whether it counts for nothing at present.")
    ] = None


class RecordPageQuery(RecordQuery):
    """Query of ``GET /v1/records``."""

    limit: Annotated[
        int, Field(ge=1, le=MAX_LIMIT, description="Largest number of items in the page.")
    ] = 100
    cursor: Annotated[
        str | None,
        Field(max_length=MAX_CURSOR, description="The `next_cursor` of the page before."),
    ] = None


class SummaryQuery(RecordQuery):
    """Query of ``GET /v1/records/summary``."""

    group_by: Annotated[
        Literal["operator", "target", "worker", "failure", "day"],
        Field(description="What the records of a group have in common."),
    ]
    limit: Annotated[int, Field(ge=1, le=MAX_LIMIT, description="Largest number of groups.")] = 100


class QuantilesView(Wire):
    """Quantiles of latencies in seconds."""

    p10: float
    p50: float
    p90: float


class GroupView(Wire):
    """What the records of one group came to."""

    key: str | None
    """None for programs that came as IR, imported records, and records that did not fail."""
    records: int
    measured: int
    """Records with a latency."""
    censored: int
    """Records with only a bound on it."""
    failures: dict[FailureKind, int]
    latency_secs: QuantilesView | None


class SummaryView(Wire):
    """Answer of ``GET /v1/records/summary``."""

    group_by: Literal["operator", "target", "worker", "failure", "day"]
    groups: list[GroupView]
    """The largest first, or the newest days."""
    left_out: int
    """How many more groups there are."""
    relative_error: float
    """By so much of itself a quantile may be wrong."""
    source: Literal["counters", "records"]
    """Whether counters answered, or records were looked at, the newest ones."""
    complete: bool
    """Whether all records that are meant are in it; if not, there were too many to look at."""
