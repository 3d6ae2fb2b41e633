"""What the fleet machine has beside the store: a clock, queries, what it knows of jobs."""

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

from sqlalchemy import event, select, text
from sqlalchemy.orm import Session

from schedules.errors import ConflictError
from service.db.engine import Database
from service.db.models import BatchRow
from service.db.values import OPEN_STATES, BatchState, JobPhase, Lease

# Each finds what must not be; all are true of every state between two transactions.
BROKEN = """
SELECT 'item and record disagree', i.item_id
  FROM batch_items i LEFT JOIN records r ON r.record_id = i.item_id
 WHERE (i.state IN ('done', 'poison')) <> (r.record_id IS NOT NULL)
UNION ALL
SELECT 'record without an item', r.record_id
  FROM records r LEFT JOIN batch_items i ON i.item_id = r.record_id WHERE i.item_id IS NULL
UNION ALL
SELECT 'open item that nobody can finish', i.item_id
  FROM batch_items i JOIN batches b ON b.batch_id = i.batch_id
 WHERE i.state = 'open' AND b.state NOT IN ('ready', 'leased')
UNION ALL
SELECT 'open batch without an open item', b.batch_id FROM batches b
 WHERE b.state IN ('ready', 'leased') AND NOT EXISTS
       (SELECT 1 FROM batch_items i WHERE i.batch_id = b.batch_id AND i.state = 'open')
UNION ALL
SELECT 'batch that waits for an ended job', b.batch_id
  FROM batches b JOIN jobs j ON j.job_id = b.job_id
 WHERE b.state = 'ready' AND j.state NOT IN ('queued', 'running')
UNION ALL
SELECT 'lease without an end or a holder', batch_id FROM batches
 WHERE (state = 'leased') <> (lease_until IS NOT NULL) OR (state = 'leased' AND worker_id IS NULL)
UNION ALL
SELECT 'job that counts its trials wrongly', j.job_id FROM jobs j
 WHERE j.trials_done <>
       (SELECT count(*) FROM records r WHERE r.job_id = j.job_id AND r.purpose = 'trial')
UNION ALL
SELECT 'job that waits for nothing, or takes a step too early', j.job_id FROM jobs j
 WHERE j.measuring <> (j.state IN ('queued', 'running') AND EXISTS
       (SELECT 1 FROM batches b WHERE b.job_id = j.job_id AND b.state IN ('ready', 'leased')))
"""
LONG_AGO = datetime(2000, 1, 1, tzinfo=UTC)
LEASED = "SELECT batch_id, worker_id, epoch FROM batches WHERE state = 'leased'"


class StoppedClock:
    """Takes the place of an SQLite database's clock; only `advance` moves it.

    Nothing that depends on the time is read outside a writing transaction here.
    """

    def __init__(self, database: Database) -> None:
        self.now = datetime(2030, 1, 1, tzinfo=UTC)
        event.listen(
            database.writer,
            "connect",
            lambda connection, _: connection.create_function("strftime", 2, self._strftime),
        )

    def _strftime(self, form: str, moment: str) -> str:
        assert (form, moment) == ("%Y-%m-%d %H:%M:%f", "now")
        return self.now.replace(tzinfo=None).isoformat(" ", "milliseconds")

    def advance(self, seconds: float) -> None:
        self.now += timedelta(seconds=seconds)


@dataclass
class KnownJob:
    """What the store must know of a job."""

    job_id: str
    seed: int
    trials: int
    phase: JobPhase = JobPhase.SEARCH
    active: bool = True
    owner: str = ""
    owner_until: datetime = LONG_AGO


@dataclass
class KnownLease:
    """A lease that a worker got, and until when it is good."""

    lease: Lease
    worker: str
    until: datetime


def refused(call: Any, *arguments: Any, **named: Any) -> None:
    """Check that a call is a conflict."""
    try:
        call(*arguments, **named)
    except ConflictError:
        return
    raise AssertionError(f"{call} should have been refused")


def committed(session: Session) -> list[tuple[object, ...]]:
    """Read all that an orchestrator can commit."""
    counts = (
        "SELECT (SELECT count(*) FROM batches), (SELECT count(*) FROM batch_items), "
        "(SELECT min(latency_secs) FROM bests)"
    )
    jobs = "SELECT job_id, state, phase, owner, epoch FROM jobs ORDER BY job_id"
    return [tuple(row) for query in (counts, jobs) for row in session.execute(text(query))]


def measuring(session: Session) -> set[str]:
    """Find the jobs of which a batch is open."""
    waiting = select(BatchRow.job_id).where(BatchRow.state.in_(OPEN_STATES))
    return set(session.scalars(waiting))


def soonest(session: Session) -> datetime | None:
    """When the next batch may be leased."""
    ready = select(BatchRow.not_before).where(BatchRow.state == BatchState.READY)
    return min(session.scalars(ready), default=None)
