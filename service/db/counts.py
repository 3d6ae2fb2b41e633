"""Counting without reading what is counted."""

from sqlalchemy import func, select
from sqlalchemy.orm import Session

from service.db.engine import Repository, reading
from service.db.models import IS_ACTIVE, JobRow
from service.db.values import ACTIVE_STATES, JobState


class Counts(Repository):
    """How many there are."""

    @reading
    def count_active_jobs(self, session: Session) -> dict[JobState, int]:
        """Count the jobs in each active state."""
        rows = session.execute(
            select(JobRow.state, func.count()).where(IS_ACTIVE).group_by(JobRow.state)
        )
        return dict.fromkeys(ACTIVE_STATES, 0) | dict(rows.all())
