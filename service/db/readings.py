"""What the dashboard reads: lines without traces, and counts.

Everything here is bounded: by an index and a limit, or by the number of jobs, workloads and bests,
of which there are few beside the records.
"""

from collections.abc import Mapping
from datetime import datetime
from typing import Any

from sqlalchemy import (
    ColumnElement,
    Integer,
    cast,
    extract,
    func,
    or_,
    select,
)
from sqlalchemy.orm import Session

from schedules.errors import NotFoundError
from schedules.records import Purpose, TuningRecord
from schedules.target import Target
from service.db import convert
from service.db.engine import database_now, reading
from service.db.job_readings import SPEEDUP, JobReadings, in_order
from service.db.lines import (
    ActivityLine,
    BestLine,
    FastestLine,
    FinalLine,
    ScoreLine,
    WorkloadLine,
)
from service.db.models import (
    IS_FINAL,
    IS_LEASED,
    BatchRow,
    BestRow,
    RecordRow,
    TargetRow,
    WorkloadRow,
)

BEST_ORDERS: Mapping[str, ColumnElement[Any]] = {
    "created": BestRow.created_at.expression,
    "name": WorkloadRow.name.expression,
    "latency": BestRow.latency_secs.expression,
    "speedup": SPEEDUP,
}


class Readings(JobReadings):
    """Reads for pages."""

    @reading
    def now(self, session: Session) -> datetime:
        """Return the time of the database's clock, by which everything here is dated."""
        return database_now(session)

    @reading
    def record(self, session: Session, record_id: str) -> TuningRecord:
        """Return a tuning record.

        Raises
        ------
        NotFoundError
            There is none of that id.
        """
        row = session.get(RecordRow, record_id)
        if row is None:
            raise NotFoundError(f"there is no record {record_id}")
        return convert.record(row)

    @reading
    def best_lines(
        self,
        session: Session,
        *,
        workload_id: str | None = None,
        target_id: str | None = None,
        sort: str = "created",
        descending: bool = True,
        limit: int,
    ) -> tuple[BestLine, ...]:
        """List bests.

        Raises
        ------
        InputError
            The order is unknown.
        """
        statement = select(
            BestRow.workload_id,
            WorkloadRow.name,
            WorkloadRow.flops,
            BestRow.target_id,
            BestRow.tier,
            BestRow.latency_secs,
            BestRow.latency_low_secs,
            BestRow.latency_high_secs,
            BestRow.default_latency_secs,
            BestRow.verified,
            BestRow.record_id,
            BestRow.job_id,
            BestRow.created_at,
        ).join(WorkloadRow, WorkloadRow.workload_id == BestRow.workload_id)
        if workload_id is not None:
            statement = statement.where(BestRow.workload_id == workload_id)
        if target_id is not None:
            statement = statement.where(BestRow.target_id == target_id)
        order = in_order(BEST_ORDERS, sort, descending=descending)
        statement = statement.order_by(*order, BestRow.workload_id, BestRow.target_id)
        return tuple(BestLine(**row._mapping) for row in session.execute(statement.limit(limit)))

    @reading
    def workload_lines(
        self, session: Session, *, text: str | None, limit: int, offset: int = 0
    ) -> tuple[WorkloadLine, ...]:
        """List workloads whose name or id has a text in it, what was tuned last first."""
        tuned_at = func.max(BestRow.created_at).label("tuned_at")
        statement = (
            select(
                WorkloadRow.workload_id,
                WorkloadRow.name,
                WorkloadRow.flops,
                WorkloadRow.created_at,
                func.count(BestRow.target_id).label("targets"),
                func.max(SPEEDUP).label("speedup"),
                tuned_at,
            )
            .outerjoin(BestRow, BestRow.workload_id == WorkloadRow.workload_id)
            .group_by(WorkloadRow.workload_id)
            .order_by(
                func.coalesce(func.max(BestRow.created_at), WorkloadRow.created_at).desc(),
                WorkloadRow.workload_id,
            )
        )
        if text:
            statement = statement.where(
                or_(
                    WorkloadRow.name.icontains(text, autoescape=True),
                    WorkloadRow.workload_id.startswith(text, autoescape=True),
                )
            )
        rows = session.execute(statement.limit(limit).offset(offset))
        return tuple(WorkloadLine(**row._mapping) for row in rows)

    @reading
    def targets_by_id(self, session: Session) -> dict[str, Target]:
        """Return all targets by their ids, the newest first."""
        rows = session.scalars(select(TargetRow).order_by(TargetRow.created_at.desc()))
        return {row.target_id: convert.target(row) for row in rows}

    @reading
    def final_lines(
        self, session: Session, workload_id: str, target_id: str, *, limit: int
    ) -> tuple[FinalLine, ...]:
        """Return the newest final measurements of a workload on a target, oldest first.

        Failed ones and those that are set aside are left out.
        """
        rows = session.execute(
            select(
                RecordRow.record_id,
                RecordRow.job_id,
                RecordRow.origin,
                RecordRow.run_secs,
                RecordRow.latency_secs,
                RecordRow.verification,
                RecordRow.created_at,
            )
            .where(
                RecordRow.workload_id == workload_id,
                RecordRow.target_id == target_id,
                IS_FINAL,
                RecordRow.latency_secs.is_not(None),
                RecordRow.set_aside_at.is_(None),
            )
            .order_by(RecordRow.created_at.desc(), RecordRow.record_id.desc())
            .limit(limit)
        ).all()
        return tuple(
            FinalLine(
                record_id=row.record_id,
                job_id=row.job_id,
                origin=row.origin,
                run_secs=tuple(row.run_secs),
                latency_secs=row.latency_secs,
                passed=bool((row.verification or {}).get("passed")),
                created_at=row.created_at,
            )
            for row in rows[::-1]
        )

    @reading
    def activity(
        self, session: Session, *, since: datetime, worker_id: str | None = None
    ) -> tuple[ActivityLine, ...]:
        """Count the records since a time by worker, minute and failure."""
        minute = _minute(RecordRow.created_at).label("minute")
        statement = (
            select(RecordRow.worker_id, minute, RecordRow.failure, func.count().label("records"))
            .where(RecordRow.created_at >= since)
            .group_by(RecordRow.worker_id, minute, RecordRow.failure)
        )
        if worker_id is not None:
            statement = statement.where(RecordRow.worker_id == worker_id)
        return tuple(ActivityLine(**row._mapping) for row in session.execute(statement))

    @reading
    def leased_jobs(self, session: Session) -> dict[str, str]:
        """Return which job each busy worker measures for, by the worker's id."""
        rows = session.execute(select(BatchRow.worker_id, BatchRow.job_id).where(IS_LEASED))
        return {row.worker_id: row.job_id for row in rows if row.worker_id is not None}

    @reading
    def score_lines(self, session: Session, *, newest: int) -> tuple[ScoreLine, ...]:
        """Return what was predicted among the newest records, oldest first."""
        latest = (
            select(RecordRow.record_id)
            .order_by(RecordRow.created_at.desc(), RecordRow.record_id.desc())
            .limit(newest)
            .subquery()
        )
        rows = session.execute(
            select(
                RecordRow.model_version,
                RecordRow.workload_id,
                RecordRow.target_id,
                RecordRow.predicted_score,
                RecordRow.latency_secs,
                RecordRow.created_at,
            )
            .join(latest, latest.c.record_id == RecordRow.record_id)
            .where(
                RecordRow.purpose == Purpose.TRIAL,
                RecordRow.model_version.is_not(None),
                RecordRow.predicted_score.is_not(None),
                RecordRow.censored_secs.is_(None),
                RecordRow.set_aside_at.is_(None),
            )
            .order_by(RecordRow.created_at)
        )
        return tuple(ScoreLine(**row._mapping) for row in rows)

    @reading
    def fastest_lines(
        self, session: Session, worker_id: str, *, newest: int
    ) -> tuple[FastestLine, ...]:
        """Return the fastest trial of each workload and target among a worker's newest records."""
        latest = (
            select(RecordRow.workload_id, RecordRow.target_id, RecordRow.latency_secs)
            .where(RecordRow.worker_id == worker_id)
            .order_by(RecordRow.created_at.desc(), RecordRow.record_id.desc())
            .limit(newest)
            .subquery()
        )
        rows = session.execute(
            select(
                latest.c.workload_id,
                WorkloadRow.name,
                WorkloadRow.flops,
                latest.c.target_id,
                func.min(latest.c.latency_secs).label("latency_secs"),
                func.count().label("records"),
            )
            .join(WorkloadRow, WorkloadRow.workload_id == latest.c.workload_id)
            .where(latest.c.latency_secs.is_not(None))
            .group_by(latest.c.workload_id, latest.c.target_id, WorkloadRow.name, WorkloadRow.flops)
            .order_by(WorkloadRow.name, latest.c.workload_id, latest.c.target_id)
        )
        return tuple(FastestLine(**row._mapping) for row in rows)


def _minute(column: Any) -> ColumnElement[int]:
    # Without its seconds, as PostgreSQL rounds what is cast.
    return cast(extract("epoch", column) - extract("second", column), Integer) // 60
