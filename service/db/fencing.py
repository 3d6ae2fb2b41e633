"""Whether a worker still has a lease: it is fenced off by its epoch and by the database's clock."""

from datetime import datetime

from schedules.errors import ConflictError
from service.db.models import BatchRow
from service.db.values import BatchState


def is_held(batch: BatchRow, epoch: int, now: datetime) -> bool:
    """Whether a batch is leased in that epoch, and the lease has not run out."""
    return (
        batch.state is BatchState.LEASED
        and batch.epoch == epoch
        and batch.lease_until is not None
        and batch.lease_until > now
    )


def held(batch: BatchRow, epoch: int, now: datetime) -> BatchRow:
    """Return a batch whose lease is held, or raise ConflictError."""
    if not is_held(batch, epoch, now):
        raise lost(batch)
    return batch


def lost(batch: BatchRow) -> ConflictError:
    """Return the error of a worker whose lease is another's, or nobody's."""
    return ConflictError(
        f"lease {batch.batch_id} is lost ({batch.state}, epoch {batch.epoch}); "
        "report what is measured and lease anew"
    )
