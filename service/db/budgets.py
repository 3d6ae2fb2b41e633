"""Budgets that several jobs share: what one of them spends, the others cannot.

Such jobs are jobs like others, but for two things: none of them is given more trials than all have
left together, and of those that wait the one goes first whose next batch is worth most
(`tuner.search.gain`). An orchestrator tells that worth each time a batch has been measured.
"""

import sys
from collections.abc import Sequence
from dataclasses import replace

from sqlalchemy import func, select
from sqlalchemy.orm import Session

from schedules.errors import ConflictError, InputError, NotFoundError
from schedules.identity import sha256_id
from schedules.records import Candidate, Purpose
from service.db.engine import Repository, database_now, locked, new_id, reading, writing
from service.db.jobs import (
    add_job,
    cancel,
    check_bounds,
    job_of_key,
    keep_key,
    lock_owned_job,
    read_jobs,
    spec_hash,
)
from service.db.models import BatchRow, BudgetRow, ItemRow, JobRow
from service.db.values import ItemState, JobSpec, SharedBudget


class Budgets(Repository):
    """Budgets that several jobs share."""

    @writing
    def share_budget(
        self, session: Session, specs: Sequence[JobSpec], *, idempotency_key: str | None
    ) -> tuple[SharedBudget, bool]:
        """Make jobs that share one budget: the trials and seconds that each of them names.

        Parameters
        ----------
        specs : sequence of JobSpec
            Without a budget's id. All name the same bounds; no two name the same workload.
        idempotency_key : str or None
            A repeated key returns the budget of its first request.

        Returns
        -------
        budget : SharedBudget
        created : bool
            False if it was there before.

        Raises
        ------
        NotFoundError
            A workload or the target is unknown.
        InputError
            There are no jobs, they do not ask for one budget, or it has no finite bound.
        ConflictError
            The key was used for another request.
        """
        trials, seconds = _bounds(specs)
        asked = sha256_id(["shared", [[spec_hash(spec), spec.weight] for spec in specs]])
        known = job_of_key(session, idempotency_key, asked)
        if known is not None and known.budget_id is not None:
            return _read(session, _row(session, known.budget_id)), False
        budget = BudgetRow(
            budget_id=new_id(), trials=trials, seconds=seconds, created_at=database_now(session)
        )
        session.add(budget)
        ids = sorted(new_id() for _ in specs)
        jobs = [
            add_job(session, job_id, replace(spec, budget_id=budget.budget_id))
            for job_id, spec in zip(ids, specs, strict=True)
        ]
        keep_key(session, idempotency_key, asked, jobs[0])
        session.flush()
        return _read(session, budget), True

    @reading
    def shared_budget(self, session: Session, budget_id: str) -> SharedBudget:
        """Return a budget with its jobs.

        Raises
        ------
        NotFoundError
            There is none of that id.
        """
        return _read(session, _row(session, budget_id))

    @writing
    def cancel_shared(self, session: Session, budget_id: str) -> SharedBudget:
        """Cancel all jobs of a budget that have not ended.

        Raises
        ------
        NotFoundError
            There is none of that id.
        """
        budget = _row(session, budget_id)
        jobs = select(JobRow).where(JobRow.budget_id == budget_id).order_by(JobRow.job_id)
        for row in locked(session, jobs):
            cancel(session, row)
        return _read(session, budget)

    @writing
    def appraise(self, session: Session, job_id: str, owner: str, worth_secs: float) -> None:
        """Say what a job's next batch is expected to save; infinity where that is unknown.

        Raises
        ------
        NotFoundError
            There is no such job.
        ConflictError
            `owner` does not hold it.
        """
        row = lock_owned_job(session, job_id, owner)
        row.worth_secs = min(worth_secs, sys.float_info.max)


def affordable(
    session: Session, job: JobRow, purpose: Purpose, candidates: Sequence[Candidate]
) -> Sequence[Candidate]:
    """Return as many candidates as there are trials left where a job shares its budget.

    The budget is held until the transaction ends, so that they are spent by then. Finals cost
    nothing.

    Raises
    ------
    ConflictError
        None is left.
    """
    if job.budget_id is None or purpose is Purpose.FINAL:
        return candidates
    (budget,) = locked(session, select(BudgetRow).where(BudgetRow.budget_id == job.budget_id))
    left = unspent_trials(session, budget.budget_id, budget.trials)
    if left is None:
        return candidates
    if left <= 0:
        raise ConflictError(f"the budget {budget.budget_id} of job {job.job_id} is spent")
    return candidates[:left]


def unspent_trials(session: Session, budget_id: str, trials: int | None) -> int | None:
    """Return how many trials of a shared budget are neither recorded nor under way."""
    if trials is None:
        return None
    spent = session.scalar(
        select(func.count())
        .select_from(ItemRow)
        .join(BatchRow, BatchRow.batch_id == ItemRow.origin_batch_id)
        .join(JobRow, JobRow.job_id == BatchRow.job_id)
        .where(
            JobRow.budget_id == budget_id,
            BatchRow.purpose == Purpose.TRIAL,
            ItemRow.state != ItemState.CANCELLED,
        )
    )
    return trials - (spent or 0)


def _bounds(specs: Sequence[JobSpec]) -> tuple[int | None, float | None]:
    if not specs:
        raise InputError("a budget needs a workload to be spent on")
    for spec in specs:
        check_bounds(spec)
    bounds = {(spec.trials, spec.seconds) for spec in specs}
    if len(bounds) > 1:
        raise InputError("jobs that share a budget have the same bounds, those of the budget")
    if len({spec.workload_id for spec in specs}) < len(specs):
        raise InputError("a workload is named twice; name it once, with the sum of the weights")
    return bounds.pop()


def _row(session: Session, budget_id: str) -> BudgetRow:
    row = session.get(BudgetRow, budget_id)
    if row is None:
        raise NotFoundError(f"there is no shared budget {budget_id}")
    return row


def _read(session: Session, budget: BudgetRow) -> SharedBudget:
    rows = session.scalars(
        select(JobRow).where(JobRow.budget_id == budget.budget_id).order_by(JobRow.job_id)
    ).all()
    return SharedBudget(
        budget_id=budget.budget_id,
        trials=budget.trials,
        seconds=budget.seconds,
        jobs=tuple(read_jobs(session, rows)),
        created_at=budget.created_at,
    )
