"""Workloads and targets: what there is to tune, and what for."""

from sqlalchemy import select
from sqlalchemy.orm import Session

from schedules.errors import NotFoundError
from schedules.target import Target
from schedules.workload import Workload
from service.db import convert
from service.db.engine import Repository, database_now, insert_new, reading, writing
from service.db.models import TargetRow, WorkloadCallRow, WorkloadRow
from service.db.paging import page
from service.db.values import Page


class Catalogue(Repository):
    """Workloads and targets; both are known by the hash of what they are, and never change."""

    @writing
    def save_workload(self, session: Session, workload: Workload) -> None:
        """Store a workload, and the operator call that names it, if they are new."""
        values = convert.workload_values(workload)
        values["created_at"] = database_now(session)
        insert_new(session, WorkloadRow, [values], WorkloadRow.workload_id)
        if workload.call is None:
            return
        stored = session.get_one(WorkloadRow, workload.workload_id)
        if stored.call is None:
            # It came as bare IR before; the call brings a NumPy reference.
            stored.call = convert.call_values(workload.call)
        session.merge(WorkloadCallRow(call_key=workload.call.key, workload_id=workload.workload_id))

    @reading
    def workload(self, session: Session, workload_id: str) -> Workload:
        """Return a workload.

        Raises
        ------
        NotFoundError
            There is none of that id.
        """
        return convert.workload(workload_row(session, workload_id))

    @reading
    def workload_for_call(self, session: Session, call_key: str) -> Workload | None:
        """Return the workload that an operator call made, None if it was never saved."""
        row = session.scalars(
            select(WorkloadRow)
            .join(WorkloadCallRow, WorkloadCallRow.workload_id == WorkloadRow.workload_id)
            .where(WorkloadCallRow.call_key == call_key)
        ).one_or_none()
        return None if row is None else convert.workload(row)

    @reading
    def workloads(self, session: Session, *, limit: int, cursor: str | None) -> Page[Workload]:
        """List workloads, newest first.

        Raises
        ------
        InputError
            The cursor or the limit is no good.
        """
        return page(
            session,
            select(WorkloadRow),
            (WorkloadRow.created_at, WorkloadRow.workload_id),
            lambda rows: [convert.workload(row) for row in rows],
            limit=limit,
            cursor=cursor,
        )

    @writing
    def save_target(self, session: Session, target: Target) -> None:
        """Store a target if it is new."""
        save_target(session, target)

    @reading
    def target(self, session: Session, target_id: str) -> Target:
        """Return a target.

        Raises
        ------
        NotFoundError
            There is none of that id.
        """
        return convert.target(target_row(session, target_id))

    @reading
    def targets(self, session: Session, *, limit: int, cursor: str | None) -> Page[Target]:
        """List targets, newest first.

        Raises
        ------
        InputError
            The cursor or the limit is no good.
        """
        return page(
            session,
            select(TargetRow),
            (TargetRow.created_at, TargetRow.target_id),
            lambda rows: [convert.target(row) for row in rows],
            limit=limit,
            cursor=cursor,
        )


def save_target(session: Session, target: Target) -> None:
    """Insert a target if it is new."""
    values = {
        "target_id": target.target_id,
        "description": target.as_dict(),
        "created_at": database_now(session),
    }
    insert_new(session, TargetRow, [values], TargetRow.target_id)


def workload_row(session: Session, workload_id: str) -> WorkloadRow:
    """Return the row of a workload or raise NotFoundError."""
    row = session.get(WorkloadRow, workload_id)
    if row is None:
        raise NotFoundError(f"there is no workload {workload_id}")
    return row


def target_row(session: Session, target_id: str) -> TargetRow:
    """Return the row of a target or raise NotFoundError."""
    row = session.get(TargetRow, target_id)
    if row is None:
        raise NotFoundError(f"there is no target {target_id}")
    return row
