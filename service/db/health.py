"""The health of workers: checks, quarantine, and what becomes of a suspect's records.

A worker runs a reference kernel now and then. One whose timing moves or scatters, which loses
lease after lease, or which fails what others run, is quarantined: it is leased nothing, and what it
measured since its last good check is set aside. It returns by itself after some good checks; its
records return when people clear it.
"""

from collections.abc import Sequence
from datetime import datetime, timedelta

from sqlalchemy import Select, func, select
from sqlalchemy.orm import Session

from schedules.errors import InputError
from schedules.identity import sha256_id
from schedules.records import FailureKind, MeasureResult
from service.db import convert
from service.db.engine import Repository, database_now, new_id, reading, writing
from service.db.leases import note_mishap
from service.db.models import CheckRow, ItemRow, JobRow, RecordRow, WorkerRow
from service.db.paging import page
from service.db.republish import restore_records, set_records_aside
from service.db.values import Check, CheckKind, Page
from service.db.workers import lock_worker, worker_row
from tuner.measure.health import Verdict, judge

BAD_CHECKS = 3
"""So many bad checks in a row quarantine a worker."""
GOOD_CHECKS = 3
"""So many good ones in a row let it measure again."""
MISHAPS = 3
"""So many expired leases in a row, or crashes of what is known to run, quarantine it too."""
MISHAP_WINDOW_SECS = 24 * 3600.0

_CRASHES = (FailureKind.RUN_ERROR, FailureKind.RUN_TIMEOUT, FailureKind.WRONG_OUTPUT)


class Health(Repository):
    """Checks of workers and their consequences."""

    @writing
    def check_worker(
        self,
        session: Session,
        worker_id: str,
        run_secs: Sequence[float],
        *,
        boot_id: str,
        failure: str | None,
        strict: bool,
    ) -> tuple[Check, str | None]:
        """Note a run of the reference kernel and draw the consequences.

        The first good check in an environment is the baseline of those that follow.

        Parameters
        ----------
        run_secs : sequence of float
            At least two runs; none where the kernel failed.
        boot_id : str
            Tells one start of the machine from the next.
        failure : str or None
            Why the kernel did not run.
        strict : bool
            Whether drift and spread count. A machine that also runs the server is never quiet.

        Returns
        -------
        check : Check
        quarantined : str or None
            Why the worker may not measure now.

        Raises
        ------
        NotFoundError
            The worker is unknown.
        InputError
            There are neither enough runs nor a failure.
        """
        if failure is None and len(run_secs) < 2:
            raise InputError("a check needs two runs of the reference kernel or more, or a failure")
        worker = lock_worker(session, worker_id)
        environment_id = sha256_id(worker.environment)
        baseline_secs = _baseline(session, worker_id, environment_id)
        verdict = None if failure is not None else judge(run_secs, baseline_secs)
        problem = failure if verdict is None else verdict.problem
        passed = problem is None or (verdict is not None and not strict)
        row = CheckRow(
            check_id=new_id(),
            worker_id=worker_id,
            kind=CheckKind.REFERENCE,
            checked_at=database_now(session),
            passed=passed,
            problem=problem,
            boot_id=boot_id,
            environment_id=environment_id,
            latency_secs=verdict and verdict.latency_secs,
            spread=verdict and verdict.spread,
            baseline_secs=_next_baseline(verdict, baseline_secs, passed=passed),
        )
        session.add(row)
        session.flush()
        _draw_consequences(session, worker, row)
        return convert.check(row), worker.quarantined

    @writing
    def judge_workers(self, session: Session) -> tuple[str, ...]:
        """Quarantine the workers with too many mishaps in a row, and return their ids."""
        since = database_now(session) - timedelta(seconds=MISHAP_WINDOW_SECS)
        suspects = session.execute(
            select(CheckRow.worker_id, CheckRow.kind)
            .join(WorkerRow, WorkerRow.worker_id == CheckRow.worker_id)
            .where(
                CheckRow.kind != CheckKind.REFERENCE,
                CheckRow.checked_at > since,
                WorkerRow.quarantined.is_(None),
            )
            .group_by(CheckRow.worker_id, CheckRow.kind)
            .having(func.count() >= MISHAPS)
            .order_by(CheckRow.worker_id)
        ).all()
        judged = []
        for worker_id, kind in suspects:
            worker = lock_worker(session, worker_id)
            count = _mishaps(session, worker_id, kind, since)
            if worker.quarantined is None and count >= MISHAPS:
                what = (
                    "leases in a row were lost"
                    if kind is CheckKind.EXPIRY
                    else "candidates failed that run on other workers"
                )
                _quarantine(session, worker, f"{count} {what}")
                judged.append(worker_id)
        return tuple(judged)

    @writing
    def clear_worker(self, session: Session, worker_id: str) -> int:
        """Trust a worker again, with all that it measured; its next good check is a new baseline.

        Returns
        -------
        int
            How many records came back.

        Raises
        ------
        NotFoundError
            The worker is unknown.
        """
        worker = lock_worker(session, worker_id)
        worker.quarantined = worker.quarantined_at = None
        session.add(
            CheckRow(
                check_id=new_id(),
                worker_id=worker_id,
                kind=CheckKind.REFERENCE,
                checked_at=database_now(session),
                passed=True,
                environment_id=sha256_id(worker.environment),
            )
        )
        return restore_records(session, worker_id)

    @reading
    def checks(
        self, session: Session, worker_id: str, *, limit: int, cursor: str | None
    ) -> Page[Check]:
        """List what is known of a worker's health, newest first.

        Raises
        ------
        NotFoundError
            The worker is unknown.
        InputError
            The cursor or the limit is no good.
        """
        worker_row(session, worker_id)
        return page(
            session,
            select(CheckRow).where(CheckRow.worker_id == worker_id),
            (CheckRow.checked_at, CheckRow.check_id),
            lambda rows: [convert.check(row) for row in rows],
            limit=limit,
            cursor=cursor,
        )


