"""Records as lines of JSON, for exports of the whole log."""

import json
from collections.abc import Callable, Iterator
from datetime import datetime
from typing import Any

from sqlalchemy import JSON, Text, cast, func, literal_column, select
from sqlalchemy.orm import Session

from schedules.records import TuningRecord
from service.db import convert
from service.db.engine import Repository, reading
from service.db.paging import Position
from service.db.scan import EXAMINED, Scan
from service.db.values import RecordFilter

CHUNK = 5000
"""So many records are read in one transaction, and are in memory at once."""

_PLAIN = (
    *("record_id", "workload_id", "target_id", "operator", "job_id", "worker_id", "purpose"),
    *("origin", "trace_id", "run_secs", "latency_secs", "censored_secs", "duplicate_of"),
    *("build_secs", "failure", "failure_detail", "verification", "predicted_score"),
    *("model_version", "protocol_version"),
)


class Exports(Repository):
    """The log as text."""

    def record_lines(
        self,
        filters: RecordFilter,
        write: Callable[[TuningRecord], str],
        *,
        flat: bool = False,
        chunk: int = CHUNK,
    ) -> Iterator[bytes]:
        """Go through all records, newest first, in short transactions; give blocks of lines.

        Records that were stored when it began are met exactly once. PostgreSQL writes the JSON
        itself, several times as fast as Python could.

        Parameters
        ----------
        write : callable
            How a record is written where the database does not write it: what PostgreSQL writes
            means the same.
        flat : bool
            Whether `write` gives the trace and the environment as text with JSON in it.

        Raises
        ------
        InputError
            A naive time is no good.
        """
        position: Position | None = None
        while True:
            lines, position = self._lines(filters, write, position, flat=flat, chunk=chunk)
            if lines:
                yield lines
            if position is None:
                return

    @reading
    def _lines(
        self,
        session: Session,
        filters: RecordFilter,
        write: Callable[[TuningRecord], str],
        position: Position | None,
        *,
        flat: bool,
        chunk: int,
    ) -> tuple[bytes, Position | None]:
        scan = Scan(filters)
        examined = chunk if scan.whole else max(chunk, EXAMINED)
        statement, row = scan.part(position, examined=examined)
        end: Position | None
        if session.get_bind().dialect.name == "sqlite":
            found = [convert.record(item) for item in session.scalars(statement)]
            text = "".join(f"{write(record)}\n" for record in found)
            end = (found[-1].created_at, found[-1].record_id) if found else None
            count = len(found)
        else:
            line = _line(row, flat=flat)
            each = statement.with_only_columns(line.label("line")).subquery()
            text, count = session.execute(
                select(func.string_agg(each.c.line, literal_column("E'\\n'")), func.count())
            ).one()
            text = f"{text}\n" if count else ""
            end = _end(text) if count else None
        if not scan.whole:
            end = scan.end(session, position, examined=examined)
        elif count < examined:
            end = None
        return text.encode(), end


def _line(row: Any, *, flat: bool) -> Any:
    """Write a record as one line of JSON, in SQL."""
    pairs: list[Any] = []
    for name in _PLAIN:
        pairs += [literal_column(f"'{name}'"), getattr(row, name)]
    utc = func.timezone(literal_column("'UTC'"), row.created_at)
    created_at = func.to_char(utc, literal_column('\'YYYY-MM-DD"T"HH24:MI:SS.US"Z"\''))
    trace, environment = row.trace, row.environment
    trace = trace if flat else cast(trace, JSON)
    environment = cast(environment, Text) if flat else environment
    for name, value in (
        ("trace", trace),
        ("environment", environment),
        ("created_at", created_at),
        ("set_aside", row.set_aside_at.is_not(None)),
    ):
        pairs += [literal_column(f"'{name}'"), value]
    return cast(func.json_build_object(*pairs), Text)


def _end(text: str) -> Position:
    """Read the position of the last of some lines."""
    last = json.loads(text[text.rfind("\n", 0, -1) + 1 :])
    return datetime.fromisoformat(last["created_at"]), last["record_id"]
