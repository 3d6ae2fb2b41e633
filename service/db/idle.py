"""What many waiting workers need of the database, read and written for all of them at once."""

from collections.abc import Collection
from dataclasses import dataclass
from datetime import timedelta

from sqlalchemy import func, select, update
from sqlalchemy.orm import Session

from service.db.engine import Repository, among, database_now, reading, writing
from service.db.leases import TOUCH_SECS
from service.db.models import IS_LEASED, IS_READY, BatchRow, WorkerRow


@dataclass(frozen=True, kw_only=True)
class Prospect:
    """Who would get something from `Queue.lease_batch`.

    Attributes
    ----------
    leasable : int
        How many batches there are for workers of the target, counted up to a bound.
    holders : frozenset of str
        Which of the workers asked about still have a lease.
    """

    leasable: int
    holders: frozenset[str]


class Idle(Repository):
    """Reading the queue and noting who is there, for many workers in one transaction."""

    @reading
    def prospect(
        self, session: Session, target_id: str, worker_ids: Collection[str], *, most: int
    ) -> Prospect:
        """Look whether leasing is worth a try.

        Parameters
        ----------
        target_id : str
            Of the workers that wait.
        worker_ids : collection of str
            Those that may still have a lease.
        most : int
            Batches are counted up to so many.
        """
        now = database_now(session)
        ready = (
            select(BatchRow.batch_id)
            .where(BatchRow.target_id == target_id, IS_READY, BatchRow.not_before <= now)
            .limit(most)
        )
        # Leasing also ends overdue leases, whosever they are.
        overdue = select(BatchRow.batch_id).where(IS_LEASED, BatchRow.lease_until <= now).limit(1)
        count, is_overdue = session.execute(
            select(
                select(func.count()).select_from(ready.subquery()).scalar_subquery(),
                overdue.exists(),
            )
        ).one()
        holders: frozenset[str] = frozenset()
        if worker_ids:
            found = session.scalars(
                select(BatchRow.worker_id).where(
                    IS_LEASED, among(session, BatchRow.worker_id, worker_ids)
                )
            )
            holders = frozenset(worker_id for worker_id in found if worker_id is not None)
        return Prospect(leasable=count + is_overdue, holders=holders)

    @writing
    def touch_workers(self, session: Session, worker_ids: Collection[str]) -> None:
        """Note that workers are there; unknown ones are left out."""
        now = database_now(session)
        # Those whose rows are held are being noted just now. In order, so that two processes that
        # do this never wait for each other in a circle.
        stale = (
            select(WorkerRow.worker_id)
            .where(
                among(session, WorkerRow.worker_id, worker_ids),
                WorkerRow.last_seen_at < now - timedelta(seconds=TOUCH_SECS),
            )
            .order_by(WorkerRow.worker_id)
            .with_for_update(key_share=True, skip_locked=True)
        )
        session.execute(
            update(WorkerRow)
            .where(WorkerRow.worker_id.in_(stale.scalar_subquery()))
            .values(last_seen_at=now)
            .execution_options(synchronize_session=False)
        )

    @reading
    def lease_subject(self, session: Session, lease_id: str) -> tuple[str, str] | None:
        """Return the ids of the job and the target of a lease, None if there never was one."""
        row = session.get(BatchRow, lease_id)
        return None if row is None else (row.job_id, row.target_id)
