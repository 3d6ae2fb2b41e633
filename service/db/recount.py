"""Counting all records anew, as migrations need it, and as `service.db.counts` does one by one."""

from typing import Any

from sqlalchemy import Connection, delete, insert, text

from service.db.count_rows import CountRow, SeriesRow
from service.db.counts import CENSORED, MEASURED, series_id
from service.db.histogram import GROWTH, LAST_BUCKET, SMALLEST_SECS, bucket_of
from service.db.summary_values import SeriesKind

_COLUMNS = {
    SeriesKind.TARGET: "NULL",
    SeriesKind.OPERATOR: "operator",
    SeriesKind.WORKER: "worker_id",
}
_DAY = {"sqlite": "date(created_at)", "postgresql": "(created_at AT TIME ZONE 'UTC')::date"}
_MONTH = {
    "sqlite": "date(day, 'start of month')",
    "postgresql": "date_trunc('month', day)::date",
}
_OUTCOME = (
    f"CASE WHEN failure IS NOT NULL THEN failure WHEN latency_secs IS NULL THEN '{CENSORED}' "
    f"ELSE '{MEASURED}' END"
)
_BUCKET = {
    # Not every SQLite has logarithms.
    "sqlite": "bucket_of(latency_secs)",
    "postgresql": f"CASE WHEN latency_secs <= {SMALLEST_SECS!r} THEN 0 ELSE "
    f"least(ceil(ln(latency_secs / {SMALLEST_SECS!r}) / ln({GROWTH!r}))::int, {LAST_BUCKET}) END",
}


def recount(connection: Connection) -> None:
    """Replace all counters of records by what the records say."""
    dialect = connection.dialect.name
    if dialect == "sqlite":
        driver: Any = connection.connection.dbapi_connection
        driver.create_function("bucket_of", 1, bucket_of, deterministic=True)
    connection.execute(delete(CountRow))
    connection.execute(delete(SeriesRow))
    for kind, column in _COLUMNS.items():
        _save_series(connection, kind, column)
        # Grouped first, and then joined: there are far fewer groups than records.
        connection.execute(
            text(
                f"""
                INSERT INTO record_counts (series_id, span, day, outcome, bucket, records)
                SELECT series.series_id, 'day', grouped.day, outcome, bucket, records
                FROM (
                    SELECT {column} AS name, target_id, {_DAY[dialect]} AS day,
                        {_OUTCOME} AS outcome,
                        CASE WHEN failure IS NOT NULL OR latency_secs IS NULL THEN 0
                            ELSE {_BUCKET[dialect]} END AS bucket,
                        count(*) AS records
                    FROM records GROUP BY 1, 2, 3, 4, 5
                ) AS grouped
                JOIN series ON series.kind = '{kind.value}'
                    AND series.target_id = grouped.target_id
                    AND coalesce(series.name, '') = coalesce(grouped.name, '')
                """
            )
        )
    connection.execute(
        text(
            f"""
            INSERT INTO record_counts (series_id, span, day, outcome, bucket, records)
            SELECT series_id, 'month', {_MONTH[dialect]}, outcome, bucket, sum(records)
            FROM record_counts WHERE span = 'day' GROUP BY 1, 2, 3, 4, 5
            """
        )
    )


def _save_series(connection: Connection, kind: SeriesKind, column: str) -> None:
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
