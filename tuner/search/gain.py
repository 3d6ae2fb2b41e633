"""What the next batch of a search is expected to gain."""

import math
from collections import deque
from collections.abc import Sequence

import numpy as np

from schedules.records import Candidate, MeasureResult, TuningRecord

RECENT = 48
"""So many of the latest trials show how far the model errs."""
LEAST = 32
"""Fewer say too little of that."""
DRAWS = 512


class Misjudgement:
    """By how much recent trials were faster than their model said.

    A score is about the speed over the best's of then; what one version of the model has scored was
    measured against the same.
    """

    def __init__(self) -> None:
        self._errors: deque[float] = deque(maxlen=RECENT)
        self._version: str | None = None
        self._rival_secs: float | None = None
        self._best_secs: float | None = None

    @property
    def errors(self) -> Sequence[float]:
        """Logarithms to base 2, oldest first; minus infinity for what failed."""
        return self._errors

    @property
    def advance(self) -> float:
        """How much faster the best is than what the latest scores were about, as a logarithm."""
        if self._rival_secs is None or self._best_secs is None:
            return 0.0
        return math.log2(self._rival_secs / self._best_secs)

    def note(self, candidate: Candidate, result: MeasureResult) -> None:
        """Compare a prediction with what came of it; the trials of a task come in their order."""
        if candidate.model_version != self._version:
            self._version, self._rival_secs = candidate.model_version, self._best_secs
        secs, score = result.latency_secs or result.censored_secs, candidate.predicted_score
        if score is not None and self._rival_secs is not None:
            speed = -math.inf if secs is None else math.log2(self._rival_secs / secs)
            self._errors.append(speed - score)
        if result.latency_secs is not None:
            self._best_secs = min(result.latency_secs, self._best_secs or result.latency_secs)


def gain_of_another_batch(trials: Sequence[TuningRecord]) -> float | None:
    """Return what a batch is expected to gain that is as promising as the last one was.

    Parameters
    ----------
    trials : sequence of TuningRecord
        Of one workload on one target, oldest first.

    Returns
    -------
    float or None
        As `expected_gain`; None also where no model had proposed the last trial.
    """
    misjudgement = Misjudgement()
    for record in trials:
        misjudgement.note(record.candidate, record.result)
    last = [
        record.candidate.predicted_score - misjudgement.advance
        for record in trials
        if record.candidate.predicted_score is not None
        and record.candidate.model_version == trials[-1].candidate.model_version
    ]
    return expected_gain(last, misjudgement.errors, np.random.default_rng(0))


def worth_of_another_batch(trials: Sequence[TuningRecord], weight: float) -> float:
    """Return how many seconds a batch is expected to save, of all the calls of a workload together.

    What is not known is hoped for: a workload without a trial is worth infinitely much, and one
    whose model is too young to be judged all the time that it takes now.

    Parameters
    ----------
    trials : sequence of TuningRecord
        Of one workload on one target, oldest first.
    weight : float
        How often it is called.
    """
    latencies = [item.result.latency_secs for item in trials if item.result.latency_secs]
    if not latencies:
        return math.inf
    gain = gain_of_another_batch(trials)
    return weight * min(latencies) * (1.0 if gain is None else gain)


def expected_gain(
    scores: Sequence[float], errors: Sequence[float], random: np.random.Generator
) -> float | None:
    """Return by which share of its latency the best is expected to be undercut.

    Each candidate is taken to be as fast as the model says, but for an error that the model has
    made of late, drawn at random: the expected improvement of a batch, without the assumption that
    errors are normal.
    Source: Ginsbourger, Le Riche and Carraro, "Kriging Is Well-Suited to Parallelize Optimization",
    2010, for the improvement that is expected of several at once.

    Parameters
    ----------
    scores : sequence of float
        Predicted logarithms, to base 2, of the speed of a batch's candidates over the best's.
    errors : sequence of float
        By how much recent trials were faster than predicted, as such logarithms; minus infinity for
        those that failed.
    random : numpy.random.Generator
        Advanced by the call.

    Returns
    -------
    float or None
        From 0 to 1; None where too few errors are known.
    """
    if len(errors) < LEAST or not scores:
        return None
    drawn = random.choice(np.asarray(errors), size=(DRAWS, len(scores)))
    gained = np.maximum((np.asarray(scores) + drawn).max(axis=1), 0.0)
    return float(1.0 - np.exp2(-gained).mean())
