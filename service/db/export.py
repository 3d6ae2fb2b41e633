"""Records as lines of JSON, for exports of the whole log."""

from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

from sqlalchemy import JSON, Text, cast, func, literal_column, select
from sqlalchemy.orm import Session

from schedules.records import TuningRecord
from service.db import convert
from service.db.engine import Repository, reading
from service.db.paging import Position
from service.db.queries import RecordFilter
from service.db.scan import EXAMINED, Scan

CHUNK = 5000
"""So many records are read in one transaction."""
AHEAD = 2
"""So many parts are read at once, and are in memory."""

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
        examined = chunk if Scan(filters).whole else max(chunk, EXAMINED)
        pending: deque[Future[bytes]] = deque()
        position: Position | None = None
        left = True
        # Where a part ends is found in the index. So the database reads several at once, while the
        # one before is sent: their rows may have to come from a disk.
        with ThreadPoolExecutor(max_workers=AHEAD, thread_name_prefix="export") as ahead:
            while left or pending:
                while left and len(pending) < AHEAD:
                    end = self._end(filters, position, examined)
                    pending.append(
                        ahead.submit(self._lines, filters, write, position, end, flat=flat)
                    )
                    position, left = end, end is not None
                lines = pending.popleft().result()
                if lines:
                    yield lines

    @reading
    def _end(
        self, session: Session, filters: RecordFilter, position: Position | None, examined: int
    ) -> Position | None:
        return Scan(filters).end(session, position, examined=examined)

    @reading
    def _lines(
        self,
        session: Session,
        filters: RecordFilter,
        write: Callable[[TuningRecord], str],
        position: Position | None,
        end: Position | None,
        *,
        flat: bool,
    ) -> bytes:
        """Write what passes after a position until another one, or until the end of the log."""
        statement, row = Scan(filters).part(position, until=end)
        if session.get_bind().dialect.name == "sqlite":
            found = session.scalars(statement)
            return "".join(f"{write(convert.record(item))}\n" for item in found).encode()
        each = statement.with_only_columns(*_columns(row, flat=flat)).subquery("each")
        line = cast(func.row_to_json(each.table_valued()), Text)
        text = session.scalar(select(func.string_agg(line, literal_column("E'\\n'"))))
        return b"" if text is None else f"{text}\n".encode()


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
