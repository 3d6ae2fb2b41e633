import numpy as np
import pytest

from cost_model.base_model import BaseModel
from cost_model.dataset import Dataset, group_of
from cost_model.held_out import TaskKey, TrainingSet
from cost_model.training import judged, train
from schedules.errors import InputError
from tests.unit.cost_model.test_base_model import tasks


@pytest.fixture(scope="module")
def training_set() -> TrainingSet:
    data = tasks(count=8, rows=32)
    keys = tuple(
        TaskKey(workload_id=f"w{number}", target_id="cpu", operator=f"op{number % 2}")
        for number in range(8)
    )
    groups = np.array([group_of(f"w{number}", "cpu") for number in data.groups])
    dataset = Dataset(
        features=data.features,
        latency_secs=data.latency_secs,
        groups=groups,
        flops=data.flops,
    )
    return TrainingSet(dataset=dataset, tasks=keys)


def test_the_judge_has_not_learnt_what_it_is_judged_on(training_set: TrainingSet) -> None:
    trained = train(training_set)
    held_out = np.logical_or.reduce(list(training_set.held_out().values()))
    judge = BaseModel()
    judge.fit(training_set.dataset.rows(~held_out))

    assert BaseModel.from_bytes(trained.judge).version == judge.version
    assert trained.metrics == judged(judge, training_set)
    model = BaseModel()
    model.fit(training_set.dataset)
    assert BaseModel.from_bytes(trained.content).version == model.version


def test_metrics_are_named_by_gate(training_set: TrainingSet) -> None:
    metrics = train(training_set).metrics

    assert {name.partition(".")[0] for name in metrics} == {"shape", "operator"}
    for name in (
        "pairwise_accuracy",
        "top_8_recall",
        "interval_coverage",
        "validity_accuracy",
        "latency_error_median",
    ):
        assert f"shape.{name}" in metrics
    assert metrics["shape.pairwise_accuracy"] > 0.8


def test_too_little_is_not_learnt_from(training_set: TrainingSet) -> None:
    few = TrainingSet(dataset=training_set.dataset.rows(np.arange(20)), tasks=training_set.tasks)

    with pytest.raises(InputError, match="tune more workloads first"):
        train(few)
