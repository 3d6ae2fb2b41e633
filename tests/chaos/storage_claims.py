"""Hundreds of workers claim thousands of batches at once; a thousand clients submit one job."""

import multiprocessing
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from contextlib import contextmanager
from functools import partial
from itertools import chain
from pathlib import Path
from typing import TypeVar

from sqlalchemy import func, select
from sqlalchemy.orm import Session

from schedules.errors import UnavailableError
from service.db.engine import Database
from service.db.migrate import upgrade
from service.db.models import BatchRow, ItemRow, JobRow, RecordRow
from service.db.store import Store
from service.db.values import BatchState, Job, JobSpec
from tests.chaos.fault import Fault, Outcome
from tests.contracts.store_values import (
    ENVIRONMENT,
    enqueue,
    measured,
    running_job,
    spec,
    worker,
)
from tests.postgres import make_database, postgres

SQLITE = "sqlite"
POSTGRESQL = "postgresql"
CLAIMERS = 200
TTL_SECS = 3600.0
"""Longer than any run: what is claimed twice was not free."""
T = TypeVar("T")

Claim = tuple[str, str, int, int]
"""Worker, batch, epoch, and how many of its results were accepted."""


class Processes(ProcessPoolExecutor):
    """So many processes, which begin with nothing of this one."""

    def __init__(self, count: int) -> None:
        super().__init__(count, mp_context=multiprocessing.get_context("spawn"))
        self.count = count


