"""Fair shares: whose batch is next, among submitters of one priority.

Every batch gets a turn when it is queued, and workers take batches in the order of turns. A turn
is the service that its submitter had received for the target by then, in candidates, so whoever had
least goes first; one who comes late begins where the others are, and has no claim on the past.

Source: start-time fair queueing, P. Goyal, H. Vin and H. Cheng, "Start-time fair queuing: a
scheduling algorithm for integrated services packet switching networks", SIGCOMM 1996.
"""

from sqlalchemy import func, select
from sqlalchemy.orm import Session

from service.db.engine import locked
from service.db.models import IS_READY, BatchRow, ShareRow


def take_turn(session: Session, target_id: str, submitter: str, candidates: int) -> int:
    """Charge a submitter for a batch, and return the batch's turn.

    Parameters
    ----------
    candidates : int
        How many candidates the batch has: what it costs.
    """
    rows = locked(
        session,
        select(ShareRow).where(ShareRow.target_id == target_id, ShareRow.submitter == submitter),
    )
    turn = max(rows[0].served if rows else 0, _present_turn(session, target_id))
    if rows:
        rows[0].served = turn + candidates
    else:
        session.add(ShareRow(target_id=target_id, submitter=submitter, served=turn + candidates))
    return turn


def _present_turn(session: Session, target_id: str) -> int:
    """Return the turn that a worker would take now; where nothing waits, the one after all."""
    waiting = session.scalar(
        select(func.min(BatchRow.turn)).where(BatchRow.target_id == target_id, IS_READY)
    )
    if waiting is not None:
        return waiting
    served = session.scalar(
        select(func.max(ShareRow.served)).where(ShareRow.target_id == target_id)
    )
    return served or 0
