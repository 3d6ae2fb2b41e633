"""The values of summaries of the tuning log, beside those of `service.db.values`."""

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum

from schedules.records import FailureKind


class SeriesKind(StrEnum):
    """What tells the series of counted records apart, beside the target."""

    TARGET = "target"
    """Nothing but the target."""
    OPERATOR = "operator"
    WORKER = "worker"


class Span(StrEnum):
    """How long the time is that a count is for."""

    DAY = "day"
    MONTH = "month"


class GroupBy(StrEnum):
    """What a summary of records is grouped by."""

    OPERATOR = "operator"
    TARGET = "target"
    WORKER = "worker"
    FAILURE = "failure"
    DAY = "day"


@dataclass(frozen=True, kw_only=True)
class GroupSummary:
    """What the records of one group came to.

    Attributes
    ----------
    key : str or None
        The operator, target id, worker id, failure kind or ISO day; None for programs that came as
        IR, for imported records, and for records that did not fail.
    records, measured, censored : int
        How many there are, how many have a latency, and how many only a bound.
    failures : Mapping[FailureKind, int]
        How many failed, by kind.
    latency_secs : Mapping[str, float] or None
        Quantiles ``p10``, ``p50`` and ``p90`` of the latencies, within
        `service.db.histogram.RELATIVE_ERROR`.
    """

    key: str | None
    records: int
    measured: int
    censored: int
    failures: Mapping[FailureKind, int]
    latency_secs: Mapping[str, float] | None


@dataclass(frozen=True, kw_only=True)
class Summary:
    """Groups of records.

    Attributes
    ----------
    groups : tuple of GroupSummary
        The largest ones, or the newest days.
    left_out : int
        How many more groups there are.
    counted : bool
        Whether this comes from counters; otherwise records were looked at for it.
    complete : bool
        Whether every record that is meant is in it; not so where there were too many to look at.
    """

    groups: tuple[GroupSummary, ...]
    left_out: int
    counted: bool
    complete: bool
