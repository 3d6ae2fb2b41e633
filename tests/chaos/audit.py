"""Compares what the ledger says was measured with what the database says."""

from collections import Counter, defaultdict
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sqlalchemy import select
from sqlalchemy.orm import Session

from schedules.records import FailureKind, Purpose
from service.db.engine import Database
from service.db.models import BatchRow, ItemRow, JobRow, RecordRow
from service.db.values import OPEN_STATES, ItemState, JobState
from tests.chaos.fault import Outcome
from tests.chaos.worker import measurement_of

Key = tuple[str, str, str]
"""Workload, purpose and trace: one item, as every job has a workload of its own."""


@dataclass(frozen=True, kw_only=True)
class Audit:
    """What was found at the end of a run.

    Attributes
    ----------
    measured : int
        Measurements in the ledger.
    again : int
        How many of them were of a candidate that had been measured before.
    given_up : int
        Records that say that their candidate was lost with its workers.
    jobs : int
        How many jobs there are.
    problems : tuple of (str, str)
        ``lost``, ``duplicated`` or ``orphaned``, and what it is.
    """

    measured: int
    again: int
    given_up: int
    jobs: int
    problems: tuple[tuple[str, str], ...]

    @classmethod
    def total(cls, audits: Iterable["Audit"]) -> "Audit":
        """Add up what was found of several fleets."""
        found = list(audits)
        return cls(
            measured=sum(one.measured for one in found),
            again=sum(one.again for one in found),
            given_up=sum(one.given_up for one in found),
            jobs=sum(one.jobs for one in found),
            problems=tuple(problem for one in found for problem in one.problems),
        )

    def outcome(
        self,
        faults: int,
        notes: str = "",
        *,
        lost: int = 0,
        duplicated: int = 0,
        orphaned: int = 0,
        **times: float,
    ) -> Outcome:
        """Make the outcome of a run, with what it found besides."""
        counts = Counter(kind for kind, _ in self.problems)
        parts = [notes]
        if self.measured:
            parts.append(f"{self.measured} measurements, {self.again} of them repeated")
        if self.given_up:
            parts.append(f"{self.given_up} candidates given up")
        return Outcome(
            faults=faults,
            lost=lost + counts["lost"],
            duplicated=duplicated + counts["duplicated"],
            orphaned=orphaned + counts["orphaned"],
            notes="; ".join(filter(None, [*parts, *(what for _, what in self.problems[:3])])),
            **times,
        )


def audit(
    database_url: str, measured: Iterable[dict[str, Any]] | None, state_dirs: list[Path]
) -> Audit:
    """Compare, after all processes have ended.

    Parameters
    ----------
    measured : iterable of dict or None
        The ledger's lines of kind ``measured``; None where something real was measured.
    state_dirs : list of Path
        Of the workers, for results that were never posted.
    """
    ledger: defaultdict[Key, set[int]] = defaultdict(set)
    for line in measured or ():
        ledger[line["workload"], line["purpose"], line["trace"]].add(line["measurement"])
    database = Database(database_url)
    try:
        problems, given_up, jobs = database.read(
            lambda session: _compare(session, None if measured is None else ledger)
        )
    finally:
        database.close()
    for folder in state_dirs:
        for spool in folder.rglob("spool-*"):
            count = len(spool.read_bytes().splitlines())
            kind = "lost" if spool.suffix == ".rejected" else "orphaned"
            problems += [(kind, f"a result is left in {spool.name}")] * count
    total = sum(map(len, ledger.values()))
    return Audit(
        measured=total,
        again=total - len(ledger),
        given_up=given_up,
        jobs=jobs,
        problems=tuple(problems),
    )


def _compare(
    session: Session, ledger: dict[Key, set[int]] | None
) -> tuple[list[tuple[str, str]], int, int]:
    problems: list[tuple[str, str]] = []
    records: defaultdict[Key, list[RecordRow]] = defaultdict(list)
    trials: Counter[str] = Counter()
    for record in session.scalars(select(RecordRow)):
        records[record.workload_id, record.purpose, record.trace_id].append(record)
        if record.purpose is Purpose.TRIAL and record.job_id is not None:
            trials[record.job_id] += 1
    seen: Counter[int] = Counter()
    given_up = 0
    for key, rows in records.items():
        if len(rows) > 1:
            problems += [("duplicated", f"{len(rows)} records of {key}")] * (len(rows) - 1)
        for row in rows:
            if row.failure is FailureKind.WORKER_LOST:
                given_up += 1
            elif row.failure is None and ledger is not None:
                number = measurement_of(tuple(row.run_secs))
                seen[number] += 1
                if number not in ledger.get(key, ()):
                    problems.append(("duplicated", f"record {row.record_id} was never measured"))
    problems += [
        ("duplicated", f"measurement {n} is stored twice") for n, c in seen.items() if c > 1
    ]
    problems += [
        ("lost", f"nothing is stored of {key}") for key in ledger or () if key not in records
    ]
    jobs = 0
    for job in session.scalars(select(JobRow)):
        jobs += 1
        if job.state is not JobState.DONE:
            problems.append(("orphaned", f"job {job.job_id} is {job.state}: {job.error}"))
        if job.trials is not None and job.trials_done > job.trials:
            told = f"job {job.job_id} has {job.trials_done} trials, {job.trials} were asked for"
            problems.append(("duplicated", told))
        if job.trials_done != trials[job.job_id]:
            told = f"job {job.job_id} counts {job.trials_done} of {trials[job.job_id]} trials"
            problems.append(
                ("duplicated" if job.trials_done > trials[job.job_id] else "lost", told)
            )
    return problems + _stuck(session), given_up, jobs


def _stuck(session: Session) -> list[tuple[str, str]]:
    """Find what nobody can finish any more."""
    problems = [
        ("orphaned", f"batch {batch.batch_id} is {batch.state}")
        for batch in session.scalars(select(BatchRow).where(BatchRow.state.in_(OPEN_STATES)))
    ]
    recorded = set(session.scalars(select(RecordRow.record_id)))
    for item in session.scalars(select(ItemRow)):
        done = item.state in (ItemState.DONE, ItemState.POISON)
        if item.state is ItemState.OPEN:
            problems.append(("orphaned", f"item {item.item_id} is open"))
        elif done and item.item_id not in recorded:
            problems.append(("lost", f"item {item.item_id} is {item.state} without a record"))
        elif not done and item.item_id in recorded:
            problems.append(("duplicated", f"item {item.item_id} is {item.state} with a record"))
    return problems
