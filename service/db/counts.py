"""Counting without reading what is counted.

Counters of records are kept by the transaction that inserts the records. There are three series for
each record, those of its target, its operator and its worker, and a day and a month for each: so
that the groups of a summary follow from a few thousand rows however long the log is
(`docs/decisions/0021`).
"""

from collections import Counter
from collections.abc import Iterable, Mapping
from datetime import UTC, date, datetime
from functools import lru_cache
from typing import Any

from sqlalchemy import event, func, select, text
from sqlalchemy.orm import Session

from schedules.identity import sha256_id
from service.db.count_rows import SeriesRow
from service.db.engine import Repository, insert_new, known, reading
from service.db.histogram import bucket_of
from service.db.models import IS_ACTIVE, JobRow
from service.db.summary_values import SeriesKind, Span
from service.db.values import ACTIVE_STATES, JobState

MEASURED = "measured"
"""Outcome of a record with a latency; its bucket says which."""
CENSORED = "censored"
"""Outcome of a record with a bound only. All other outcomes are kinds of failure."""


class Counts(Repository):
    """How many there are."""

    @reading
    def count_active_jobs(self, session: Session) -> dict[JobState, int]:
        """Count the jobs in each active state."""
        rows = session.execute(
            select(JobRow.state, func.count()).where(IS_ACTIVE).group_by(JobRow.state)
        )
        return dict.fromkeys(ACTIVE_STATES, 0) | dict(rows.all())


_KEY = ("series_id", "span", "day", "outcome", "bucket")
_INSERT = "INSERT INTO record_counts (series_id, span, day, outcome, bucket, records)"
_ON_CONFLICT = (
    "ON CONFLICT (series_id, span, day, outcome, bucket) "
    "DO UPDATE SET records = record_counts.records + excluded.records"
)
_ADD_EACH = text(
    f"{_INSERT} VALUES (:series_id, :span, :day, :outcome, :bucket, :records) {_ON_CONFLICT}"
)
# One statement with an array for each column takes a fraction of the time of one for each row.
_ADD_ALL = text(
    f"{_INSERT} SELECT * FROM unnest(CAST(:series_id AS bigint[]), CAST(:span AS text[]), "
    "CAST(:day AS date[]), CAST(:outcome AS text[]), CAST(:bucket AS smallint[]), "
    f"CAST(:records AS bigint[])) {_ON_CONFLICT}"
)


@lru_cache(maxsize=4096)
def series_id(kind: SeriesKind, name: str | None, target_id: str) -> int:
    """Return the id of a series: a hash of what it is, so that nobody has to ask for it."""
    return int(sha256_id([kind, name, target_id])[:15], 16)


def count_records(session: Session, rows: Iterable[Mapping[str, Any]]) -> None:
    """Count records in the transaction that has inserted them.

    Parameters
    ----------
    rows : iterable of Mapping
        The columns of new records, as `service.db.convert.record_values` makes them.
    """
    counted: Counter[tuple[int, str, str, str, int]] = Counter()
    series: dict[int, dict[str, Any]] = {}
    for row in rows:
        outcome, bucket = cell(row["failure"], row["latency_secs"])
        day = utc_day(row["created_at"])
        spans = (
            (Span.DAY.value, day.isoformat()),
            (Span.MONTH.value, day.replace(day=1).isoformat()),
        )
        for kind, name in (
            (SeriesKind.TARGET, None),
            (SeriesKind.OPERATOR, row["operator"]),
            (SeriesKind.WORKER, row["worker_id"]),
        ):
            identity = series_id(kind, name, row["target_id"])
            series[identity] = {
                "series_id": identity,
                "kind": kind,
                "name": name,
                "target_id": row["target_id"],
            }
            for span, first in spans:
                counted[identity, span, first, outcome, bucket] += 1
    if not counted:
        return
    _save_series(session, series)
    # Sorted, so that transactions which add to the same counters do not wait for each other.
    cells = sorted(counted)
    columns: dict[str, list[Any]] = {
        name: [key[place] for key in cells] for place, name in enumerate(_KEY)
    }
    columns["records"] = [counted[key] for key in cells]
    if session.get_bind().dialect.name == "sqlite":
        rows_of_columns = zip(*columns.values(), strict=True)
        session.connection().execute(
            _ADD_EACH, [dict(zip(columns, values, strict=True)) for values in rows_of_columns]
        )
    else:
        session.connection().execute(_ADD_ALL, columns)


def cell(failure: str | None, latency_secs: float | None) -> tuple[str, int]:
    """Return the outcome and the bucket under which a record is counted."""
    if failure is not None:
        return str(failure), 0
    if latency_secs is None:
        return CENSORED, 0
    return MEASURED, bucket_of(latency_secs)


def utc_day(moment: datetime) -> date:
    """Return the day of a moment."""
    return moment.astimezone(UTC).date()


def _save_series(session: Session, series: Mapping[int, Mapping[str, Any]]) -> None:
    remembered = known(session)
    new = sorted(identity for identity in series if not remembered.has_series(identity))
    if not new:
        return
    insert_new(session, SeriesRow, [series[identity] for identity in new], SeriesRow.series_id)

    def committed(_: Session) -> None:
        remembered.add_series(new)

    event.listen(session, "after_commit", committed, once=True)
