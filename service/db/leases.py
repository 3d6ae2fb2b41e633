"""Transitions of batches and items that several operations share; callers hold the job's row."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from sqlalchemy import exists, insert, or_, select, update
from sqlalchemy.orm import Session

from schedules.records import (
    PROTOCOL_VERSION,
    Environment,
    Failure,
    FailureKind,
    MeasureResult,
    Purpose,
    TuningRecord,
)
from service.db import convert
from service.db.counts import count_records
from service.db.engine import database_now, locked, new_id
from service.db.jobs import cancel_batch, lock_jobs
from service.db.models import (
    IS_LEASED,
    BatchRow,
    CheckRow,
    ItemRow,
    JobRow,
    RecordRow,
    WorkerRow,
)
from service.db.values import OPEN_STATES, BatchState, CheckKind, ItemState

MAX_ATTEMPTS = 5
"""So often a batch is leased, not counting releases; coming back once more kills it."""
MAX_LOSSES = 3
"""So often an item may be lost with a worker before it is given up; twice, if with two workers."""
BACKOFF_SECS = 5.0
"""How long an item waits after its first loss; twice as long after each further one."""
TOUCH_SECS = 5.0
"""How old `last_seen_at` gets before it is written again; a write costs a sync to disk."""


@dataclass(frozen=True, kw_only=True)
class TakenBack:
    """How many leases were ended, and how many of them because they were overdue."""

    ended: int
    overdue: int


def take_back(
    session: Session, now: datetime, *, worker_id: str | None = None, died: bool = False
) -> TakenBack:
    """Return overdue leases to the queue, and those that `worker_id` still has.

    Parameters
    ----------
    now : datetime
        Of the database's clock, a moment ago.
    died : bool
        Whether that worker has died with its lease, rather than lost the server's answer.
    """
    wanted = BatchRow.lease_until <= now
    if worker_id is not None:
        wanted = or_(wanted, BatchRow.worker_id == worker_id)
    found = session.execute(
        select(BatchRow.batch_id, BatchRow.job_id).where(IS_LEASED, wanted)
    ).all()
    if not found:
        return TakenBack(ended=0, overdue=0)
    jobs = lock_jobs(session, {row.job_id for row in found})
    batches = locked(
        session,
        select(BatchRow)
        .where(
            BatchRow.batch_id.in_([row.batch_id for row in found]),
            IS_LEASED,
        )
        .order_by(BatchRow.batch_id),
    )
    # Heartbeats may have extended them while this waited for the locks.
    now = database_now(session)
    ended = overdue = 0
    for batch in batches:
        late = batch.lease_until is not None and batch.lease_until <= now
        overdue += late
        if late or batch.worker_id == worker_id:
            ended += 1
            _come_back(session, jobs[batch.job_id], batch, now, late=late, lost=late or died)
    session.flush()
    for job in jobs.values():
        note_progress(session, job)
    return TakenBack(ended=ended, overdue=overdue)


def _come_back(
    session: Session, job: JobRow, batch: BatchRow, now: datetime, *, late: bool, lost: bool
) -> None:
    """End a lease that was neither finished nor released.

    A worker that merely asks again (not `lost`) is not held against the items; only the attempt
    counts, and the first time returns the batch whole. Items of an overdue lease wait a while.
    """
    if not job.state.active:
        cancel_batch(session, batch)
        return
    items = open_items(session, batch.batch_id)
    if lost:
        if any(item.losses == 0 for item in items):
            # Those that were lost before may be to blame themselves.
            note_mishap(session, batch.worker_id, CheckKind.EXPIRY, "lost a lease", now)
        poison = [item for item in items if _lose(item, batch.worker_id)]
        _give_up(session, job, batch, poison, now)
        items = [item for item in items if item.state is ItemState.OPEN]
    if items and batch.attempt >= MAX_ATTEMPTS:
        _give_up(session, job, batch, items, now)
        batch.state = BatchState.DEAD
    elif not items:
        batch.state = BatchState.DONE
    elif len(items) == 1 or (not lost and batch.attempt == 1):
        batch.state = BatchState.READY
        batch.worker_id = None
        batch.not_before = _not_before(items[0], now) if late else now
    else:
        # One by one, so that an item that takes workers down does not take others with it.
        for item in items:
            _split_off(session, batch, item, _not_before(item, now) if late else now)
        batch.state = BatchState.SPLIT
    batch.lease_until = None


def _lose(item: ItemRow, worker_id: str | None) -> bool:
    """Note that an item was lost with a worker, and tell whether that was once too often."""
    item.losses += 1
    if item.losses == 1:
        item.lost_with = worker_id
        return False
    return item.losses >= MAX_LOSSES or item.lost_with != worker_id


def _not_before(item: ItemRow, now: datetime) -> datetime:
    return now + timedelta(seconds=BACKOFF_SECS * 2 ** (item.losses - 1))


def _split_off(session: Session, batch: BatchRow, item: ItemRow, not_before: datetime) -> None:
    single = BatchRow(
        batch_id=new_id(),
        job_id=batch.job_id,
        split_from=batch.batch_id,
        target_id=batch.target_id,
        precedence=batch.precedence,
        turn=batch.turn,
        purpose=batch.purpose,
        incumbent_secs=batch.incumbent_secs,
        state=BatchState.READY,
        attempt=batch.attempt,
        epoch=0,
        not_before=not_before,
        created_at=batch.created_at,
    )
    session.add(single)
    session.flush()
    item.batch_id = single.batch_id


def _give_up(
    session: Session, job: JobRow, batch: BatchRow, items: Sequence[ItemRow], now: datetime
) -> None:
    """Record items as lost: a failure is data, and a job must not wait for them for ever."""
    if not items:
        return
    worker = None if batch.worker_id is None else session.get(WorkerRow, batch.worker_id)
    environment = convert.environment({} if worker is None else worker.environment)
    results = [
        (
            item,
            MeasureResult(
                failure=Failure(
                    kind=FailureKind.WORKER_LOST,
                    detail=f"given up after {batch.attempt} leases of its batch, "
                    f"{item.losses} of them lost with their worker",
                )
            ),
        )
        for item in items
    ]
    record_results(session, job, batch.purpose, results, batch.worker_id, environment, now)
    for item in items:
        item.state = ItemState.POISON


def record_results(
    session: Session,
    job: JobRow,
    purpose: Purpose,
    results: Sequence[tuple[ItemRow, MeasureResult]],
    worker_id: str | None,
    environment: Environment,
    now: datetime,
    *,
    protocol_version: int = PROTOCOL_VERSION,
    set_aside: bool = False,
) -> None:
    """Insert the tuning records of items, which are done with it, and count them.

    Parameters
    ----------
    protocol_version : int
        The measurement protocol of whoever measured.
    set_aside : bool
        Whether the worker's measurements count for nothing at present.
    """
    if not results:
        return
    rows = [
        {"set_aside_at": now if set_aside else None}
        | convert.record_values(
            TuningRecord(
                record_id=item.item_id,
                workload_id=job.workload_id,
                target_id=job.target_id,
                candidate=convert.candidate(item),
                purpose=purpose,
                result=result,
                environment=environment.under(result.conditions),
                created_at=now,
                job_id=job.job_id,
                worker_id=worker_id,
                protocol_version=protocol_version,
                operator=job.operator,
            )
        )
        for item, result in results
    ]
    session.execute(insert(RecordRow), rows)
    count_records(session, rows)
    for item, _ in results:
        item.state = ItemState.DONE
    if purpose is Purpose.TRIAL:
        job.trials_done += len(rows)


def note_progress(session: Session, job: JobRow) -> None:
    """Bring a job's `measuring` up to date after its batches have changed.

    What a batch has told may change what the next one is worth.
    """
    if job.state.active:
        session.flush()
        job.measuring = bool(
            session.scalar(
                select(
                    exists().where(BatchRow.job_id == job.job_id, BatchRow.state.in_(OPEN_STATES))
                )
            )
        )
        if not job.measuring:
            job.worth_secs = None


def note_mishap(
    session: Session, worker_id: str | None, kind: CheckKind, problem: str, now: datetime
) -> None:
    """Note something that speaks against a worker; `Health.judge_workers` weighs it."""
    if worker_id is not None:
        session.add(
            CheckRow(
                check_id=new_id(),
                worker_id=worker_id,
                kind=kind,
                checked_at=now,
                passed=False,
                problem=problem,
            )
        )


def open_items(session: Session, batch_id: str) -> list[ItemRow]:
    """Return the items of a batch that are not recorded yet, in their order."""
    return list(
        session.scalars(
            select(ItemRow)
            .where(ItemRow.batch_id == batch_id, ItemRow.state == ItemState.OPEN)
            .order_by(ItemRow.item_id)
        ).all()
    )


def has_open_items(session: Session, batch_id: str) -> bool:
    """Whether a batch has items that are not recorded yet."""
    found = session.scalar(
        select(exists().where(ItemRow.batch_id == batch_id, ItemRow.state == ItemState.OPEN))
    )
    return bool(found)


def note_seen(worker: WorkerRow, now: datetime) -> None:
    """Note that a worker, whose row is held, is there, if that was not noted a moment ago."""
    if worker.last_seen_at < now - timedelta(seconds=TOUCH_SECS):
        worker.last_seen_at = now


def touch(session: Session, worker_id: str, now: datetime) -> None:
    """Note that a worker is there, if that was not noted a moment ago."""
    session.execute(
        update(WorkerRow)
        .where(
            WorkerRow.worker_id == worker_id,
            WorkerRow.last_seen_at < now - timedelta(seconds=TOUCH_SECS),
        )
        .values(last_seen_at=now)
    )
