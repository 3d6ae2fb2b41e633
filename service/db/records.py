"""Tuning records and bests: the results."""

from collections.abc import Collection, Iterator, Sequence

from sqlalchemy import ColumnElement, select, tuple_
from sqlalchemy.orm import InstrumentedAttribute, Session, aliased

from schedules.errors import InputError, NotFoundError
from schedules.records import DEFAULT_TRACE, Best, Purpose, TuningRecord
from schedules.workload import Workload
from service.db import convert
from service.db.catalogue import find_target, find_workload
from service.db.counts import count_records
from service.db.engine import Repository, among, database_now, insert_new, locked, reading, writing
from service.db.jobs import lock_owned_job
from service.db.models import BatchRow, BestRow, ItemRow, RecordRow, TargetRow, WorkloadRow
from service.db.paging import (
    Position,
    all_items,
    check_limit,
    decode_cursor,
    encode_cursor,
    page,
)
from service.db.queries import RecordFilter
from service.db.scan import EXAMINED, Scan
from service.db.values import ItemState, Page

_CHUNK = 1000


class Records(Repository):
    """Tuning records: added, never changed."""

    @writing
    def add_records(self, session: Session, records: Sequence[TuningRecord]) -> int:
        """Add records from elsewhere, skip those whose id is known, and return how many were new.

        Raises
        ------
        NotFoundError
            A workload or target of theirs is not stored; nothing is added.
        InputError
            A result is no measurement; nothing is added.
        """
        added = 0
        for start in range(0, len(records), _CHUNK):
            part = records[start : start + _CHUNK]
            _require(session, WorkloadRow.workload_id, {record.workload_id for record in part})
            _require(session, TargetRow.target_id, {record.target_id for record in part})
            rows = [convert.record_values(record) for record in part]
            new = set(insert_new(session, RecordRow, rows, RecordRow.record_id))
            # Of those with one id the first is in.
            by_id = {row["record_id"]: row for row in reversed(rows)}
            count_records(session, [by_id[record_id] for record_id in new])
            added += len(new)
        return added

    @reading
    def records(
        self, session: Session, filters: RecordFilter, *, limit: int, cursor: str | None
    ) -> Page[TuningRecord]:
        """List records, newest first.

        A page looks at a bounded part of the log (`service.db.scan`): where more than one condition
        has to hold it may have fewer items than asked for, or none, and yet not be the last.

        Raises
        ------
        InputError
            The cursor, the limit or a naive time is no good.
        """
        check_limit(limit)
        position = None if cursor is None else decode_cursor(cursor, ids=1)
        scan = Scan(filters)
        # One more than asked for tells whether there is a next page.
        examined = limit + 1 if scan.whole else EXAMINED
        statement, _ = scan.part(position, examined=examined)
        rows: Sequence[RecordRow] = session.scalars(statement.limit(limit + 1)).all()
        shown = rows[:limit]
        end: Position | None
        if len(rows) > limit:
            end = (shown[-1].created_at, shown[-1].record_id)
        else:
            end = None if scan.whole else scan.end(session, position, examined=examined)
        return Page(
            items=tuple(convert.record(row) for row in shown),
            next_cursor=None if end is None else encode_cursor(end),
        )

    def iter_records(self, filters: RecordFilter, chunk: int = 1000) -> Iterator[TuningRecord]:
        """Go through all records, newest first, in short transactions of `chunk` records each.

        Records that were stored when it began are met exactly once.

        Raises
        ------
        InputError
            The chunk or a naive time is no good.
        """
        return all_items(lambda cursor: self.records(filters, limit=chunk, cursor=cursor))

    @reading
    def trials(
        self, session: Session, workload_id: str, target_id: str
    ) -> tuple[TuningRecord, ...]:
        """Return all trials of a workload on a target that are not set aside, oldest first."""
        rows = session.scalars(
            select(RecordRow)
            .where(
                RecordRow.workload_id == workload_id,
                RecordRow.target_id == target_id,
                RecordRow.purpose == Purpose.TRIAL,
                RecordRow.set_aside_at.is_(None),
            )
            .order_by(RecordRow.created_at, RecordRow.record_id)
        )
        return tuple(convert.record(row) for row in rows)

    @reading
    def finals(self, session: Session, job_id: str) -> tuple[TuningRecord, ...]:
        """Return the records of the job's latest final batch, in the order of its candidates.

        Those that are set aside are not among them.
        """
        latest = (
            select(BatchRow.batch_id)
            .where(
                BatchRow.job_id == job_id,
                BatchRow.purpose == Purpose.FINAL,
                BatchRow.split_from.is_(None),
            )
            .order_by(BatchRow.created_at.desc(), BatchRow.batch_id.desc())
            .limit(1)
            .scalar_subquery()
        )
        rows = session.scalars(
            select(RecordRow)
            .join(ItemRow, ItemRow.item_id == RecordRow.record_id)
            .where(ItemRow.origin_batch_id == latest, RecordRow.set_aside_at.is_(None))
            .order_by(RecordRow.record_id)
        )
        return tuple(convert.record(row) for row in rows)


