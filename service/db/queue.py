"""The queue: batches that orchestrators put in and workers lease.

::

    READY  -> LEASED     epoch + 1, attempt + 1, until the database's clock + TTL
    LEASED -> LEASED     heartbeat, if the epoch matches and the lease is not overdue
    LEASED -> DONE       every item is recorded, by whomever
    LEASED -> READY      released; the attempt does not count
    LEASED -> READY      its worker asks for work again; the attempt counts
    LEASED -> SPLIT      its worker has died and registers again: as when overdue, but at once
    LEASED -> SPLIT      overdue: its open items wait in batches of their own, after a while
    READY, LEASED -> DONE        its last item was reported late, through an earlier lease
    READY, LEASED -> CANCELLED   its job ended; a leased one when its lease ends
    LEASED -> DEAD       came back too often; its open items are recorded as lost
"""

from collections.abc import Mapping, Sequence
from datetime import timedelta

from sqlalchemy import func, insert, select
from sqlalchemy.orm import Session

from schedules.errors import ConflictError, InputError, NotFoundError
from schedules.records import (
    PROTOCOL_VERSION,
    Candidate,
    Environment,
    MeasureResult,
    Purpose,
)
from service.db import convert
from service.db.budgets import affordable
from service.db.catalogue import find_target, find_workload
from service.db.engine import Repository, database_now, locked, new_id, reading, writing
from service.db.fencing import held, is_held, lost
from service.db.health import note_crashes
from service.db.jobs import cancel_batch, lock_owned_job
from service.db.leases import (
    has_open_items,
    note_progress,
    note_seen,
    open_items,
    record_results,
    take_back,
    touch,
)
from service.db.models import IS_READY, BatchRow, ItemRow, JobRow
from service.db.shares import take_turn
from service.db.values import (
    OPEN_STATES,
    BatchProgress,
    BatchState,
    Command,
    ItemState,
    Lease,
    LeasedItem,
    Report,
)
from service.db.workers import lock_worker, worker_row


