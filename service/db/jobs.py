"""Jobs: submitting, following, finishing. `service.db.claims` says who takes their steps."""

import math
from collections import defaultdict
from collections.abc import Sequence

from sqlalchemy import func, select, update
from sqlalchemy.orm import Session

from schedules.errors import ConflictError, InputError, NotFoundError
from schedules.identity import sha256_id
from schedules.records import FailureKind
from service.db import convert
from service.db.catalogue import find_target, find_workload
from service.db.engine import Repository, database_now, locked, new_id, reading, writing
from service.db.models import (
    IS_ACTIVE,
    IS_READY,
    BatchRow,
    IdempotencyKeyRow,
    ItemRow,
    JobRow,
    RecordRow,
)
from service.db.paging import page
from service.db.values import (
    BatchState,
    ItemState,
    Job,
    JobPhase,
    JobSpec,
    JobState,
    Page,
)


class Jobs(Repository):
    """Jobs."""

    @writing
    def submit_job(
        self, session: Session, spec: JobSpec, *, idempotency_key: str | None
    ) -> tuple[Job, bool]:
        """Make a job, or attach to the active one that asks for the same (single flight).

        An active job's budget is raised so that it covers the new one, and so is its priority; it
        then searches again if it was in its final phase. The job stays its first submitter's.

        Parameters
        ----------
        idempotency_key : str or None
            A repeated key returns the job of its first request.

        Returns
        -------
        job : Job
        created : bool
            False if the job was there before.

        Raises
        ------
        NotFoundError
            The workload or target is unknown.
        InputError
            The budget has no finite bound.
        ConflictError
            The key was used for another request.
        """
        check_bounds(spec)
        asked = spec_hash(spec)
        known = job_of_key(session, idempotency_key, asked)
        if known is not None:
            return _job(session, known), False
        row, created = _attach_or_create(session, spec)
        keep_key(session, idempotency_key, asked, row)
        session.flush()
        # A new job has no records to count.
        return (convert.job(row, {}) if created else _job(session, row)), created

    @reading
    def job(self, session: Session, job_id: str) -> Job:
        """Return a job.

        Raises
        ------
        NotFoundError
            There is none of that id.
        """
        row = session.get(JobRow, job_id)
        if row is None:
            raise _unknown(job_id)
        return _job(session, row)

    @reading
    def jobs(
        self, session: Session, *, state: JobState | None, limit: int, cursor: str | None
    ) -> Page[Job]:
        """List jobs, newest first.

        Raises
        ------
        InputError
            The cursor or the limit is no good.
        """
        statement = select(JobRow)
        if state is not None:
            statement = statement.where(JobRow.state == state)
        return page(
            session,
            statement,
            (JobRow.created_at, JobRow.job_id),
            lambda rows: read_jobs(session, rows),
            limit=limit,
            cursor=cursor,
        )

    @reading
    def active_jobs(self, session: Session) -> tuple[Job, ...]:
        """Return all jobs that are queued or running, oldest first."""
        rows = session.scalars(
            select(JobRow).where(IS_ACTIVE).order_by(JobRow.created_at, JobRow.job_id)
        ).all()
        return tuple(read_jobs(session, rows))

    @writing
    def cancel_job(self, session: Session, job_id: str) -> Job:
        """Cancel a job: nothing of it is leased any more, and its leases end at a heartbeat.

        A job that is finished stays as it is.

        Raises
        ------
        NotFoundError
            There is none of that id.
        """
        row = lock_job(session, job_id)
        cancel(session, row)
        return _job(session, row)

    @writing
    def begin_finals(self, session: Session, job: Job, owner: str) -> None:
        """Say that a job's search is over, so that its next batch is one of finals.

        Parameters
        ----------
        job : Job
            As it was when that was decided.

        Raises
        ------
        NotFoundError
            There is no such job.
        ConflictError
            `owner` does not hold it, or its budget was raised meanwhile.
        """
        row = lock_owned_job(session, job.job_id, owner)
        if _bounds(row) != _bounds(job.spec):
            raise _raised(job.job_id)
        row.phase = JobPhase.FINAL

    @writing
    def finish_job(
        self, session: Session, job_id: str, owner: str, *, error: str | None = None
    ) -> None:
        """End a job: done, or failed if there is an error.

        Raises
        ------
        NotFoundError
            There is no such job.
        ConflictError
            `owner` does not hold it, or it would be done but for a budget that was raised.
        """
        row = lock_owned_job(session, job_id, owner)
        if error is None and row.phase is not JobPhase.FINAL:
            raise _raised(job_id)
        row.error = error
        _finish(session, row, JobState.DONE if error is None else JobState.FAILED)


