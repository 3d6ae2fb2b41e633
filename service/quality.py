"""How well cost models did on what was measured lately."""

from collections import defaultdict
from collections.abc import Mapping

from schedules.records import Purpose, TuningRecord
from service.db.queries import RecordFilter
from service.db.store import Store

TRIALS = 1000
"""So many of the newest trials are looked at."""


def model_quality(store: Store) -> Mapping[str, float]:
    """Return the pairwise accuracy of each model version that proposed some of the newest trials.

    It is `cost_model.metrics.pairwise_accuracy`: 1 is the right order, 0.5 chance. Trials that
    failed count as the slowest; those with only a bound do not count.
    """
    by_version: defaultdict[str, list[TuningRecord]] = defaultdict(list)
    newest = store.records(
        RecordFilter(purpose=Purpose.TRIAL, censored=False), limit=TRIALS, cursor=None
    )
    for record in newest.items:
        candidate = record.candidate
        if candidate.model_version is not None and candidate.predicted_score is not None:
            by_version[candidate.model_version].append(record)
    accuracies = {version: _accuracy(records) for version, records in by_version.items()}
    return {version: share for version, share in accuracies.items() if share is not None}


def _accuracy(records: list[TuningRecord]) -> float | None:
    # Only where there is something to judge: most API processes do without numpy.
    import numpy as np

    from cost_model.metrics import pairwise_accuracy

    pairs = [(record.workload_id, record.target_id) for record in records]
    numbers = {pair: number for number, pair in enumerate(dict.fromkeys(pairs))}
    return pairwise_accuracy(
        np.array([record.candidate.predicted_score for record in records], dtype=np.float32),
        np.array(
            [
                np.nan if record.result.latency_secs is None else record.result.latency_secs
                for record in records
            ]
        ),
        np.array([numbers[pair] for pair in pairs]),
    )
