"""A process whose clock is a day off, and jumps, shares a database with one whose clock is right.

Run as ``python -m tests.chaos.storage_clock DATABASE_URL`` it does to its store what it reads from
standard input, one JSON list for each call, and answers with one line each.
"""

import json
import os
import random
import subprocess
import sys
import time
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

from sqlalchemy import select
from sqlalchemy.orm import Session

from service.db.engine import Database, database_now
from service.db.migrate import upgrade
from service.db.models import BatchRow, JobRow
from service.db.store import Store
from tests.chaos.fault import Fault, Outcome
from tests.chaos.preload import Preload, missing
from tests.contracts.store_values import claim, enqueue, running_job, spec, worker
from tests.postgres import make_database, postgres

TTL_SECS = 1000.0
DAY_SECS = 86_400


class WrongProcess:
    """A store in a process whose clock is wrong."""

    def __init__(self, folder: Path, url: str) -> None:
        self._clock = Preload("shifted_clock", folder, control="SHIFTED_CLOCK", count=1)
        self._process = subprocess.Popen(
            [sys.executable, "-m", "tests.chaos.storage_clock", url],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env=os.environ | self._clock.environment,
        )

    def jump(self) -> None:
        """Set its clock to about a day before or after now, or nearly right."""
        self._clock[0] = random.choice((-DAY_SECS, -7, 7, DAY_SECS)) + random.randint(-5, 5)

    def call(self, method: str, *arguments: object) -> Any:
        """Call a method of its store; its clock jumps before and after."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self.jump()
        self._process.stdin.write(json.dumps([method, *arguments]) + "\n")
        self._process.stdin.flush()
        self.jump()
        return json.loads(self._process.stdout.readline())

    def close(self) -> None:
        """End it."""
        self._process.kill()
        self._process.communicate()


class Later:
    """What a right process adds to the database's clock, so that nobody has to wait."""

    def __init__(self) -> None:
        self.offset = timedelta(0)

    def __call__(self) -> timedelta:
        return self.offset


def shift_clocks(count: int, folder: Path) -> Outcome:
    """Let both processes hold a job and a lease, so many times, and look for how long."""
    if reason := missing():
        return Outcome(faults=0, notes=reason)
    with postgres() as server_url:
        url = make_database(server_url, "clocks")
        upgrade(url)
        later = Later()
        database = Database(url, clock_offset=later)
        wrong = WrongProcess(folder, url)
        try:
            skew_secs = abs(wrong.call("clock") - time.time())
            assert skew_secs > 1, "the clock of the other process is right"
            rounds = [_round(Store(database), database, later, wrong) for _ in range(count)]
        finally:
            wrong.close()
            database.close()
    early = sum(len(problems) for problems, _ in rounds)
    late = sum(len(problems) for _, problems in rounds)
    shown = [*{problem for pair in rounds for problems in pair for problem in problems}][:3]
    notes = "; ".join([f"{early} early and {late} eternal leases", *shown])
    return Outcome(faults=count, lost=early, orphaned=late, notes=notes)


def _round(
    store: Store, database: Database, later: Later, wrong: WrongProcess
) -> tuple[list[str], list[str]]:
    """Return what ended too early, and what did not end."""
    early, late = [], []
    later.offset = timedelta(0)
    # Each process holds one of two jobs and one of two leases.
    measuring = running_job(store, owner="feeder", seed=0)
    workers = [worker(store, name) for name in ("of the right", "of the wrong")]
    for _ in workers:
        enqueue(store, measuring, 1, owner="feeder")
    store.release_jobs("feeder")
    mine = running_job(store, owner="right", seed=1)
    store.submit_job(spec(seed=2), idempotency_key=None)
    store.renew_jobs("right", TTL_SECS, [mine.job_id])
    theirs = wrong.call("claim", "wrong", TTL_SECS)
    if theirs == mine.job_id:
        early.append("a job of the right process is claimed from it")
    held = store.lease_batch(workers[0].worker_id, TTL_SECS)
    lease_id, epoch = wrong.call("lease_batch", workers[1].worker_id, TTL_SECS)
    assert held is not None
    wrong.call("heartbeat", lease_id, epoch, TTL_SECS)
    wrong.call("renew_jobs", "wrong", TTL_SECS, [theirs])
    for left_secs in database.read(_left_secs):
        if left_secs < TTL_SECS / 2:
            early.append(f"a lease of {TTL_SECS:.0f} s ends in {left_secs:.0f} s")
        elif left_secs > TTL_SECS:
            late.append(f"a lease of {TTL_SECS:.0f} s ends in {left_secs:.0f} s")
    early += ["the wrong process ends leases"] * wrong.call("expire_leases")
    early += ["the right process ends leases"] * store.expire_leases()
    for claimed in (wrong.call("claim", "third", TTL_SECS), claim(store, "third", TTL_SECS)):
        if claimed is not None:
            early.append("a job is claimed from its owner")
    later.offset = timedelta(seconds=TTL_SECS + 1)
    # Whoever looks finds both overdue: half of the time the wrong process does.
    if random.random() < 0.5:
        ended = wrong.call("later", TTL_SECS + 1, "expire_leases")
    else:
        ended = store.expire_leases()
    late += ["an overdue lease does not end"] * (2 - ended)
    for _ in range(2):
        if claim(store, "next", TTL_SECS) is None:
            late.append("an overdue job cannot be claimed")
    for job in store.active_jobs():
        store.cancel_job(job.job_id)
    return early, late


def _left_secs(session: Session) -> list[float]:
    """How long each lease, of a batch or a job, lasts by the database's clock."""
    now: datetime = database_now(session)
    batches = session.scalars(select(BatchRow.lease_until).where(BatchRow.lease_until.is_not(None)))
    jobs = session.scalars(select(JobRow.owner_until).where(JobRow.owner_until.is_not(None)))
    untils = [until for until in (*batches, *jobs) if until is not None]
    assert len(untils) == 4
    return [(until - now).total_seconds() for until in untils]


def main() -> None:
    """Do what standard input says."""
    later = Later()
    store = Store(Database(sys.argv[1], clock_offset=later))
    for line in sys.stdin:
        method, *arguments = json.loads(line)
        later.offset = timedelta(0)
        if method == "later":
            later.offset = timedelta(seconds=arguments[0])
            method, *arguments = arguments[1:]
        print(json.dumps(_call(store, method, arguments)), flush=True)


def _call(store: Store, method: str, arguments: list[Any]) -> Any:
    if method == "clock":
        return time.time()
    if method == "claim":
        job = claim(store, *arguments)
        return job and job.job_id
    answer = getattr(store, method)(*arguments)
    if method == "lease_batch":
        return answer and [answer.lease_id, answer.epoch]
    return answer


FAULTS = (
    Fault(
        name="clocks a day off, and jumping, in terms of leases",
        run=shift_clocks,
        full=200,
        shrunk=0,
        databases=("postgresql",),
        full_secs=60,
    ),
)


if __name__ == "__main__":
    main()
