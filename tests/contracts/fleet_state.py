"""What a fleet's machine knows, and what the store has to say after every step."""

from datetime import datetime, timedelta
from typing import ClassVar

from hypothesis.stateful import RuleBasedStateMachine, invariant
from sqlalchemy import select, text
from sqlalchemy.orm import Session

from schedules.records import FailureKind
from service.db.engine import Database
from service.db.models import BatchRow, RecordRow
from service.db.store import Store
from service.db.values import OPEN_STATES
from tests.contracts import fleet_model as model
from tests.contracts.conftest import delete_everything
from tests.contracts.store_values import WORKLOAD, stock, worker

NAMES = ("a", "b", "c")
TICK_SECS = 1e-6
_ASIDE = "SELECT record_id FROM records WHERE set_aside_at IS NOT NULL AND failure IS NULL"


class FleetState(RuleBasedStateMachine):
    """Who holds which job and lease until when, what is recorded, which requests are the same."""

    database: ClassVar[Database]
    clock: ClassVar[model.StoppedClock]

    def set_up(self) -> None:
        """Begin with an empty store and three workers."""
        delete_everything(self.database)
        self.store = Store(self.database)
        stock(self.store)
        self.workers = {name: worker(self.store, name).worker_id for name in NAMES}
        self.draining: set[str] = set()
        self.quarantined: set[str] = set()
        self.checks: dict[str, list[bool]] = {name: [] for name in NAMES}
        self.well_at = dict.fromkeys(NAMES, model.LONG_AGO)
        self.measured_by: dict[str, tuple[str, datetime]] = {}
        self.aside: set[str] = set()
        self.jobs: list[model.KnownJob] = []
        self.keys: dict[str, tuple[int, int, model.KnownJob]] = {}
        self.leases: list[model.KnownLease] = []
        self.held: dict[str, model.KnownLease] = {}
        self.reported: dict[str, int] = {}
        self.lost: set[str] = set()

    @invariant()
    def nothing_is_lost_doubled_or_stuck(self) -> None:
        self.database.read(self._check)

    def _check(self, session: Session) -> None:
        assert session.execute(text(model.BROKEN)).all() == []
        assert {tuple(row) for row in session.execute(text(model.LEASED))} == {
            (known.lease.lease_id, self.workers[name], known.lease.epoch)
            for name, known in self.held.items()
        }
        stored = session.execute(text("SELECT record_id, failure FROM records")).all()
        self.lost |= {key for key, kind in stored if kind == FailureKind.WORKER_LOST}
        assert not self.lost & self.reported.keys()
        assert set(session.scalars(text(_ASIDE))) == self.aside
        assert {key for key, _ in stored} == self.lost | self.reported.keys()

    def check_end(self, session: Session) -> None:
        open_batches = session.scalars(
            select(BatchRow.batch_id).where(BatchRow.state.in_(OPEN_STATES))
        )
        assert open_batches.all() == []
        for row in session.scalars(select(RecordRow).where(RecordRow.failure.is_(None))):
            # It is the first result that was reported for it.
            assert row.run_secs[0] == self.reported[row.record_id] * TICK_SECS
            assert row.workload_id == WORKLOAD.workload_id
        for job in self.jobs:
            told = self.store.job(job.job_id)
            assert (told.state.active, told.phase, told.spec.trials) == (
                job.active,
                job.phase,
                job.trials,
            )

    def _in(self, seconds: float) -> datetime:
        return self.clock.now + timedelta(seconds=seconds)

    def _is_held(self, job: model.KnownJob) -> bool:
        return bool(job.owner) and job.owner_until > self.clock.now

    def _end(self, job: model.KnownJob) -> None:
        job.active, job.owner = False, ""

    def _recent(self, back: int) -> list[model.KnownLease]:
        return self.leases[-1 - back % len(self.leases) :][:1] if self.leases else []

    def _taken_back(self) -> None:
        """Overdue leases are, whenever anything looks for batches."""
        for name, known in list(self.held.items()):
            if known.until <= self.clock.now:
                del self.held[name]

    def _quarantine(self, name: str) -> None:
        self.quarantined.add(name)
        self.aside |= {
            item
            for item, (by, at) in self.measured_by.items()
            if by == name and at > self.well_at[name]
        }
