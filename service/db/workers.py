"""Workers: who measures, and who is there."""

from collections.abc import Mapping, Sequence
from datetime import timedelta

from sqlalchemy import ColumnElement, func, select
from sqlalchemy.orm import Session

from schedules.errors import NotFoundError
from schedules.records import Environment
from schedules.target import Target
from service.db import convert
from service.db.catalogue import save_target
from service.db.engine import Repository, database_now, locked, new_id, reading, writing
from service.db.leases import take_back, touch
from service.db.models import IS_LEASED, BatchRow, TargetRow, WorkerRow
from service.db.paging import page
from service.db.values import Page, Worker, WorkerState

OFFLINE_SECS = 90.0
"""A worker that was not seen for so long is offline."""


class Workers(Repository):
    """Workers. A name stands for one worker: whoever registers it last."""

    @writing
    def register_worker(
        self, session: Session, name: str, target: Target, environment: Environment
    ) -> Worker:
        """Add a worker, or put it in the place of the one that had the name.

        It keeps that one's id; the leases that one still had return to the queue.
        """
        save_target(session, target)
        now = database_now(session)
        known = locked(session, select(WorkerRow).where(WorkerRow.name == name))
        if known:
            (row,) = known
            row.target_id = target.target_id
            row.environment = dict(environment.facts)
            row.draining = False
            row.last_seen_at = now
            session.flush()
            # One that ends in order has none left.
            take_back(session, now, worker_id=row.worker_id, died=True)
        else:
            row = WorkerRow(
                worker_id=new_id(),
                name=name,
                target_id=target.target_id,
                environment=dict(environment.facts),
                draining=False,
                last_seen_at=now,
                registered_at=now,
            )
            session.add(row)
            session.flush()
        return _workers(session, [row])[0]

    @writing
    def touch_worker(self, session: Session, worker_id: str) -> None:
        """Note that a worker is there.

        Raises
        ------
        NotFoundError
            There is none of that id.
        """
        worker_row(session, worker_id)
        touch(session, worker_id, database_now(session))

    @writing
    def drain_worker(self, session: Session, worker_id: str) -> None:
        """Lease nothing more to a worker, and tell it to leave, until it registers again.

        Raises
        ------
        NotFoundError
            There is none of that id.
        """
        lock_worker(session, worker_id).draining = True

    @reading
    def workers(self, session: Session, *, limit: int, cursor: str | None) -> Page[Worker]:
        """List workers, newest first.

        Raises
        ------
        InputError
            The cursor or the limit is no good.
        """
        return page(
            session,
            select(WorkerRow),
            (WorkerRow.registered_at, WorkerRow.worker_id),
            lambda rows: _workers(session, rows),
            limit=limit,
            cursor=cursor,
        )

    @reading
    def worker(self, session: Session, worker_id: str) -> Worker:
        """Return a worker.

        Raises
        ------
        NotFoundError
            There is none of that id.
        """
        return _workers(session, [worker_row(session, worker_id)])[0]

    @reading
    def live_targets(self, session: Session) -> tuple[Target, ...]:
        """Return the distinct targets of the workers that are not offline."""
        live = select(WorkerRow.target_id).where(_is_live(session))
        rows = session.scalars(
            select(TargetRow).where(TargetRow.target_id.in_(live)).order_by(TargetRow.target_id)
        )
        return tuple(convert.target(row) for row in rows)

    @reading
    def measuring_workers(self, session: Session) -> Mapping[str, int]:
        """Count the workers that can be given work, by the id of their target."""
        rows = session.execute(
            select(WorkerRow.target_id, func.count())
            .where(_is_live(session), WorkerRow.quarantined.is_(None))
            .group_by(WorkerRow.target_id)
        )
        return {row[0]: row[1] for row in rows}


def worker_row(session: Session, worker_id: str) -> WorkerRow:
    """Return the row of a worker or raise NotFoundError."""
    row = session.get(WorkerRow, worker_id)
    if row is None:
        raise NotFoundError(f"there is no worker {worker_id}; register it")
    return row


def lock_worker(session: Session, worker_id: str) -> WorkerRow:
    """Hold the row of a worker until the transaction ends, or raise NotFoundError."""
    rows = locked(session, select(WorkerRow).where(WorkerRow.worker_id == worker_id))
    if not rows:
        raise NotFoundError(f"there is no worker {worker_id}; register it")
    return rows[0]


def _is_live(session: Session) -> ColumnElement[bool]:
    return WorkerRow.last_seen_at > database_now(session) - timedelta(seconds=OFFLINE_SECS)


def _workers(session: Session, rows: Sequence[WorkerRow]) -> list[Worker]:
    since = database_now(session) - timedelta(seconds=OFFLINE_SECS)
    target_ids = {row.target_id for row in rows}
    targets = {
        row.target_id: row
        for row in session.scalars(select(TargetRow).where(TargetRow.target_id.in_(target_ids)))
    }
    busy = set(
        session.scalars(
            select(BatchRow.worker_id).where(
                IS_LEASED,
                BatchRow.worker_id.in_([row.worker_id for row in rows]),
            )
        )
    )

    def state(row: WorkerRow) -> WorkerState:
        if row.last_seen_at <= since:
            return WorkerState.OFFLINE
        if row.quarantined is not None:
            return WorkerState.QUARANTINED
        if row.draining:
            return WorkerState.DRAINING
        return WorkerState.BUSY if row.worker_id in busy else WorkerState.IDLE

    return [convert.worker(row, targets[row.target_id], state(row)) for row in rows]
