"""Records as lines of JSON, for exports of the whole log."""

import json
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from datetime import datetime
from functools import partial
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
        # The database reads on while the last lines are sent.
        with ThreadPoolExecutor(max_workers=1, thread_name_prefix="export") as ahead:
            read = partial(self._lines, filters, write, flat=flat, chunk=chunk)
            part: Future[tuple[bytes, Position | None]] | None = ahead.submit(read, None)
            while part is not None:
                lines, position = part.result()
                part = None if position is None else ahead.submit(read, position)
                if lines:
                    yield lines

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
            each = statement.with_only_columns(*_columns(row, flat=flat)).subquery("each")
            line = cast(func.row_to_json(each.table_valued()), Text)
            text, count = session.execute(
                select(func.string_agg(line, literal_column("E'\\n'")), func.count())
            ).one()
            text = f"{text}\n" if count else ""
            end = _end(text) if count else None
        if not scan.whole:
            end = scan.end(session, position, examined=examined)
        elif count < examined:
            end = None
        return text.encode(), end


def _columns(row: Any, *, flat: bool) -> list[Any]:
    """Return what makes up a line, each named as in JSON."""
    utc = func.timezone(literal_column("'UTC'"), row.created_at)
    iso_format: Any = literal_column('\'YYYY-MM-DD"T"HH24:MI:SS.US"Z"\'')
    trace = row.trace if flat else cast(row.trace, JSON)
    environment = cast(row.environment, Text) if flat else row.environment
    return [
        *(getattr(row, name) for name in _PLAIN),
        trace.label("trace"),
        environment.label("environment"),
        func.to_char(utc, iso_format).label("created_at"),
        row.set_aside_at.is_not(None).label("set_aside"),
    ]


def _end(text: str) -> Position:
    """Read the position of the last of some lines."""
    last = json.loads(text[text.rfind("\n", 0, -1) + 1 :])
    return datetime.fromisoformat(last["created_at"]), last["record_id"]