def claim_at_once(count: int, folder: Path, *, database: str) -> Outcome:
    """Let 200 workers (fewer for a short run) measure so many batches as fast as they can.

    Then a tenth as many equal requests are sent at once, and as many under one key.
    """
    claimers = max(8, min(CLAIMERS, count // 10))
    # One server process owns an SQLite file.
    processes = 1 if database == SQLITE else max(2, claimers // 50)
    with _database(database, folder) as url, Processes(processes) as pool:
        store = Store.open(url)
        job = running_job(store, trials=100_000)
        for _ in range(count):
            enqueue(store, job, 1)
        names = [worker(store, f"claimer-{number}").worker_id for number in range(claimers)]
        store.close()
        began = time.monotonic()
        claims = _everywhere(pool, _claim_all, url, names)
        notes = f"{claimers} workers, {count / (time.monotonic() - began):.0f} batches a second"
        claimed = _compare_claims(url, claims, count, notes)
        submitted = _submit_at_once(pool, url, count // 10)
    return Outcome(
        faults=claimed.faults + submitted.faults,
        lost=claimed.lost + submitted.lost,
        duplicated=claimed.duplicated + submitted.duplicated,
        orphaned=claimed.orphaned,
        notes=f"{claimed.notes}; {submitted.notes}",
    )


def _claim_all(url: str, names: Sequence[str]) -> list[Claim]:
    store = Store.open(url)

    def claim(name: str) -> list[Claim]:
        made = []
        while (held := _persist(partial(store.lease_batch, name, TTL_SECS))) is not None:
            results = [(item.item_id, measured()) for item in held.items]
            told = _persist(
                partial(store.report, held.lease_id, held.epoch, name, ENVIRONMENT, results)
            )
            made.append((name, held.lease_id, held.epoch, len(told.accepted)))
        return made

    try:
        return _joined(_threads(claim, names))
    finally:
        store.close()


def _compare_claims(url: str, claims: list[Claim], count: int, notes: str) -> Outcome:
    times = Counter(batch for _, batch, _, _ in claims)
    accepted = sum(claim[3] for claim in claims)

    def stored(session: Session) -> tuple[int, int, int]:
        """Count what is done after one lease, what is recorded, and leases."""
        done = (BatchRow.state == BatchState.DONE) & (BatchRow.epoch == 1)
        measured_once = ItemRow.item_id == RecordRow.record_id
        return (
            session.scalar(select(func.count()).select_from(BatchRow).where(done)) or 0,
            session.scalar(select(func.count()).select_from(ItemRow).join(RecordRow, measured_once))
            or 0,
            session.scalar(
                select(func.count()).select_from(BatchRow).where(BatchRow.lease_until.is_not(None))
            )
            or 0,
        )

    database = Database(url)
    try:
        done, recorded, leased = database.read(stored)
    finally:
        database.close()
    return Outcome(
        faults=count,
        lost=count - recorded,
        duplicated=sum(times.values()) - len(times) + abs(accepted - recorded) + len(times) - done,
        orphaned=count - len(times) + leased,
        notes=notes,
    )


def _submit_at_once(pool: Processes, url: str, count: int) -> Outcome:
    """Send equal requests without a key, then with one."""
    names = [str(number) for number in range(min(CLAIMERS, count))]
    each = -(-count // len(names))
    lost = duplicated = 0
    for key in (None, "key"):
        asked = spec(seed=0 if key is None else 1)
        work = partial(_submit_all, asked=asked, key=key, each=each)
        told = _everywhere(pool, work, url, names)
        made = Database(url)
        try:
            stored = made.read(_jobs_of(asked.seed))
        finally:
            made.close()
        lost += len({job_id for job_id, _ in told} - stored)
        duplicated += len(stored) - 1 + max(0, sum(new for _, new in told) - 1)
    return Outcome(
        faults=2 * each * len(names),
        lost=lost,
        duplicated=duplicated,
        notes=f"{each * len(names)} equal submits, as many with one key",
    )


def _jobs_of(seed: int | None) -> Callable[[Session], set[str]]:
    return lambda session: set(session.scalars(select(JobRow.job_id).where(JobRow.seed == seed)))


def _submit_all(
    url: str, names: Sequence[str], *, asked: JobSpec, key: str | None, each: int
) -> list[tuple[str, bool]]:
    store = Store.open(url)

    def submit(_: str) -> list[tuple[Job, bool]]:
        return [
            _persist(partial(store.submit_job, asked, idempotency_key=key)) for _ in range(each)
        ]

    try:
        return [(job.job_id, new) for told in _threads(submit, names) for job, new in told]
    finally:
        store.close()


def _joined(parts: Iterable[list[T]]) -> list[T]:
    return list(chain.from_iterable(parts))


def _everywhere(
    pool: Processes, work: Callable[..., list[T]], url: str, names: Sequence[str]
) -> list[T]:
    """Run `work` in each process for a part of the names."""
    parts = [names[number :: pool.count] for number in range(pool.count)]
    return _joined(pool.map(partial(work, url), parts))


def _threads(work: Callable[[str], T], names: Sequence[str]) -> list[T]:
    """Run `work` for each name in a thread of its own; all begin together."""
    barrier = threading.Barrier(len(names))

    def run(name: str) -> T:
        barrier.wait()
        return work(name)

    with ThreadPoolExecutor(len(names)) as pool:
        return list(pool.map(run, names))


def _persist(call: Callable[[], T]) -> T:
    """Repeat a call while the database is too busy, as clients do."""
    while True:
        try:
            return call()
        except UnavailableError:
            time.sleep(0.05)


@contextmanager
def _database(kind: str, folder: Path) -> Iterator[str]:
    """Make an empty database with the schema."""
    if kind == SQLITE:
        url = f"sqlite:///{folder / 'chaos.db'}"
        upgrade(url)
        yield url
        return
    with postgres() as server_url:
        url = make_database(server_url, "claims")
        upgrade(url)
        yield url


FAULTS = tuple(
    Fault(
        name=f"{CLAIMERS} workers claim batches at once, {database}",
        run=partial(claim_at_once, database=database),
        full=10_000,
        shrunk=60 if database == POSTGRESQL else 0,
        databases=(database,),
        full_secs=360,
    )
    for database in (SQLITE, POSTGRESQL)
)