class Bests(Repository):
    """The published records."""

    @writing
    def publish(
        self,
        session: Session,
        best: Best,
        owner: str | None,
        job_id: str | None,
        *,
        remeasured: bool = False,
    ) -> Best:
        """Publish a best, unless a faster one is stored, and return the one that is stored then.

        A stored one that was measured again, as a finalist in the same batch, is replaced even by
        a slower one: a measurement side by side is the better evidence.

        Parameters
        ----------
        owner, job_id : str or None
            The job that found it and who holds that; None for imports.
        remeasured : bool
            Whether the caller knows that the stored one was measured beside it.

        Raises
        ------
        InputError
            An owner without a job.
        NotFoundError
            The job, workload or target is unknown.
        ConflictError
            `owner` does not hold the job.
        """
        if owner is not None:
            if job_id is None:
                raise InputError("an owner publishes for a job; give its id")
            lock_owned_job(session, job_id, owner)
        return put_best(session, best, job_id, remeasured=remeasured)

    @reading
    def best(self, session: Session, workload_id: str, target_id: str) -> Best | None:
        """Return the best of a workload on a target, None if nothing is published."""
        row = session.get(BestRow, (workload_id, target_id))
        return None if row is None else convert.best(row)

    @reading
    def bests_of(
        self, session: Session, pairs: Collection[tuple[str, str]]
    ) -> dict[tuple[str, str], Best]:
        """Return the bests of pairs of a workload and a target, where there are any."""
        rows = session.scalars(
            select(BestRow).where(tuple_(BestRow.workload_id, BestRow.target_id).in_(pairs))
        )
        return {(row.workload_id, row.target_id): convert.best(row) for row in rows}

    @reading
    def bests_of_operator(
        self, session: Session, operator: str, dtype: str, target_id: str
    ) -> tuple[tuple[Workload, Best], ...]:
        """Return the tuned bests of all shapes of an operator on a target, with their workloads.

        Where the compiler's default is best, there is nothing that other shapes could take over.
        """
        return _tuned(
            session,
            target_id,
            WorkloadRow.call["op"].as_string() == operator,
            WorkloadRow.call["dtype"].as_string() == dtype,
        )

    @reading
    def bests_of_family(
        self, session: Session, family_id: str, target_id: str
    ) -> tuple[tuple[Workload, Best], ...]:
        """Return the tuned bests of a family on a target, as `bests_of_operator` does."""
        return _tuned(session, target_id, WorkloadRow.family_id == family_id)

    @reading
    def best_record_ids(
        self, session: Session, target_id: str, workload_ids: Collection[str]
    ) -> dict[str, str]:
        """Return the record ids of the bests on a target by workload, where there are any.

        A best changes only together with its record, so that this tells cheaply whether it has.
        """
        rows = session.execute(
            select(BestRow.workload_id, BestRow.record_id).where(
                BestRow.target_id == target_id, among(session, BestRow.workload_id, workload_ids)
            )
        )
        return {row.workload_id: row.record_id for row in rows}

    @reading
    def bests(
        self,
        session: Session,
        *,
        workload_id: str | None = None,
        target_id: str | None = None,
        limit: int,
        cursor: str | None,
    ) -> Page[Best]:
        """List bests; the order is that in which their workloads and targets were first published.

        Raises
        ------
        InputError
            The cursor or the limit is no good.
        """
        statement = select(BestRow)
        if workload_id is not None:
            statement = statement.where(BestRow.workload_id == workload_id)
        if target_id is not None:
            statement = statement.where(BestRow.target_id == target_id)
        return page(
            session,
            statement,
            (BestRow.first_at, BestRow.workload_id, BestRow.target_id),
            lambda rows: [convert.best(row) for row in rows],
            limit=limit,
            cursor=cursor,
        )


def put_best(session: Session, best: Best, job_id: str | None, *, remeasured: bool = False) -> Best:
    """Publish a best as `Bests.publish` says, in a transaction that is under way."""
    rows = locked(
        session,
        select(BestRow).where(
            BestRow.workload_id == best.workload_id, BestRow.target_id == best.target_id
        ),
    )
    values = convert.best_values(best) | {"job_id": job_id}
    if not rows:
        find_workload(session, best.workload_id)
        find_target(session, best.target_id)
        session.add(BestRow(**values, first_at=database_now(session)))
        return best
    (stored,) = rows
    slower = best.latency_secs >= stored.latency_secs
    if slower and not (remeasured or _measured_together(session, stored.trace_id, best.record_id)):
        return convert.best(stored)
    for name, value in values.items():
        setattr(stored, name, value)
    return best


def _tuned(
    session: Session, target_id: str, *conditions: ColumnElement[bool]
) -> tuple[tuple[Workload, Best], ...]:
    rows = session.execute(
        select(WorkloadRow, BestRow)
        .join(BestRow, BestRow.workload_id == WorkloadRow.workload_id)
        .where(BestRow.target_id == target_id, BestRow.trace != DEFAULT_TRACE, *conditions)
    )
    return tuple((convert.workload(row), convert.best(best)) for row, best in rows)


def _require(session: Session, column: InstrumentedAttribute[str], ids: set[str]) -> None:
    missing = ids - set(session.scalars(select(column).where(column.in_(ids))))
    if missing:
        raise NotFoundError(f"there is no {column.key} {min(missing)}; save it before its records")


def _measured_together(session: Session, trace_id: str, record_id: str) -> bool:
    """Whether the batch that made a record has measured that trace too."""
    mine, rival = aliased(ItemRow), aliased(ItemRow)
    found = session.scalars(
        select(rival.item_id)
        .join(mine, mine.origin_batch_id == rival.origin_batch_id)
        .where(mine.item_id == record_id, rival.trace_id == trace_id, rival.state == ItemState.DONE)
        .limit(1)
    )
    return found.first() is not None
