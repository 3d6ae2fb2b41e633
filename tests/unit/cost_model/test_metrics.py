import numpy as np
import pytest

from cost_model.arrays import GroupVector, ScoreVector, SecondsVector
from cost_model.dataset import Dataset
from cost_model.metrics import evaluate, pairwise_accuracy, spearman, top_k_recall
from schedules.errors import ContractError

NAN = float("nan")


Judged = tuple[ScoreVector, SecondsVector, GroupVector]


def vectors(scores: list[float], latencies: list[float], groups: list[int] | None = None) -> Judged:
    return (
        np.array(scores, dtype=np.float32),
        np.array(latencies, dtype=np.float64),
        np.array(groups or [1] * len(scores), dtype=np.int64),
    )


PERFECT = vectors([3, 2, 1, 0], [1.0, 2.0, 3.0, NAN])
REVERSED = vectors([0, 1, 2, 3], [1.0, 2.0, 3.0, NAN])
UNDEFINED = vectors([1, 2], [NAN, NAN])


@pytest.mark.parametrize(
    ("judged", "expected"),
    [
        (PERFECT, 1.0),
        (REVERSED, 0.0),
        (vectors([1, 1, 1], [1.0, 2.0, 3.0]), 0.5),
        (vectors([3, 1, 2], [1.0, 2.0, 3.0]), 2 / 3),
        (vectors([2, 1, 0], [1.0, NAN, NAN]), 1.0),
        (UNDEFINED, None),
        (vectors([], []), None),
    ],
    ids=["perfect", "reversed", "ties", "one-swap", "failures-not-compared", "undefined", "empty"],
)
def test_pairwise_accuracy(judged, expected) -> None:
    assert pairwise_accuracy(*judged) == (None if expected is None else pytest.approx(expected))


def test_only_pairs_of_one_group_are_compared_and_groups_count_the_same() -> None:
    # Right in the group of three, wrong in the group of two, and across groups it would not matter.
    judged = vectors([9, 8, 7, 1, 2], [1e-3, 2e-3, 3e-3, 1.0, 2.0], [1, 1, 1, 2, 2])

    assert pairwise_accuracy(*judged) == pytest.approx(0.5)


def test_pairs_that_are_nearer_than_a_factor_can_be_left_out() -> None:
    scores, latency_secs, groups = vectors([2, 3, 1, 0], [1.0, 1.05, 2.0, NAN])

    assert pairwise_accuracy(scores, latency_secs, groups) == pytest.approx(5 / 6)
    assert pairwise_accuracy(scores, latency_secs, groups, least_factor=1.1) == 1.0
    assert pairwise_accuracy(scores[:2], latency_secs[:2], groups[:2], least_factor=1.1) is None


def test_groups_in_which_a_metric_is_undefined_are_left_out() -> None:
    judged = vectors([2, 1, 5, 6], [1.0, 2.0, NAN, NAN], [1, 1, 2, 2])

    assert pairwise_accuracy(*judged) == 1.0
    assert top_k_recall(*judged, 1) == 1.0


@pytest.mark.parametrize(("k", "expected"), [(1, 0.0), (2, 1 / 3), (3, 0.5), (4, 1.0), (9, 1.0)])
def test_top_k_recall_is_how_near_the_best_of_k_comes(k: int, expected: float) -> None:
    assert top_k_recall(*REVERSED, k) == pytest.approx(expected)


def test_top_k_recall_is_undefined_where_all_failed() -> None:
    assert top_k_recall(*UNDEFINED, 1) is None


def test_k_is_at_least_one() -> None:
    with pytest.raises(ContractError, match="at least 1"):
        top_k_recall(*PERFECT, 0)


@pytest.mark.parametrize(
    ("judged", "expected"),
    [
        (PERFECT, 1.0),
        (REVERSED, -1.0),
        (vectors([1, 1, 1], [1.0, 2.0, 3.0]), 0.0),
        (vectors([4, 3, 1, 2], [1.0, 2.0, 3.0, 4.0]), 0.8),
        (vectors([2, 2, 1], [1.0, 2.0, 3.0]), 0.75**0.5),
        (UNDEFINED, None),
    ],
    ids=["perfect", "reversed", "no-preference", "one-swap", "tie", "undefined"],
)
def test_spearman(judged, expected) -> None:
    assert spearman(*judged) == (None if expected is None else pytest.approx(expected))


def test_scores_must_be_as_many_as_latencies() -> None:
    with pytest.raises(ContractError, match="2 scores, 1 latencies"):
        pairwise_accuracy(np.zeros(2, dtype=np.float32), np.ones(1), np.ones(1, dtype=np.int64))


def test_evaluate_reports_what_is_defined() -> None:
    scores, latencies, groups = PERFECT
    dataset = Dataset(
        features=np.zeros((4, 1), dtype=np.float32),
        latency_secs=latencies,
        groups=groups,
        flops=np.zeros(4),
    )

    assert evaluate(scores, dataset) == {
        "pairwise_accuracy": 1.0,
        "spearman": pytest.approx(1.0),
        "top_1_recall": 1.0,
        "top_8_recall": 1.0,
        "top_16_recall": 1.0,
    }
    assert evaluate(scores[:0], dataset.rows(np.array([], dtype=np.int64))) == {}