class Queue(Repository):
    """Batches and their leases."""

    @writing
    def enqueue_batch(
        self,
        session: Session,
        job_id: str,
        owner: str,
        *,
        purpose: Purpose,
        candidates: Sequence[Candidate],
        incumbent_secs: float | None,
    ) -> str:
        """Queue candidates to be measured together and return the batch's id.

        What is more than a budget that is shared has left is not queued.

        Raises
        ------
        InputError
            There are no candidates.
        NotFoundError
            There is no such job.
        ConflictError
            `owner` does not hold the job, it is finished, or a budget that it shares is spent.
        """
        if not candidates:
            raise InputError("a batch needs at least one candidate")
        job = lock_owned_job(session, job_id, owner)
        candidates = affordable(session, job, purpose, candidates)
        now = database_now(session)
        batch_id = new_id()
        batch = BatchRow(
            batch_id=batch_id,
            job_id=job_id,
            target_id=job.target_id,
            precedence=-job.priority,
            turn=take_turn(session, job.target_id, job.submitter, len(candidates)),
            purpose=purpose,
            incumbent_secs=incumbent_secs,
            state=BatchState.READY,
            attempt=0,
            epoch=0,
            not_before=now,
            created_at=now,
        )
        session.add(batch)
        job.measuring = True
        session.flush()
        # Items, and the records that they become, sort in the order of the candidates.
        ids = sorted(new_id() for _ in candidates)
        session.execute(
            insert(ItemRow),
            [
                {
                    "item_id": item_id,
                    "batch_id": batch_id,
                    "origin_batch_id": batch_id,
                    "state": ItemState.OPEN,
                    "losses": 0,
                    **convert.candidate_values(candidate),
                }
                for item_id, candidate in zip(ids, candidates, strict=True)
            ],
        )
        return batch_id

    @reading
    def progress(self, session: Session, job_id: str) -> BatchProgress:
        """Count what a job waits for."""
        rows = session.execute(
            select(BatchRow.state, func.count(BatchRow.batch_id.distinct()), func.count())
            .join(ItemRow, ItemRow.batch_id == BatchRow.batch_id)
            .where(
                BatchRow.job_id == job_id,
                BatchRow.state.in_(OPEN_STATES),
                ItemRow.state == ItemState.OPEN,
            )
            .group_by(BatchRow.state)
        ).all()
        batches = {state: count for state, count, _ in rows}
        return BatchProgress(
            open_batches=sum(batches.values()),
            open_items=sum(count for _, _, count in rows),
            leased_batches=batches.get(BatchState.LEASED, 0),
        )

    @writing
    def lease_batch(self, session: Session, worker_id: str, ttl_secs: float) -> Lease | None:
        """Lease a batch for a worker's target.

        The highest priority of a job goes first, then the submitter with the smallest share, then
        the oldest. A worker holds at most one lease: one that it still has is returned first, as it
        cannot have had the answer. None if nothing is ready, or the worker is draining or
        quarantined.

        Raises
        ------
        NotFoundError
            The worker is unknown.
        """
        worker = lock_worker(session, worker_id)
        now = database_now(session)
        note_seen(worker, now)
        if take_back(session, now, worker_id=worker_id).ended:
            # What came back just now can be leased.
            now = database_now(session)
        if worker.draining or worker.quarantined is not None:
            return None
        found = session.execute(
            select(BatchRow, JobRow.workload_id)
            .join(JobRow, JobRow.job_id == BatchRow.job_id)
            .where(
                BatchRow.target_id == worker.target_id,
                IS_READY,
                BatchRow.not_before <= now,
            )
            .order_by(BatchRow.precedence, BatchRow.turn, BatchRow.created_at, BatchRow.batch_id)
            .limit(1)
            .with_for_update(of=BatchRow, key_share=True, skip_locked=True)
            .execution_options(populate_existing=True)
        ).one_or_none()
        if found is None:
            return None
        batch, workload_id = found
        batch.state = BatchState.LEASED
        batch.epoch += 1
        batch.attempt += 1
        batch.worker_id = worker_id
        batch.lease_until = now + timedelta(seconds=ttl_secs)
        return Lease(
            lease_id=batch.batch_id,
            epoch=batch.epoch,
            ttl_secs=ttl_secs,
            job_id=batch.job_id,
            workload=find_workload(session, workload_id),
            target=find_target(session, batch.target_id),
            purpose=batch.purpose,
            incumbent_secs=batch.incumbent_secs,
            items=tuple(
                LeasedItem(item_id=item.item_id, candidate=convert.candidate(item))
                for item in open_items(session, batch.batch_id)
            ),
            waited_secs=(now - batch.not_before).total_seconds(),
        )

    @writing
    def heartbeat(self, session: Session, lease_id: str, epoch: int, ttl_secs: float) -> Command:
        """Extend a lease and tell its worker what to do.

        Raises
        ------
        NotFoundError
            There never was such a lease.
        ConflictError
            The lease is lost: it ran out, was returned, or its work is done.
        """
        now = database_now(session)
        worker_id = held(_batch(session, lease_id), epoch, now).worker_id
        if worker_id is not None:
            touch(session, worker_id, now)
        (batch,) = locked(session, select(BatchRow).where(BatchRow.batch_id == lease_id))
        now = database_now(session)
        until = held(batch, epoch, now).lease_until
        extended = now + timedelta(seconds=ttl_secs)
        batch.lease_until = extended if until is None else max(until, extended)
        if not session.get_one(JobRow, batch.job_id).state.active:
            return Command.CANCEL
        if worker_id is not None and worker_row(session, worker_id).draining:
            return Command.DRAIN
        return Command.CONTINUE

    @writing
    def report(
        self,
        session: Session,
        lease_id: str,
        epoch: int,
        worker_id: str,
        environment: Environment,
        results: Sequence[tuple[str, MeasureResult]],
        *,
        protocol_version: int = PROTOCOL_VERSION,
    ) -> Report:
        """Store results as tuning records, under the measurement protocol of their worker.

        A measurement is a fact, even where it comes late: an item without a record gets it from
        whichever of its leases reports first, and leaves the batch in which it waits.

        Raises
        ------
        NotFoundError
            The worker, the lease or one of its items is unknown; nothing is stored.
        ConflictError
            The lease never had that epoch; nothing is stored.
        InputError
            A result is no measurement; nothing is stored.
        """
        # Held, so that it is not quarantined meanwhile.
        worker = lock_worker(session, worker_id)
        note_seen(worker, database_now(session))
        # Items only change while their job's row is held.
        job = _lock_job_of(session, lease_id)
        items = {
            item.item_id: item
            for item in session.scalars(
                select(ItemRow).where(ItemRow.item_id.in_([item_id for item_id, _ in results]))
            )
            if lease_id in (item.batch_id, item.origin_batch_id)
        }
        for item_id, _ in results:
            if item_id not in items:
                raise NotFoundError(f"lease {lease_id} has no item {item_id}")
        batches = {
            batch.batch_id: batch
            for batch in locked(
                session,
                select(BatchRow)
                .where(
                    BatchRow.batch_id.in_({lease_id, *(item.batch_id for item in items.values())})
                )
                .order_by(BatchRow.batch_id),
            )
        }
        lease = batches[lease_id]
        if not 1 <= epoch <= lease.epoch:
            raise ConflictError(f"lease {lease_id} never had epoch {epoch}")
        accepted: dict[str, MeasureResult] = {}
        duplicate: list[str] = []
        for item_id, result in results:
            recorded = items[item_id].state in (ItemState.DONE, ItemState.POISON)
            if recorded or item_id in accepted:
                duplicate.append(item_id)
            else:
                accepted[item_id] = result
        now = database_now(session)
        record_results(
            session,
            job,
            lease.purpose,
            [(items[item_id], result) for item_id, result in accepted.items()],
            worker_id,
            environment,
            now,
            protocol_version=protocol_version,
            set_aside=worker.quarantined is not None,
        )
        note_crashes(
            session, job, worker_id, [(items[key], result) for key, result in accepted.items()], now
        )
        session.flush()
        for batch_id in {items[item_id].batch_id for item_id in accepted}:
            batch = batches[batch_id]
            if batch.state in OPEN_STATES and not has_open_items(session, batch_id):
                batch.state = BatchState.DONE
                batch.lease_until = None
                note_progress(session, job)
        return Report(
            accepted=tuple(accepted),
            duplicate=tuple(duplicate),
            lease_open=is_held(lease, epoch, now),
        )

    @writing
    def release(self, session: Session, lease_id: str, epoch: int) -> None:
        """Give a batch back unfinished; the attempt does not count.

        Raises
        ------
        NotFoundError
            There never was such a lease.
        ConflictError
            The lease is lost already.
        """
        job = _lock_job_of(session, lease_id)
        (batch,) = locked(session, select(BatchRow).where(BatchRow.batch_id == lease_id))
        if batch.state is not BatchState.LEASED or batch.epoch != epoch:
            raise lost(batch)
        if job.state.active:
            batch.state = BatchState.READY
            batch.attempt -= 1
            batch.worker_id = batch.lease_until = None
        else:
            cancel_batch(session, batch)

    @reading
    def backlog(self, session: Session) -> Mapping[str, int]:
        """Count the batches that wait for a worker, by the id of their target."""
        rows = session.execute(
            select(BatchRow.target_id, func.count()).where(IS_READY).group_by(BatchRow.target_id)
        )
        return {row[0]: row[1] for row in rows}

    @writing
    def expire_leases(self, session: Session) -> int:
        """End overdue leases and return how many there were.

        Their open items return one by one, after a while; those that were lost too often are
        recorded as `FailureKind.WORKER_LOST`.
        """
        return take_back(session, database_now(session)).overdue


def _batch(session: Session, lease_id: str) -> BatchRow:
    row = session.get(BatchRow, lease_id)
    if row is None:
        raise _no_lease(lease_id)
    return row


def _lock_job_of(session: Session, lease_id: str) -> JobRow:
    """Hold the row of a lease's job until the transaction ends."""
    job_id = select(BatchRow.job_id).where(BatchRow.batch_id == lease_id).scalar_subquery()
    rows = locked(session, select(JobRow).where(JobRow.job_id == job_id))
    if not rows:
        raise _no_lease(lease_id)
    return rows[0]


def _no_lease(lease_id: str) -> NotFoundError:
    return NotFoundError(f"there is no lease {lease_id}")
