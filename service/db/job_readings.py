"""What the dashboard reads of jobs: lines of a listing, trials, steps."""

from collections.abc import Mapping
from typing import Any

from sqlalchemy import ColumnElement, Select, and_, case, func, or_, select
from sqlalchemy.orm import Session

from schedules.errors import InputError
from service.db.engine import Repository, reading
from service.db.lines import JobLine, StepLine, TrialLine
from service.db.models import BatchRow, BestRow, ItemRow, JobRow, RecordRow, WorkloadRow
from service.db.queries import JobQuery

SPEEDUP = BestRow.default_latency_secs / BestRow.latency_secs

JOB_ORDERS: Mapping[str, ColumnElement[Any]] = {
    "created": JobRow.created_at.expression,
    "name": WorkloadRow.name.expression,
    "state": JobRow.state.expression,
    "trials": JobRow.trials_done.expression,
    "latency": BestRow.latency_secs.expression,
    "speedup": SPEEDUP,
}


class JobReadings(Repository):
    """Reads for the pages of jobs."""

    @reading
    def job_trials(self, session: Session, job_id: str, *, limit: int) -> tuple[TrialLine, ...]:
        """Return the newest records of a job, the oldest of them first."""
        columns = (
            RecordRow.record_id,
            RecordRow.worker_id,
            RecordRow.purpose,
            RecordRow.origin,
            RecordRow.predicted_score,
            RecordRow.model_version,
            RecordRow.latency_secs,
            RecordRow.censored_secs,
            RecordRow.duplicate_of,
            RecordRow.build_secs,
            RecordRow.failure,
            RecordRow.created_at,
            RecordRow.set_aside_at.is_not(None).label("set_aside"),
        )
        rows = session.execute(
            select(*columns)
            .where(RecordRow.job_id == job_id)
            .order_by(RecordRow.created_at.desc(), RecordRow.record_id.desc())
            .limit(limit)
        )
        return tuple(TrialLine(**row._mapping) for row in rows)[::-1]

    @reading
    def job_steps(self, session: Session, job_id: str) -> tuple[StepLine, ...]:
        """Return the batches of a job in the order in which they were queued."""
        rows = session.execute(
            select(
                BatchRow.purpose,
                BatchRow.created_at.label("queued_at"),
                func.max(RecordRow.created_at).label("ended_at"),
                func.count(RecordRow.record_id).label("records"),
            )
            .join(ItemRow, ItemRow.origin_batch_id == BatchRow.batch_id)
            .outerjoin(RecordRow, RecordRow.record_id == ItemRow.item_id)
            .where(BatchRow.job_id == job_id, BatchRow.split_from.is_(None))
            .group_by(BatchRow.batch_id, BatchRow.purpose, BatchRow.created_at)
            .order_by(BatchRow.created_at, BatchRow.batch_id)
        )
        return tuple(StepLine(**row._mapping) for row in rows)

    @reading
    def job_lines(
        self, session: Session, query: JobQuery, *, limit: int, offset: int = 0
    ) -> tuple[JobLine, ...]:
        """List jobs.

        Raises
        ------
        InputError
            The order is unknown.
        """
        statement = _job_lines().where(*_conditions(query)).order_by(*_order(query))
        return _read_jobs(session, statement.limit(limit).offset(offset))

    @reading
    def earlier_job(
        self, session: Session, job_id: str, workload_id: str, target_id: str
    ) -> JobLine | None:
        """Return the newest job before one that tuned the same and has measured something."""
        statement = (
            _job_lines()
            .where(
                JobRow.workload_id == workload_id,
                JobRow.target_id == target_id,
                JobRow.job_id < job_id,
                JobRow.trials_done > 0,
            )
            .order_by(JobRow.job_id.desc())
            .limit(1)
        )
        return next(iter(_read_jobs(session, statement)), None)


def in_order(
    orders: Mapping[str, ColumnElement[Any]], sort: str, *, descending: bool
) -> tuple[ColumnElement[Any], ...]:
    """Return what to sort by; rows without a value come last.

    Raises
    ------
    InputError
        The order is unknown.
    """
    if sort not in orders:
        raise InputError(f"there is no order {sort!r}; sort by one of {', '.join(orders)}")
    column = orders[sort]
    return ((column.desc() if descending else column.asc()).nulls_last(),)


def _order(query: JobQuery) -> tuple[ColumnElement[Any], ...]:
    newest_first = (JobRow.created_at.desc(), JobRow.job_id.desc())
    if query.sort == "created":
        # As the index has it, so that a first page reads no other jobs.
        return newest_first if query.descending else (JobRow.created_at.asc(), JobRow.job_id.asc())
    return (*in_order(JOB_ORDERS, query.sort, descending=query.descending), *newest_first)


def _job_lines() -> Select[*tuple[Any, ...]]:
    return (
        select(
            JobRow.job_id,
            JobRow.workload_id,
            WorkloadRow.name,
            WorkloadRow.flops,
            JobRow.target_id,
            JobRow.state,
            case((JobRow.budget_id.is_(None), JobRow.trials)).label("trials"),
            JobRow.seconds,
            JobRow.trials_done,
            JobRow.submitter,
            BestRow.latency_secs,
            BestRow.default_latency_secs,
            BestRow.job_id.label("best_job_id"),
            JobRow.created_at,
            JobRow.started_at,
            JobRow.finished_at,
        )
        .join(WorkloadRow, WorkloadRow.workload_id == JobRow.workload_id)
        .outerjoin(
            BestRow,
            and_(BestRow.workload_id == JobRow.workload_id, BestRow.target_id == JobRow.target_id),
        )
    )


def _read_jobs(session: Session, statement: Select[*tuple[Any, ...]]) -> tuple[JobLine, ...]:
    rows = session.execute(statement).all()
    counts = session.execute(
        select(RecordRow.job_id, func.count())
        .where(RecordRow.job_id.in_([row.job_id for row in rows]), RecordRow.failure.is_not(None))
        .group_by(RecordRow.job_id)
    )
    failed = {row[0]: row[1] for row in counts}
    return tuple(JobLine(**row._mapping, failed=failed.get(row.job_id, 0)) for row in rows)


def _conditions(query: JobQuery) -> list[ColumnElement[bool]]:
    conditions: list[ColumnElement[bool]] = []
    for column, value in (
        (JobRow.job_id, query.job_id),
        (JobRow.budget_id, query.budget_id),
        (JobRow.state, query.state),
        (JobRow.workload_id, query.workload_id),
        (JobRow.target_id, query.target_id),
        (JobRow.submitter, query.submitter),
    ):
        if value is not None:
            conditions.append(column == value)
    if query.text:
        # Few workloads have many jobs: they are found first, not looked at for each job.
        named = select(WorkloadRow.workload_id).where(
            WorkloadRow.name.icontains(query.text, autoescape=True)
        )
        conditions.append(
            or_(
                JobRow.workload_id.in_(named),
                JobRow.job_id.contains(query.text, autoescape=True),
            )
        )
    return conditions
