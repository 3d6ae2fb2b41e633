"""Workloads and targets: what there is to tune, and what for."""

from sqlalchemy import select
from sqlalchemy.orm import Session

from schedules.errors import NotFoundError
from schedules.target import Target
from schedules.workload import Workload
from service.db import convert
from service.db.engine import Repository, database_now, insert_new, known, reading, writing
from service.db.models import TargetRow, WorkloadCallRow, WorkloadRow
from service.db.paging import page
from service.db.values import Page


class Catalogue(Repository):
    """Workloads and targets; both are known by the hash of what they are, and never change."""

    def save_workload(self, workload: Workload) -> None:
        """Store a workload, and the operator call that names it, if they are new."""
        remembered = self._database.known
        if workload.call is None:
            stored = remembered.workload(workload.workload_id)
        else:
            stored = remembered.workload_for_call(workload.call.key)
        # An operator call may make another program than it did, with another compiler.
        if stored is None or _names(stored) != _names(workload):
            self._save_workload(workload)
            if workload.call is not None:
                remembered.add_call(workload.call.key, workload)

    @writing
    def _save_workload(self, session: Session, workload: Workload) -> None:
        values = convert.workload_values(workload)
        values["created_at"] = database_now(session)
        insert_new(session, WorkloadRow, [values], WorkloadRow.workload_id)
        stored = session.get_one(WorkloadRow, workload.workload_id)
        if stored.family_id is None:
            # It came before there were families.
            stored.family_id = workload.family_id
        if workload.call is None:
            return
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
        return find_workload(session, workload_id)

    def workload_for_call(self, call_key: str) -> Workload | None:
        """Return the workload that an operator call made, None if it was never saved."""
        found = self._database.known.workload_for_call(call_key)
        if found is None:
            found = self._workload_for_call(call_key)
            if found is not None:
                self._database.known.add_call(call_key, found)
        return found

    @reading
    def _workload_for_call(self, session: Session, call_key: str) -> Workload | None:
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

    def save_target(self, target: Target) -> None:
        """Store a target if it is new."""
        if self._database.known.target(target.target_id) is None:
            self._save_target(target)
            self._database.known.add_target(target)

    @writing
    def _save_target(self, session: Session, target: Target) -> None:
        save_target(session, target)

    @reading
    def target(self, session: Session, target_id: str) -> Target:
        """Return a target.

        Raises
        ------
        NotFoundError
            There is none of that id.
        """
        return find_target(session, target_id)

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


def _names(workload: Workload) -> tuple[str, str | None]:
    return workload.workload_id, workload.family_id


def save_target(session: Session, target: Target) -> None:
    """Insert a target if it is new."""
    values = {
        "target_id": target.target_id,
        "description": target.as_dict(),
        "created_at": database_now(session),
    }
    insert_new(session, TargetRow, [values], TargetRow.target_id)


def find_workload(session: Session, workload_id: str) -> Workload:
    """Return a workload or raise NotFoundError."""
    found = known(session).workload(workload_id)
    if found is None:
        row = session.get(WorkloadRow, workload_id)
        if row is None:
            raise NotFoundError(f"there is no workload {workload_id}")
        found = convert.workload(row)
        known(session).add_workload(found)
    return found


def find_target(session: Session, target_id: str) -> Target:
    """Return a target or raise NotFoundError."""
    found = known(session).target(target_id)
    if found is None:
        row = session.get(TargetRow, target_id)
        if row is None:
            raise NotFoundError(f"there is no target {target_id}")
        found = convert.target(row)
        known(session).add_target(found)
    return found
