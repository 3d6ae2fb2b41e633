"""How well scores order candidates.

Only the order within a group is judged, as a search uses nothing else. Every metric is the mean
over the groups where it is defined, each group counting the same, and None where there is no such
group. A failed trial counts as slower than every successful one; two failures are not compared. Of
a censored trial only a bound is known: it is compared with those that were faster than that.
"""

from collections.abc import Callable, Iterator, Sequence

import numpy as np
import numpy.typing as npt

from cost_model.arrays import GroupVector, ScoreVector, SecondsVector
from cost_model.dataset import Dataset
from schedules.errors import ContractError

_Vector = npt.NDArray[np.float64]

TOP_K = (1, 8, 16)
"""The `k` that `evaluate` reports: the very best guess and the sizes of small batches."""


def pairwise_accuracy(
    scores: ScoreVector,
    latency_secs: SecondsVector,
    groups: GroupVector,
    censored: npt.NDArray[np.bool_] | None = None,
    *,
    least_factor: float = 1.0,
) -> float | None:
    """Return the share of candidate pairs that are ordered rightly, from 0 to 1; 0.5 is chance.

    Pairs of equal latency are not counted; equal scores count half.

    Parameters
    ----------
    scores : numpy.ndarray
        Shape (n,); higher is faster.
    latency_secs : numpy.ndarray
        float64, shape (n,), seconds; NaN where the trial failed.
    groups : numpy.ndarray
        int64, shape (n,).
    censored : numpy.ndarray or None
        bool, shape (n,), which latencies are only lower bounds; none of them by default. A pair
        counts where it is known which of the two is faster.
    least_factor : float
        Only pairs count of which one is known to be more than so many times as fast as the other,
        at least 1: what is nearer than two measurements of one candidate has no right order.

    Source: M. G. Kendall, "A New Measure of Rank Correlation", Biometrika 30, 1938; it is
    ``(1 + tau) / 2`` where nothing is tied. With censored ones it is the index of concordance of
    Harrell et al., "Evaluating the Yield of Medical Tests", JAMA 247(18), 1982.
    """
    bounds = np.zeros(len(scores), dtype=np.bool_) if censored is None else censored
    values = [
        _pairwise_accuracy(
            scores[members].astype(np.float64), latencies, bounds[members], least_factor
        )
        for members, latencies in _groups(scores, latency_secs, groups)
    ]
    return _mean(values)


def top_k_recall(
    scores: ScoreVector, latency_secs: SecondsVector, groups: GroupVector, k: int
) -> float | None:
    """Return how close the best of the `k` highest-scored candidates comes to the best of all.

    Parameters
    ----------
    scores, latency_secs, groups : numpy.ndarray
        As for `pairwise_accuracy`.
    k : int
        How many candidates would be measured, at least 1. Equal scores keep their order.

    Returns
    -------
    float or None
        Best latency of all over the best among the `k`, from 0 to 1; 1 means that the best was
        found, 0 that all `k` failed.

    Source: Zheng et al., "TenSet: A Large-scale Program Performance Dataset for Learned Tensor
    Compilers", NeurIPS Datasets and Benchmarks 2021, where it is the top-k score of one task.
    """
    if k < 1:
        raise ContractError(f"k must be at least 1, not {k}")

    def of_group(scores: _Vector, latencies: _Vector) -> float | None:
        if not np.isfinite(latencies).any():
            return None
        chosen = np.argsort(-scores, kind="stable")[:k]
        return float(latencies.min() / latencies[chosen].min())

    return _mean_over_groups(of_group, scores, latency_secs, groups)


def spearman(scores: ScoreVector, latency_secs: SecondsVector, groups: GroupVector) -> float | None:
    """Return Spearman's rank correlation of score and speed, from -1 to 1.

    Parameters
    ----------
    scores, latency_secs, groups : numpy.ndarray
        As for `pairwise_accuracy`.

    Source: C. Spearman, "The Proof and Measurement of Association between Two Things", American
    Journal of Psychology 15(1), 1904; ties get their mean rank.
    """
    return _mean_over_groups(_spearman, scores, latency_secs, groups)


