"""Claims: a job's next step is a lease that an orchestrator holds while it takes the step."""

import math
from collections.abc import Collection
from datetime import datetime, timedelta

from sqlalchemy import ColumnElement, and_, func, or_, select
from sqlalchemy.orm import Session, aliased

from service.db.budgets import unspent_trials
from service.db.engine import Repository, database_now, locked, reading, writing
from service.db.jobs import read_jobs
from service.db.models import IS_ACTIVE, JobRow, ShareRow
from service.db.values import ACTIVE_STATES, Claim, Job, JobPhase, JobState

BATCH_COST = 16
"""What the next batch of a job is taken to cost its submitter, in candidates."""
NOT_WORTH_WAITING = 0.1
"""A job whose next batch is worth less than this share of another one's, with which it shares a
budget, leaves the trials to that, even if nothing is measured meanwhile."""


class Claims(Repository):
    """Who takes the next step of which job.

    A claim is held by an owner until a time of the database's clock. Whoever lost a claim can
    commit nothing for its job any more. A job whose batch is being measured needs no owner.
    """

    @writing
    def claim_jobs(
        self,
        session: Session,
        owner: str,
        ttl_secs: float,
        *,
        limit: int = 1,
        target_ids: Collection[str] | None = None,
    ) -> tuple[Claim, ...]:
        """Take active jobs whose next step is nobody's yet: none of their batches is open.

        The highest priority goes first, then whose submitter had the smallest share of the target,
        then the one that was not claimed for longest. Of those that share a budget the one whose
        next batch is worth most comes before the others; one that has to be appraised is worth
        more than all. Those that `owner` holds are not returned again.

        Parameters
        ----------
        limit : int
            The largest number of jobs.
        target_ids : collection of str or None
            Take jobs of these targets only.
        """
        now = database_now(session)
        free = and_(IS_ACTIVE, _is_free(JobRow, now))
        order = (JobRow.claimed_at.asc().nulls_first(), JobRow.created_at, JobRow.job_id)
        # What a submitter's jobs would be charged if each of them got a batch in this order.
        turn = func.coalesce(ShareRow.served, 0) + BATCH_COST * func.row_number().over(
            partition_by=(JobRow.target_id, JobRow.submitter, JobRow.priority), order_by=order
        )
        ranked = (
            select(JobRow.job_id, turn.label("turn"))
            .outerjoin(
                ShareRow,
                and_(
                    ShareRow.target_id == JobRow.target_id, ShareRow.submitter == JobRow.submitter
                ),
            )
            .where(free, _is_worth_most(now))
        )
        if target_ids is not None:
            ranked = ranked.where(JobRow.target_id.in_(target_ids))
        # Ranked in a query of its own: what is numbered cannot be locked.
        rank = ranked.subquery()
        claimed = session.scalars(
            select(JobRow)
            .join(rank, rank.c.job_id == JobRow.job_id)
            .where(free)
            .order_by(JobRow.priority.desc(), rank.c.turn, *order)
            .limit(limit)
            .with_for_update(of=JobRow, key_share=True, skip_locked=True)
            .execution_options(populate_existing=True)
        ).all()
        for row in claimed:
            row.owner = owner
            row.owner_until = now + timedelta(seconds=ttl_secs)
            row.claimed_at = now
            row.epoch += 1
            if row.state is JobState.QUEUED:
                row.state = JobState.RUNNING
                row.started_at = now
        session.flush()
        return tuple(_claim(session, job, now) for job in read_jobs(session, claimed))

    @writing
    def renew_jobs(
        self, session: Session, owner: str, ttl_secs: float, job_ids: Collection[str]
    ) -> None:
        """Extend claims that `owner` still holds; one that ran out must be claimed again."""
        rows = locked(
            session,
            select(JobRow)
            .where(JobRow.job_id.in_(job_ids), JobRow.owner == owner, IS_ACTIVE)
            .order_by(JobRow.job_id),
        )
        now = database_now(session)
        for row in rows:
            if row.owner_until is not None and row.owner_until > now:
                row.owner_until = now + timedelta(seconds=ttl_secs)

    @writing
    def release_jobs(self, session: Session, owner: str, job_id: str | None = None) -> None:
        """Give up the claim of `owner` on a job, or all that it holds."""
        statement = select(JobRow).where(JobRow.owner == owner).order_by(JobRow.job_id)
        if job_id is not None:
            statement = statement.where(JobRow.job_id == job_id)
        for row in locked(session, statement):
            row.owner = row.owner_until = None

    @reading
    def measuring_jobs(self, session: Session, target_ids: Collection[str]) -> int:
        """Count the active jobs that wait for measurements on some targets."""
        count = session.scalar(
            select(func.count()).where(
                IS_ACTIVE, JobRow.measuring.is_(True), JobRow.target_id.in_(target_ids)
            )
        )
        return count or 0


def _is_free(job: type[JobRow], now: datetime) -> ColumnElement[bool]:
    """Whether the next step of an active job is nobody's yet."""
    return and_(job.measuring.is_(False), or_(job.owner.is_(None), job.owner_until <= now))


def _is_worth_most(now: datetime) -> ColumnElement[bool]:
    """Whether a job shares no budget, or no other one that shares it goes first.

    Of those that wait that is the one which is worth more; of equal ones, such as those that nobody
    has tried, the one with fewer trials. One that is worth far more is waited for.
    """
    rival = aliased(JobRow)
    mine, theirs = (func.coalesce(job.worth_secs, math.inf) for job in (JobRow, rival))
    fewer = or_(
        rival.trials_done < JobRow.trials_done,
        and_(rival.trials_done == JobRow.trials_done, rival.job_id < JobRow.job_id),
    )
    goes_first = select(rival.job_id).where(
        rival.budget_id == JobRow.budget_id,
        rival.phase == JobPhase.SEARCH,
        rival.state.in_(ACTIVE_STATES),
        or_(
            and_(_is_free(rival, now), or_(theirs > mine, and_(theirs == mine, fewer))),
            theirs * NOT_WORTH_WAITING > mine,
        ),
    )
    return or_(JobRow.budget_id.is_(None), JobRow.phase == JobPhase.FINAL, ~goes_first.exists())


def _claim(session: Session, job: Job, now: datetime) -> Claim:
    spec, started_at = job.spec, job.started_at
    trials_left = None if spec.trials is None else spec.trials - job.trials_done
    if spec.budget_id is not None:
        trials_left = unspent_trials(session, spec.budget_id, spec.trials)
        started_at = session.scalar(
            select(func.min(JobRow.started_at)).where(JobRow.budget_id == spec.budget_id)
        )
    elapsed_secs = (now - (started_at or now)).total_seconds()
    return Claim(job=job, elapsed_secs=elapsed_secs, trials_left=trials_left)
