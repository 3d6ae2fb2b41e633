"""What a job's records say as a whole: the curve of its best so far, where its time went."""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime

import numpy as np

from cost_model.metrics import pairwise_accuracy
from schedules.records import FailureKind, Origin, Purpose
from schedules.runtimes import latency_interval
from service.db.lines import FinalLine, StepLine, TrialLine


@dataclass(frozen=True, kw_only=True)
class Trial:
    """A record in its place in the job.

    Attributes
    ----------
    number : int
        Its place among the job's trials, from 1; finals stand after the last trial before them.
    elapsed_secs : float
        From the job's start to its record.
    """

    number: int
    elapsed_secs: float
    line: TrialLine

    @property
    def kind(self) -> str:
        """What became of it: final, failed, slow (given up with a bound), same (code), or ok."""
        line = self.line
        if line.failure is not None:
            return "failed"
        if line.purpose is Purpose.FINAL:
            return "final"
        if line.censored_secs is not None:
            return "slow"
        return "ok" if line.duplicate_of is None else "same"

    @property
    def secs(self) -> float | None:
        """The latency, or the bound where there is only that."""
        return self.line.latency_secs or self.line.censored_secs


@dataclass(frozen=True, kw_only=True)
class Improvement:
    """A trial that was faster than all before it."""

    number: int
    elapsed_secs: float
    secs: float


def numbered(lines: Sequence[TrialLine], began: datetime, done: int) -> tuple[Trial, ...]:
    """Put records, oldest first, in their places.

    Parameters
    ----------
    lines : sequence of TrialLine
        The newest records of a job.
    began : datetime
        When the job started.
    done : int
        How many trials the job has in all; those before `lines` count too.
    """
    shown = sum(line.purpose is Purpose.TRIAL for line in lines)
    number = max(0, done - shown)
    trials = []
    for line in lines:
        number += line.purpose is Purpose.TRIAL
        elapsed_secs = max(0.0, (line.created_at - began).total_seconds())
        trials.append(Trial(number=max(number, 1), elapsed_secs=elapsed_secs, line=line))
    return tuple(trials)


def improvements(trials: Iterable[Trial]) -> tuple[Improvement, ...]:
    """Return the steps of the best-so-far curve. Finals are measured otherwise and do not count."""
    steps: list[Improvement] = []
    for trial in trials:
        secs = trial.line.latency_secs
        if trial.line.purpose is not Purpose.TRIAL or secs is None or trial.line.set_aside:
            continue
        if not steps or secs < steps[-1].secs:
            steps.append(
                Improvement(number=trial.number, elapsed_secs=trial.elapsed_secs, secs=secs)
            )
    return tuple(steps)


def failures_by_kind(lines: Iterable[TrialLine]) -> Mapping[FailureKind, int]:
    """Count failed records, the most frequent kind first."""
    counts = Counter(line.failure for line in lines if line.failure is not None)
    return dict(counts.most_common())


@dataclass(frozen=True, kw_only=True)
class Part:
    """A part of a job's time."""

    name: str
    secs: float
    about: str


def time_spent(
    steps: Sequence[StepLine], *, created_at: datetime, ended_at: datetime
) -> tuple[Part, ...]:
    """Say where the time of a job went, from its batches.

    Parameters
    ----------
    steps : sequence of StepLine
        Its batches in order.
    created_at, ended_at : datetime
        From when to when; an active job's end is now.
    """
    waited = searched = tried = checked = 0.0
    before = created_at
    for place, step in enumerate(steps):
        gap_secs = max(0.0, (step.queued_at - before).total_seconds())
        if place == 0:
            waited += gap_secs
        else:
            searched += gap_secs
        step_end = ended_at if step.ended_at is None else step.ended_at
        spent_secs = max(0.0, (step_end - max(step.queued_at, before)).total_seconds())
        if step.purpose is Purpose.FINAL:
            checked += spent_secs
        else:
            tried += spent_secs
        before = max(before, step_end)
    rest_secs = max(0.0, (ended_at - before).total_seconds())
    if not steps:
        waited, rest_secs = rest_secs, 0.0
    return (
        Part(
            name="start", secs=waited, about="until its first batch: waiting, and the first search"
        ),
        Part(name="trials", secs=tried, about="its batches, from the queue to their last result"),
        Part(name="search", secs=searched, about="between two batches"),
        Part(name="finals", secs=checked, about="finalists re-measured and their outputs checked"),
        Part(name="end", secs=rest_secs, about="after its last result"),
    )


@dataclass(frozen=True, kw_only=True)
class Published:
    """What one job's finals came to: the history of a best."""

    job_id: str | None
    record_id: str
    latency_secs: float
    interval_secs: tuple[float, float]
    default_secs: float | None
    created_at: datetime


def history(finals: Sequence[FinalLine]) -> tuple[Published, ...]:
    """Return the fastest checked final of each job, oldest first."""
    by_job: dict[str | None, list[FinalLine]] = {}
    for final in finals:
        if final.passed:
            by_job.setdefault(final.job_id, []).append(final)
    found = []
    for job_id, group in by_job.items():
        fastest = min(group, key=lambda final: final.latency_secs)
        defaults = [final.latency_secs for final in group if final.origin is Origin.DEFAULT]
        found.append(
            Published(
                job_id=job_id,
                record_id=fastest.record_id,
                latency_secs=fastest.latency_secs,
                interval_secs=latency_interval(fastest.run_secs),
                default_secs=defaults[-1] if defaults else None,
                created_at=fastest.created_at,
            )
        )
    return tuple(sorted(found, key=lambda one: one.created_at))


def agreement(scores: Sequence[float], latency_secs: Sequence[float | None]) -> float | None:
    """Return the share of pairs of trials that scores order rightly; 0.5 is chance.

    Parameters
    ----------
    scores : sequence of float
        Larger is faster.
    latency_secs : sequence of float or None
        None where the trial failed.
    """
    measured = np.array([np.nan if secs is None else secs for secs in latency_secs])
    groups = np.zeros(len(scores), dtype=np.int64)
    return pairwise_accuracy(np.array(scores, dtype=np.float64), measured, groups)