def check_bounds(spec: JobSpec) -> None:
    """Raise InputError for a budget without a finite bound."""
    if spec.trials is None and spec.seconds is None:
        raise InputError("a budget needs a bound: give trials, seconds or both")
    if spec.seconds is not None and not math.isfinite(spec.seconds):
        raise InputError("a budget's seconds must be a finite number")


def job_of_key(session: Session, key: str | None, asked: str) -> JobRow | None:
    """Return the job that an idempotency key stands for, None if it is new.

    Parameters
    ----------
    asked : str
        Hash of what is asked for with the key.

    Raises
    ------
    ConflictError
        Something else was asked for with it.
    """
    known = None if key is None else session.get(IdempotencyKeyRow, key)
    if known is None:
        return None
    if known.spec_hash != asked:
        raise ConflictError("this idempotency key was used for another request; choose a new key")
    return session.get_one(JobRow, known.job_id)


def keep_key(session: Session, key: str | None, asked: str, row: JobRow) -> None:
    """Let an idempotency key, if there is one, stand for a job."""
    if key is None:
        return
    # The job first: the key refers to it.
    session.flush()
    session.add(
        IdempotencyKeyRow(
            key=key, job_id=row.job_id, spec_hash=asked, created_at=database_now(session)
        )
    )


def cancel(session: Session, row: JobRow) -> None:
    """Cancel a job that is held, if it has not ended."""
    if row.state.active:
        _finish(session, row, JobState.CANCELLED)


def lock_job(session: Session, job_id: str) -> JobRow:
    """Hold a job's row until the transaction ends, or raise NotFoundError."""
    rows = locked(session, select(JobRow).where(JobRow.job_id == job_id))
    if not rows:
        raise _unknown(job_id)
    return rows[0]


def lock_jobs(session: Session, job_ids: set[str]) -> dict[str, JobRow]:
    """Hold the rows of several jobs."""
    rows = locked(session, select(JobRow).where(JobRow.job_id.in_(job_ids)).order_by(JobRow.job_id))
    return {row.job_id: row for row in rows}


def lock_owned_job(session: Session, job_id: str, owner: str) -> JobRow:
    """Hold the row of a job that `owner` has claimed, or raise ConflictError."""
    row = lock_job(session, job_id)
    if not row.state.active:
        raise ConflictError(f"job {job_id} is {row.state}")
    if row.owner != owner or row.owner_until is None or row.owner_until <= database_now(session):
        raise ConflictError(f"{owner} does not hold job {job_id}; claim it again")
    return row


def _attach_or_create(session: Session, spec: JobSpec) -> tuple[JobRow, bool]:
    flight_key = _flight_key(spec)
    active = locked(
        session,
        select(JobRow).where(JobRow.flight_key == flight_key, IS_ACTIVE),
    )
    if active:
        (row,) = active
        _raise_budget(row, spec)
        if spec.priority > row.priority:
            row.priority = spec.priority
            session.execute(
                update(BatchRow)
                .where(BatchRow.job_id == row.job_id, IS_READY)
                .values(precedence=-spec.priority)
            )
        return row, False
    return add_job(session, new_id(), spec), True