def evaluate(scores: ScoreVector, dataset: Dataset) -> dict[str, float]:
    """Compute every metric that is defined for a dataset.

    A row with only a bound counts in pairs, and with its bound among the `k`, which it may miss.

    Returns
    -------
    dict of str to float
        ``pairwise_accuracy``, ``spearman`` and ``top_<k>_recall`` for each of `TOP_K`.
    """
    judged = (scores, dataset.latency_secs, dataset.groups)
    metrics = {
        "pairwise_accuracy": pairwise_accuracy(*judged, dataset.censored),
        "spearman": spearman(*judged),
        **{f"top_{k}_recall": top_k_recall(*judged, k) for k in TOP_K},
    }
    return {name: value for name, value in metrics.items() if value is not None}


def _mean_over_groups(
    of_group: Callable[[_Vector, _Vector], float | None],
    scores: ScoreVector,
    latency_secs: SecondsVector,
    groups: GroupVector,
) -> float | None:
    values = [
        of_group(scores[members].astype(np.float64), latencies)
        for members, latencies in _groups(scores, latency_secs, groups)
    ]
    return _mean(values)


def _mean(values: Sequence[float | None]) -> float | None:
    defined = [value for value in values if value is not None]
    return sum(defined) / len(defined) if defined else None


def _groups(
    scores: ScoreVector, latency_secs: SecondsVector, groups: GroupVector
) -> Iterator[tuple[npt.NDArray[np.bool_], _Vector]]:
    """Yield the members of each group, and their latencies: infinite for failures."""
    if not len(scores) == len(latency_secs) == len(groups):
        raise ContractError(
            f"{len(scores)} scores, {len(latency_secs)} latencies and {len(groups)} groups; "
            "there must be one of each for a candidate"
        )
    latencies = np.where(np.isnan(latency_secs), np.inf, latency_secs)
    for group in np.unique(groups):
        members = groups == group
        yield members, latencies[members]


def _pairwise_accuracy(
    scores: _Vector,
    latencies: _Vector,
    censored: npt.NDArray[np.bool_],
    least_factor: float,
) -> float | None:
    first, second = np.triu_indices(len(scores), k=1)
    faster = _difference(latencies[second], latencies[first])
    winner = np.where(faster > 0, first, second)
    loser = np.where(faster > 0, second, first)
    # What is only known to be slower than its bound may be slower than the other, too.
    known = ~censored[winner] | np.isinf(latencies[loser])
    comparable = known & (latencies[loser] > least_factor * latencies[winner])
    if not comparable.any():
        return None
    preferred = np.sign(scores[first] - scores[second])
    agreement = (preferred * faster)[comparable]
    return float((1.0 + agreement).mean() / 2.0)


def _difference(left: _Vector, right: _Vector) -> _Vector:
    # Two failures are equal; inf - inf is not.
    return np.where(left == right, 0.0, np.where(left > right, 1.0, -1.0))


def _spearman(scores: _Vector, latencies: _Vector) -> float | None:
    speeds = 1.0 / latencies
    ranks = _mean_ranks(scores), _mean_ranks(speeds)
    deviations = [rank - rank.mean() for rank in ranks]
    scale = float(np.sqrt((deviations[0] ** 2).sum() * (deviations[1] ** 2).sum()))
    if len(set(latencies)) < 2:
        return None
    return float((deviations[0] * deviations[1]).sum() / scale) if scale > 0 else 0.0


def _mean_ranks(values: _Vector) -> _Vector:
    _, index, counts = np.unique(values, return_inverse=True, return_counts=True)
    last = np.cumsum(counts)
    ranks: _Vector = (last - (counts - 1) / 2.0)[index]
    return ranks
