"""Training a base model and judging it: pure functions over a `TrainingSet`."""

import numpy as np

from cost_model import boosters
from cost_model.base_model import BaseModel
from cost_model.boosters import Grower
from cost_model.dataset import Dataset
from cost_model.gates import LEAST_ROWS, Metrics
from cost_model.held_out import Mask, TrainingSet
from cost_model.metrics import evaluate
from cost_model.versions import Trained
from schedules.errors import InputError


def train(
    training_set: TrainingSet, *, threads: int = 1, seed: int = 0, grow: Grower = boosters.grow
) -> Trained:
    """Fit a base model and its judge.

    Parameters
    ----------
    training_set : TrainingSet
        Candidates of any number of tasks.
    threads, seed, grow
        As for `BaseModel`.

    Raises
    ------
    InputError
        There are too few trials, or none without a failure.
    """
    dataset = training_set.dataset
    if len(dataset) < LEAST_ROWS or dataset.failed.all():
        raise InputError(
            f"the dataset has {int((~dataset.failed).sum())} timed trials of {len(dataset)}; a "
            f"base model needs at least {LEAST_ROWS} trials, and not all of them failed: tune more "
            "workloads first, or import a model"
        )
    held_out = training_set.held_out()
    learnt = ~np.logical_or.reduce(list(held_out.values())) if held_out else _most(dataset)
    if not learnt.any() or dataset.failed[learnt].all():
        learnt = _most(dataset)
    judge, model = (BaseModel(threads=threads, seed=seed, grow=grow) for _ in range(2))
    judge.fit(dataset.rows(learnt))
    model.fit(dataset)
    return Trained(
        content=model.to_bytes(), judge=judge.to_bytes(), metrics=judged(judge, training_set)
    )


def judged(judge: BaseModel, training_set: TrainingSet) -> Metrics:
    """Judge a model on what a training set holds out.

    Parameters
    ----------
    judge : BaseModel
        Fitted without it.
    training_set : TrainingSet
        Of now; the judge may have been fitted on an earlier one.

    Returns
    -------
    dict of str to float
        Named ``<gate>.<metric>``, where gates are those of `cost_model.held_out` and metrics those
        of `cost_model.metrics.evaluate`, and ``interval_coverage`` and ``validity_accuracy``; only
        those that are defined.
    """
    found: Metrics = {}
    for gate, mask in training_set.held_out().items():
        part = training_set.dataset.rows(mask)
        metrics = evaluate(judge.predict(part.features), part) | _calibration(judge, part)
        found |= {f"{gate}.{name}": value for name, value in metrics.items()}
    return found


def _most(dataset: Dataset) -> Mask:
    """Return a mask of most rows, where no whole task can be spared."""
    mask: Mask = np.arange(len(dataset)) % 4 != 3
    return mask


def _calibration(judge: BaseModel, part: Dataset) -> Metrics:
    found: Metrics = {}
    timed = part.rows(~part.failed & ~part.censored)
    if len(timed):
        estimates = judge.estimate(timed.features)
        inside = (estimates.low_secs <= timed.latency_secs) & (
            timed.latency_secs <= estimates.high_secs
        )
        found["interval_coverage"] = float(inside.mean())
        ratio = np.abs(np.log2(estimates.latency_secs / timed.latency_secs))
        found["latency_error_median"] = float(np.exp2(np.median(ratio)) - 1.0)
    if part.failed.any() and not part.failed.all():
        expected = judge.estimate(part.features).validity > 0.5
        found["validity_accuracy"] = float((expected == ~part.failed).mean())
    return found
