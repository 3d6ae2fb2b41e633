"""From trials to a published best: finalists, and the choice among them."""

from collections.abc import Sequence

from schedules.records import (
    Best,
    Candidate,
    Origin,
    Tier,
    TuningRecord,
    default_candidate,
)
from schedules.runtimes import latency_interval
from tuner.search.gain import gain_of_another_batch

FINALISTS = 3
"""So many of the fastest trials are re-measured in any case."""
FINALISTS_AT_MOST = 8
CLOSE = 1.1
"""Trials that took up to so many times what the fastest did may be as fast: of many that are, the
fastest is the one with the most luck."""


def select_finalists(trials: Sequence[TuningRecord], stored: Best | None) -> list[Candidate]:
    """Choose what is re-measured before anything is published.

    Parameters
    ----------
    trials : sequence of TuningRecord
        All trials of one workload on one target.
    stored : Best or None
        What is published now: it has to defend its place.

    Returns
    -------
    list of Candidate
        The compiler's default, the fastest trials of distinct code, and the stored best.
    """
    fastest = _fastest_codes(trials)
    close_secs = CLOSE * min(map(_latency, fastest), default=0.0)
    close = [record for record in fastest[:FINALISTS_AT_MOST] if _latency(record) <= close_secs]
    finalists = {
        record.candidate.trace_id: record.candidate
        for record in fastest[: max(FINALISTS, len(close))]
    }
    default = default_candidate()
    if stored is not None and stored.trace_id not in finalists:
        finalists[stored.trace_id] = Candidate(
            trace=stored.trace, trace_id=stored.trace_id, model_version=stored.model_version
        )
    finalists.pop(default.trace_id, None)
    return [default, *finalists.values()]


def _fastest_codes(trials: Sequence[TuningRecord]) -> list[TuningRecord]:
    """Return the fastest trial of each candidate, of those with equal code only one; sorted."""
    fastest: dict[str, TuningRecord] = {}
    timed = [record for record in trials if record.result.latency_secs is not None]
    for record in sorted(timed, key=_latency):
        code = record.result.duplicate_of or record.candidate.trace_id
        fastest.setdefault(code, record)
    return list(fastest.values())


def choose_best(finals: Sequence[TuningRecord], trials: Sequence[TuningRecord] = ()) -> Best | None:
    """Choose what to publish from the final measurements of one workload on one target.

    Only verified records count. A candidate whose latency lies within the fastest one's interval is
    as fast as it; among those the shortest trace wins. Nothing slower than the compiler's default
    is chosen.

    Parameters
    ----------
    finals : sequence of TuningRecord
        Measured together.
    trials : sequence of TuningRecord
        All trials, oldest first, which tell what more of them are expected to gain.

    Returns
    -------
    Best or None
        None when no final passed.
    """
    passed = [
        record
        for record in finals
        if record.result.latency_secs is not None
        and record.result.verification is not None
        and record.result.verification.passed
    ]
    if not passed:
        return None
    default = next((item for item in passed if item.candidate.origin is Origin.DEFAULT), None)
    fastest = min(passed, key=_latency)
    limit = latency_interval(fastest.result.run_secs)[1]
    equals = [item for item in passed if _latency(item) <= limit]
    chosen = min(equals, key=lambda item: (len(item.candidate.trace), _latency(item)))
    return Best(
        tier=Tier.DEFAULT if chosen is default else Tier.EXACT,
        workload_id=chosen.workload_id,
        target_id=chosen.target_id,
        latency_secs=_latency(chosen),
        latency_interval_secs=latency_interval(chosen.result.run_secs),
        default_latency_secs=_latency(default) if default else None,
        trace=chosen.candidate.trace,
        trace_id=chosen.candidate.trace_id,
        verified=True,
        record_id=chosen.record_id,
        environment=chosen.environment,
        model_version=chosen.candidate.model_version,
        created_at=chosen.created_at,
        expected_gain=gain_of_another_batch(trials),
    )


def _latency(record: TuningRecord) -> float:
    latency_secs = record.result.latency_secs
    assert latency_secs is not None
    return latency_secs
