import numpy as np
import pytest

from cost_model.dataset import Dataset, group_of
from schedules.errors import ContractError
from schedules.records import Failure, FailureKind, MeasureResult


def dataset(latencies: list[float], groups: list[int] | None = None) -> Dataset:
    return Dataset(
        features=np.arange(2 * len(latencies), dtype=np.float32).reshape(-1, 2),
        latency_secs=np.array(latencies),
        groups=np.array(groups or [1] * len(latencies)),
        flops=np.full(len(latencies), 100.0),
    )


def failure(kind: FailureKind) -> MeasureResult:
    return MeasureResult(failure=Failure(kind=kind, detail="why"))


def test_groups_are_the_same_in_every_process_and_tell_tasks_apart() -> None:
    assert group_of("a", "b") == 0x64343D04552EB769
    assert len({group_of("a", "b"), group_of("a", "c"), group_of("b", "b")}) == 3
    assert 0 <= group_of("a", "b") < 2**63


def test_relative_speed_is_best_over_latency_within_the_group() -> None:
    speeds = dataset([2.0, 4.0, 1e-3, 5e-4], [1, 1, 2, 2]).relative_speed()

    assert speeds.tolist() == [1.0, 0.5, 0.5, 1.0]


def test_failures_have_no_speed_even_where_all_failed() -> None:
    nan = float("nan")

    assert dataset([1.0, nan, nan], [1, 1, 2]).relative_speed().tolist() == [1.0, 0.0, 0.0]


def test_a_bound_is_the_most_that_a_speed_can_be() -> None:
    results = [
        MeasureResult(run_secs=(1.0,)),
        MeasureResult(run_secs=(4.0, 4.5), censored_secs=4.0),
    ]

    made = Dataset.from_results(np.zeros((2, 1), dtype=np.float32), results, group=7)

    assert made.relative_speed().tolist() == [1.0, 0.25]
    assert made.censored.tolist() == [False, True]
    assert not made.failed.any()
    assert made.extended(made).rows(np.array([1, 2])).censored.tolist() == [True, False]


def test_a_failure_has_no_bound() -> None:
    with pytest.raises(ContractError, match="bound"):
        Dataset(
            features=np.zeros((1, 1), dtype=np.float32),
            latency_secs=np.array([np.nan]),
            groups=np.ones(1, dtype=np.int64),
            flops=np.zeros(1),
            censored=np.array([True]),
        )


def test_results_become_rows_but_for_those_lost_with_their_worker() -> None:
    results = [
        MeasureResult(run_secs=(3.0, 2.01, 2.0, 2.02)),
        failure(FailureKind.WORKER_LOST),
        failure(FailureKind.BUILD_TIMEOUT),
    ]
    features = np.array([[1], [2], [3]], dtype=np.float32)

    made = Dataset.from_results(features, results, group=7, flops=10.0)

    assert made.features[:, 0].tolist() == [1.0, 3.0]
    assert made.latency_secs[0] == 2.01
    assert made.failed.tolist() == [False, True]
    assert made.groups.tolist() == [7, 7]
    assert made.flops.tolist() == [10.0, 10.0]


def test_a_wrong_output_is_a_failure_although_it_was_timed() -> None:
    result = MeasureResult(
        run_secs=(1.0,), failure=Failure(kind=FailureKind.WRONG_OUTPUT, detail="off by 3")
    )

    made = Dataset.from_results(np.zeros((1, 2), dtype=np.float32), [result], group=1)

    assert made.failed.tolist() == [True]


def test_features_and_results_must_be_as_many() -> None:
    with pytest.raises(ContractError, match="2 feature rows but 1 results"):
        Dataset.from_results(
            np.zeros((2, 2), dtype=np.float32), [MeasureResult(run_secs=(1.0,))], group=1
        )


def test_a_dataset_grows_from_empty() -> None:
    grown = Dataset.empty(2).extended(dataset([1.0, 2.0]), dataset([3.0]))

    assert len(grown) == 3
    assert grown.latency_secs.tolist() == [1.0, 2.0, 3.0]
    assert grown.features.dtype == np.float32


def test_rows_are_chosen_by_mask_or_index() -> None:
    whole = dataset([1.0, 2.0, 3.0])

    assert whole.rows(np.array([True, False, True])).latency_secs.tolist() == [1.0, 3.0]
    assert whole.rows(np.array([2, 0])).latency_secs.tolist() == [3.0, 1.0]


def test_a_dataset_keeps_no_hold_of_the_callers_arrays() -> None:
    latencies = np.array([1.0, 2.0])
    made = Dataset(
        features=np.zeros((2, 1), dtype=np.float32),
        latency_secs=latencies,
        groups=np.array([1, 1]),
        flops=np.zeros(2),
    )

    latencies[0] = 9.0

    assert made.latency_secs.tolist() == [1.0, 2.0]
    with pytest.raises(ValueError, match="read-only"):
        made.latency_secs[0] = 9.0


@pytest.mark.parametrize("latency", [0.0, -1.0, float("inf")])
def test_latencies_must_be_positive_seconds(latency: float) -> None:
    with pytest.raises(ContractError, match="positive seconds"):
        dataset([1.0, latency])


def test_features_must_be_finite() -> None:
    with pytest.raises(ContractError, match="finite"):
        Dataset(
            features=np.array([[np.nan]], dtype=np.float32),
            latency_secs=np.ones(1),
            groups=np.ones(1, dtype=np.int64),
            flops=np.ones(1),
        )


def test_columns_must_be_as_long_as_one_another() -> None:
    with pytest.raises(ContractError, match="groups has 2 rows and latency_secs has 1"):
        Dataset(
            features=np.zeros((1, 1), dtype=np.float32),
            latency_secs=np.ones(1),
            groups=np.ones(2, dtype=np.int64),
            flops=np.ones(1),
        )
