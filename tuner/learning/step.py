"""The learner's heavy work, as pure functions for an executor's process.

Each is given everything that it needs; the database is never seen here. Its process steps back
behind everything else that wants the processor.
"""

import os
from collections.abc import Mapping
from dataclasses import dataclass, field

from cost_model.gates import Metrics
from cost_model.held_out import TrainingSet
from cost_model.versions import Trained
from tuner.client import wire

_NICENESS = 19
_lowered = False


@dataclass(frozen=True, kw_only=True)
class FeatureRequest:
    """Candidates of one task.

    Attributes
    ----------
    workload, target
        The task.
    traces : Mapping[str, str]
        Canonical traces, by their ids.
    """

    workload: wire.WorkloadWire
    target: dict[str, object]
    traces: Mapping[str, str]


@dataclass(frozen=True, kw_only=True)
class TrainRequest:
    """What to train on, and what to compare with.

    Attributes
    ----------
    training_set : TrainingSet
        Where to learn.
    present_judge : bytes or None
        That of the version in use.
    threads, seed : int
        See `cost_model.base_model.BaseModel`.
    scheduler : str or None
        Address of a Dask cluster that grows the trees.
    """

    training_set: TrainingSet
    present_judge: bytes | None = field(repr=False)
    threads: int = 1
    seed: int = 0
    scheduler: str | None = None


def featurise(request: FeatureRequest) -> dict[str, bytes]:
    """Extract the features of candidates.

    Returns
    -------
    dict of str to bytes
        By trace id: a row of little-endian float32, or nothing where the trace does not apply.
    """
    _step_back()
    # Imports TVM, which whoever only sends requests does without.
    from tuner.learning.features import rows_of_traces

    return rows_of_traces(request.workload, request.target, request.traces)


def train(request: TrainRequest) -> tuple[Trained, Metrics | None]:
    """Train a version, and judge the one in use on the same held-out tasks.

    Raises
    ------
    InputError
        The dataset is too small.
    """
    _step_back()
    from cost_model import boosters, training
    from cost_model.distributed import on_cluster

    grow = boosters.grow if request.scheduler is None else on_cluster(request.scheduler)
    trained = training.train(
        request.training_set, threads=request.threads, seed=request.seed, grow=grow
    )
    return trained, judge(request.present_judge, request.training_set)


def judge(content: bytes | None, training_set: TrainingSet) -> Metrics | None:
    """Judge a version on what a training set holds out; None where it cannot be read any more.

    A version whose features this program does not extract can be judged by nobody, and is used by
    nobody either.
    """
    from cost_model import training
    from cost_model.base_model import BaseModel
    from schedules.errors import InputError

    if content is None:
        return None
    try:
        return training.judged(BaseModel.from_bytes(content), training_set)
    except InputError:
        return None


def check_files(content: bytes, judge_content: bytes) -> None:
    """Read the files of a version that comes from elsewhere.

    Raises
    ------
    InputError
        They are no models, or of other features.
    """
    from cost_model.base_model import BaseModel

    for part in (content, judge_content):
        BaseModel.from_bytes(part)


def _step_back() -> None:
    global _lowered
    if not _lowered:
        os.nice(_NICENESS)
        _lowered = True