def note_crashes(
    session: Session,
    job: JobRow,
    worker_id: str,
    results: Sequence[tuple[ItemRow, MeasureResult]],
    now: datetime,
) -> None:
    """Note the candidates that failed here and ran on another worker of the target."""
    for item, result in results:
        if result.failure is None or result.failure.kind not in _CRASHES:
            continue
        elsewhere = session.scalar(
            select(RecordRow.record_id)
            .where(
                RecordRow.workload_id == job.workload_id,
                RecordRow.target_id == job.target_id,
                RecordRow.trace_id == item.trace_id,
                RecordRow.failure.is_(None),
                RecordRow.set_aside_at.is_(None),
                RecordRow.worker_id != worker_id,
            )
            .limit(1)
        )
        if elsewhere is not None:
            detail = f"{result.failure.kind} of a candidate that ran as record {elsewhere}"
            note_mishap(session, worker_id, CheckKind.CRASH, detail, now)


def _draw_consequences(session: Session, worker: WorkerRow, check: CheckRow) -> None:
    lately = session.scalars(
        _reference_checks(worker.worker_id).limit(max(BAD_CHECKS, GOOD_CHECKS))
    ).all()
    if worker.quarantined is not None:
        if len(lately) >= GOOD_CHECKS and all(row.passed for row in lately[:GOOD_CHECKS]):
            worker.quarantined = worker.quarantined_at = None
    elif len(lately) >= BAD_CHECKS and not any(row.passed for row in lately[:BAD_CHECKS]):
        _quarantine(session, worker, check.problem or "its checks failed")


def _quarantine(session: Session, worker: WorkerRow, reason: str) -> None:
    now = database_now(session)
    worker.quarantined, worker.quarantined_at = reason, now
    session.flush()
    set_records_aside(session, worker.worker_id, _last_good(session, worker.worker_id), now)


def _reference_checks(worker_id: str) -> Select[CheckRow]:
    return (
        select(CheckRow)
        .where(CheckRow.worker_id == worker_id, CheckRow.kind == CheckKind.REFERENCE)
        .order_by(CheckRow.checked_at.desc(), CheckRow.check_id.desc())
    )


def _last_good(session: Session, worker_id: str) -> datetime | None:
    return session.scalar(
        select(func.max(CheckRow.checked_at)).where(
            CheckRow.worker_id == worker_id, CheckRow.passed.is_(True)
        )
    )


def _baseline(session: Session, worker_id: str, environment_id: str) -> float | None:
    latest = session.scalars(
        _reference_checks(worker_id).where(CheckRow.environment_id == environment_id).limit(1)
    ).one_or_none()
    return None if latest is None else latest.baseline_secs


def _next_baseline(
    verdict: Verdict | None, baseline_secs: float | None, *, passed: bool
) -> float | None:
    if baseline_secs is None and verdict is not None and passed:
        return verdict.latency_secs
    return baseline_secs


def _mishaps(session: Session, worker_id: str, kind: CheckKind, since: datetime) -> int:
    """Count the mishaps since something last spoke for the worker."""
    after = [since, _last_good(session, worker_id)]
    if kind is CheckKind.EXPIRY:
        after.append(
            session.scalar(
                select(func.max(RecordRow.created_at)).where(
                    RecordRow.worker_id == worker_id,
                    RecordRow.failure.is_distinct_from(FailureKind.WORKER_LOST),
                )
            )
        )
    count = session.scalar(
        select(func.count()).where(
            CheckRow.worker_id == worker_id,
            CheckRow.kind == kind,
            CheckRow.checked_at > max(at for at in after if at is not None),
        )
    )
    return count or 0
