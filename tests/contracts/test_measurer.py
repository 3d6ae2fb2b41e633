"""The contract of `tuner.measure.protocol.Measurer`, over every implementation."""

from collections.abc import Iterator
from datetime import UTC, datetime

import pytest

from schedules.ir import workload_from_call
from schedules.operators import find_operator
from schedules.records import (
    Candidate,
    Environment,
    FailureKind,
    MeasureResult,
    Purpose,
    TuningRecord,
    default_candidate,
    trace_id,
)
from schedules.target import Target
from tuner.measure.local import LocalMeasurer
from tuner.measure.protocol import MeasureBatch, Measurer
from tuner.measure.replay_measurer import ReplayMeasurer

pytestmark = pytest.mark.alone

BLOCK = '["GetSBlock",[],["batch_matmul","main"],["b0"]]'
LOOPS = '["GetLoops",["b0"],[],["l1","l2","l3","l4"]]'


def candidate(*instructions: str) -> Candidate:
    trace = f"[[{','.join((BLOCK, *instructions))}],[]]"
    return Candidate(trace=trace, trace_id=trace_id(trace))


PARALLEL = candidate(LOOPS, '["Parallel",["l2"],[],[]]')
UNROLLED = candidate(LOOPS, '["Unroll",["l4"],[],[]]')
NO_CHANGE = candidate(LOOPS)
BROKEN = candidate('["GetSBlock",[],["nowhere","main"],["b1"]]')
CANDIDATES = (default_candidate(), PARALLEL, BROKEN, UNROLLED)
WORKLOAD = workload_from_call(
    find_operator("batch_matmul").call({"b": 1, "n": 64, "m": 64, "k": 64})
)


def batch(target: Target, *candidates: Candidate, purpose: Purpose, **more: float) -> MeasureBatch:
    return MeasureBatch(
        workload=WORKLOAD, target=target, candidates=candidates, purpose=purpose, **more
    )


@pytest.fixture(scope="module")
def local() -> Iterator[LocalMeasurer]:
    with LocalMeasurer() as measurer:
        yield measurer


@pytest.fixture(scope="module")
def target(local: LocalMeasurer) -> Target:
    return local.describe()[0]


@pytest.fixture(scope="module")
def recorded(local: LocalMeasurer, target: Target) -> list[TuningRecord]:
    """What the local measurer finds, as records."""
    return [
        record(target, CANDIDATES[place], purpose, result)
        for purpose in Purpose
        for place, result in local.measure(batch(target, *CANDIDATES, purpose=purpose))
    ]


@pytest.fixture(params=["local", "replayed"])
def measurer(request: pytest.FixtureRequest) -> Measurer:
    local: LocalMeasurer = request.getfixturevalue("local")
    return (
        local if request.param == "local" else ReplayMeasurer(request.getfixturevalue("recorded"))
    )


def record(
    target: Target, measured: Candidate, purpose: Purpose, result: MeasureResult
) -> TuningRecord:
    return TuningRecord(
        record_id=f"{purpose}-{measured.trace_id}",
        workload_id=WORKLOAD.workload_id,
        target_id=target.target_id,
        candidate=measured,
        purpose=purpose,
        result=result,
        environment=Environment(),
        created_at=datetime.now(UTC),
    )


@pytest.mark.parametrize("purpose", list(Purpose))
def test_every_place_has_one_result(measurer, target, purpose):
    results = list(measurer.measure(batch(target, *CANDIDATES, purpose=purpose)))
    assert sorted(place for place, _ in results) == list(range(len(CANDIDATES)))


@pytest.mark.parametrize("purpose", list(Purpose))
def test_a_result_is_runtimes_or_a_failure_and_a_bound_is_no_latency(measurer, target, purpose):
    for _, result in measurer.measure(batch(target, *CANDIDATES, purpose=purpose)):
        assert bool(result.run_secs) == (result.failure is None)
        counts = result.failure is None and result.censored_secs is None
        assert (result.latency_secs is not None) == counts


def test_a_candidate_that_fails_is_a_result(measurer, target):
    results = dict(measurer.measure(batch(target, *CANDIDATES, purpose=Purpose.TRIAL)))
    assert results[2].failure.kind is FailureKind.INVALID
    assert results[0].failure is None


def test_finals_are_verified_and_trials_are_not(measurer, target):
    trials = dict(measurer.measure(batch(target, *CANDIDATES[:2], purpose=Purpose.TRIAL)))
    finals = dict(measurer.measure(batch(target, *CANDIDATES[:2], purpose=Purpose.FINAL)))
    assert all(result.verification is None for result in trials.values())
    assert all(result.verification.passed for result in finals.values())


def test_a_batch_may_be_left_unfinished(measurer, target):
    results = measurer.measure(batch(target, *CANDIDATES, purpose=Purpose.TRIAL))
    next(results)
    results.close()
    assert len(list(measurer.measure(batch(target, PARALLEL, purpose=Purpose.TRIAL)))) == 1


def test_an_empty_batch_has_no_results(measurer, target):
    assert list(measurer.measure(batch(target, purpose=Purpose.TRIAL))) == []


def test_what_was_never_recorded_is_lost_when_it_is_replayed(target, recorded):
    measurer = ReplayMeasurer(recorded)
    [(_, result)] = measurer.measure(batch(target, NO_CHANGE, purpose=Purpose.TRIAL))
    assert result.failure is not None
    assert result.failure.kind is FailureKind.WORKER_LOST


def test_what_is_replayed_is_what_was_recorded(target, recorded):
    results = ReplayMeasurer(recorded).measure(batch(target, *CANDIDATES, purpose=Purpose.TRIAL))
    trials = {
        item.candidate.trace_id: item.result for item in recorded if item.purpose is Purpose.TRIAL
    }
    for place, result in results:
        assert result == trials[CANDIDATES[place].trace_id]