def add_job(session: Session, job_id: str, spec: JobSpec) -> JobRow:
    """Make a job, or raise NotFoundError for an unknown workload or target."""
    call = find_workload(session, spec.workload_id).call
    find_target(session, spec.target_id)
    row = JobRow(
        job_id=job_id,
        workload_id=spec.workload_id,
        target_id=spec.target_id,
        operator=None if call is None else call.op,
        trials=spec.trials,
        seconds=spec.seconds,
        least_gain=spec.least_gain,
        priority=spec.priority,
        submitter=spec.submitter,
        space=spec.space,
        seed=spec.seed,
        budget_id=spec.budget_id,
        weight=None if spec.budget_id is None else spec.weight,
        flight_key=_flight_key(spec),
        state=JobState.QUEUED,
        phase=JobPhase.SEARCH,
        trials_done=0,
        measuring=False,
        created_at=database_now(session),
        epoch=0,
    )
    session.add(row)
    return row


def _flight_key(spec: JobSpec) -> str:
    shared = [] if spec.budget_id is None else [spec.budget_id]
    return sha256_id([spec.workload_id, spec.target_id, spec.space, spec.seed, *shared])


def spec_hash(spec: JobSpec) -> str:
    """Return a hash of what is asked for, the same for retries."""
    asked = {"flight": _flight_key(spec), "trials": spec.trials, "seconds": spec.seconds}
    # Only where it is given, so that older requests keep their hashes.
    gain = {} if spec.least_gain is None else {"least_gain": spec.least_gain}
    return sha256_id({**asked, "priority": spec.priority, **gain})


def _bounds(job: JobRow | JobSpec) -> tuple[int | None, float | None, float | None]:
    return job.trials, job.seconds, job.least_gain


def _raise_budget(row: JobRow, spec: JobSpec) -> None:
    # None is no bound, so it is the larger one.
    trials = None if row.trials is None or spec.trials is None else max(row.trials, spec.trials)
    seconds = (
        None if row.seconds is None or spec.seconds is None else max(row.seconds, spec.seconds)
    )
    if trials is None and seconds is None:
        # One is bounded by trials and the other by time: only a job without end would cover both.
        return
    gains = (row.least_gain, spec.least_gain)
    least_gain = None if None in gains else min(gain for gain in gains if gain is not None)
    if (trials, seconds, least_gain) != _bounds(row):
        row.trials, row.seconds, row.least_gain = trials, seconds, least_gain
        row.phase = JobPhase.SEARCH


def _finish(session: Session, row: JobRow, state: JobState) -> None:
    row.state = state
    row.finished_at = database_now(session)
    row.owner = row.owner_until = None
    row.measuring = False
    waiting = locked(
        session,
        select(BatchRow).where(BatchRow.job_id == row.job_id, IS_READY).order_by(BatchRow.batch_id),
    )
    for batch in waiting:
        cancel_batch(session, batch)
    session.flush()


def cancel_batch(session: Session, batch: BatchRow) -> None:
    """Withdraw a batch; what is recorded of it stays."""
    batch.state = BatchState.CANCELLED
    batch.lease_until = None
    session.execute(
        update(ItemRow)
        .where(ItemRow.batch_id == batch.batch_id, ItemRow.state == ItemState.OPEN)
        .values(state=ItemState.CANCELLED)
    )


def _unknown(job_id: str) -> NotFoundError:
    return NotFoundError(f"there is no job {job_id}")


def _raised(job_id: str) -> ConflictError:
    return ConflictError(f"the budget of job {job_id} was raised: it searches again")


def _job(session: Session, row: JobRow) -> Job:
    return read_jobs(session, [row])[0]


def read_jobs(session: Session, rows: Sequence[JobRow]) -> list[Job]:
    """Make jobs of their rows, with the counts of their failed records."""
    failures: defaultdict[str, dict[FailureKind, int]] = defaultdict(dict)
    counts = session.execute(
        select(RecordRow.job_id, RecordRow.failure, func.count())
        .where(
            RecordRow.job_id.in_([row.job_id for row in rows]),
            RecordRow.failure.is_not(None),
        )
        .group_by(RecordRow.job_id, RecordRow.failure)
    )
    for job_id, kind, count in counts:
        if job_id is not None and kind is not None:
            failures[job_id][kind] = count
    return [convert.job(row, failures[row.job_id]) for row in rows]
