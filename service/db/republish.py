"""What becomes of bests when the records of a worker are set aside, or come back."""

from datetime import datetime
from itertools import groupby

from sqlalchemy import select, update
from sqlalchemy.orm import Session

from schedules.records import Purpose
from service.db import convert
from service.db.engine import locked
from service.db.models import BestRow, ItemRow, RecordRow
from service.db.records import put_best
from tuner.publish import choose_best


def set_records_aside(
    session: Session, worker_id: str, since: datetime | None, now: datetime
) -> None:
    """Let a worker's records count for nothing, and bests that rest on them give way.

    Parameters
    ----------
    since : datetime or None
        Records after this time; all of them where there is none.
    """
    suspect = [RecordRow.worker_id == worker_id, RecordRow.set_aside_at.is_(None)]
    if since is not None:
        suspect.append(RecordRow.created_at > since)
    session.execute(update(RecordRow).where(*suspect).values(set_aside_at=now))
    fallen = locked(
        session,
        select(BestRow)
        .join(RecordRow, RecordRow.record_id == BestRow.record_id)
        .where(RecordRow.worker_id == worker_id, RecordRow.set_aside_at.is_not(None))
        .order_by(BestRow.workload_id, BestRow.target_id),
    )
    for row in fallen:
        workload_id, target_id = row.workload_id, row.target_id
        session.delete(row)
        session.flush()
        _publish_again(session, workload_id, target_id)


def restore_records(session: Session, worker_id: str) -> int:
    """Let a worker's records count again, publish the bests among them, and count the records."""
    aside = [RecordRow.worker_id == worker_id, RecordRow.set_aside_at.is_not(None)]
    pairs = session.execute(
        select(RecordRow.workload_id, RecordRow.target_id)
        .where(*aside, RecordRow.purpose == Purpose.FINAL)
        .distinct()
        .order_by(RecordRow.workload_id, RecordRow.target_id)
    ).all()
    count = len(
        session.execute(
            update(RecordRow).where(*aside).values(set_aside_at=None).returning(RecordRow.record_id)
        ).all()
    )
    for workload_id, target_id in pairs:
        _publish_again(session, workload_id, target_id)
    return count


def _publish_again(session: Session, workload_id: str, target_id: str) -> None:
    """Publish what every final batch of a workload on a target gives, in the order of the past."""
    rows = session.execute(
        select(ItemRow.origin_batch_id, RecordRow)
        .join(RecordRow, RecordRow.record_id == ItemRow.item_id)
        .where(
            RecordRow.workload_id == workload_id,
            RecordRow.target_id == target_id,
            RecordRow.purpose == Purpose.FINAL,
            RecordRow.set_aside_at.is_(None),
        )
        .order_by(ItemRow.origin_batch_id, RecordRow.record_id)
    ).all()
    for _, batch in groupby(rows, key=lambda row: row[0]):
        records = [row for _, row in batch]
        best = choose_best([convert.record(row) for row in records])
        if best is not None:
            put_best(session, best, records[0].job_id)
