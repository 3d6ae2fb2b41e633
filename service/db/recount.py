"""Counting all records anew, as migrations need it, and as `service.db.counts` does one by one."""

from collections.abc import Sequence
from typing import Any

from sqlalchemy import Connection, delete, insert, text

from service.db.counts import CENSORED, MEASURED, series_id
from service.db.histogram import GROWTH, LAST_BUCKET, SMALLEST_SECS, bucket_of
from service.db.models import CountRow, SeriesRow
from service.db.summary_values import SeriesKind, Span

_CHUNK = 5000
_COLUMNS = {SeriesKind.OPERATOR: "operator", SeriesKind.WORKER: "worker_id"}
_DAYS = {
    ("sqlite", Span.DAY): "date(created_at)",
    ("sqlite", Span.MONTH): "date(created_at, 'start of month')",
    ("postgresql", Span.DAY): "(created_at AT TIME ZONE 'UTC')::date",
    ("postgresql", Span.MONTH): "date_trunc('month', created_at AT TIME ZONE 'UTC')::date",
}
_OUTCOME = (
    f"CASE WHEN failure IS NOT NULL THEN failure WHEN latency_secs IS NULL THEN '{CENSORED}' "
    f"ELSE '{MEASURED}' END"
)
_BUCKETS = {
    # Not every SQLite has logarithms.
    "sqlite": "bucket_of(latency_secs)",
    "postgresql": f"CASE WHEN latency_secs <= {SMALLEST_SECS!r} THEN 0 ELSE "
    f"least(ceil(ln(latency_secs / {SMALLEST_SECS!r}) / ln({GROWTH!r}))::int, {LAST_BUCKET}) END",
}


def recount(connection: Connection) -> None:
    """Replace all counters of records by what the records say."""
    connection.execute(delete(CountRow))
    dialect = connection.dialect.name
    if dialect == "sqlite":
        driver: Any = connection.connection.dbapi_connection
        driver.create_function("bucket_of", 1, bucket_of, deterministic=True)
    for kind, column in _COLUMNS.items():
        _save_series(connection, kind, column)
        for span in Span:
            _count(connection, kind, column, span)


def _save_series(connection: Connection, kind: SeriesKind, column: str) -> None:
    connection.execute(delete(SeriesRow).where(SeriesRow.kind == kind))
    found = connection.execute(text(f"SELECT DISTINCT {column}, target_id FROM records"))
    rows = [
        {
            "series_id": series_id(kind, name, target_id),
            "kind": kind,
            "name": name,
            "target_id": target_id,
        }
        for name, target_id in found
    ]
    if rows:
        connection.execute(insert(SeriesRow), rows)


def _count(connection: Connection, kind: SeriesKind, column: str, span: Span) -> None:
    dialect = connection.dialect.name
    found = connection.execute(
        text(
            f"SELECT {column}, target_id, {_DAYS[dialect, span]} AS day, {_OUTCOME}, "
            "CASE WHEN failure IS NOT NULL OR latency_secs IS NULL THEN 0 "
            f"ELSE {_BUCKETS[dialect]} END, count(*) FROM records GROUP BY 1, 2, 3, 4, 5"
        ).columns(day=CountRow.__table__.c.day.type)
    )
    for part in found.partitions(_CHUNK):
        connection.execute(insert(CountRow), _counts(kind, span, part))


def _counts(kind: SeriesKind, span: Span, rows: Sequence[Any]) -> list[dict[str, Any]]:
    return [
        {
            "series_id": series_id(kind, name, target_id),
            "span": span,
            "day": day,
            "outcome": outcome,
            "bucket": bucket,
            "records": records,
        }
        for name, target_id, day, outcome, bucket, records in rows
    ]
