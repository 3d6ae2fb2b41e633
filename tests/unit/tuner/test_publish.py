"""Finalists, and what is published of them."""

from dataclasses import replace

from schedules.records import Best, FailureKind, MeasureResult, Purpose, Tier, default_candidate
from tests.records import candidate, record
from tuner.publish import FINALISTS, FINALISTS_AT_MOST, choose_best, select_finalists


def final(measured, *run_secs, passed=True, failure=None):
    return record(measured, *run_secs, purpose=Purpose.FINAL, passed=passed, failure=failure)


def published(finals) -> Best:
    best = choose_best(finals)
    assert best is not None
    return best


def test_finalists_are_the_default_and_the_fastest_distinct_trials():
    trials = [record(candidate(number), 1.0 + number) for number in range(6)]
    trials += [record(candidate(0), 0.5), record(candidate(9), failure=FailureKind.RUN_ERROR)]
    finalists = select_finalists(trials, None)
    assert finalists[0] == default_candidate()
    assert [item.trace_id for item in finalists[1:]] == [
        candidate(number).trace_id for number in range(FINALISTS)
    ]


def test_more_trials_are_finalists_where_they_may_be_as_fast():
    near = [record(candidate(number), 1.0 + 0.01 * number) for number in range(5)]
    far = [record(candidate(10 + number), 1.2 + number) for number in range(5)]
    assert [item.trace_id for item in select_finalists(far + near, None)[1:]] == [
        item.candidate.trace_id for item in near
    ]
    many = [record(candidate(number), 1.0) for number in range(40)]
    assert len(select_finalists(many, None)) == 1 + FINALISTS_AT_MOST


def test_of_trials_with_equal_code_one_is_a_finalist():
    first = record(candidate(0), 1.0)
    twin = record(candidate(1), 1.0)
    twin = replace(twin, result=replace(twin.result, duplicate_of=first.candidate.trace_id))
    other = record(candidate(2), 2.0)
    assert [item.trace_id for item in select_finalists([first, twin, other], None)[1:]] == [
        first.candidate.trace_id,
        other.candidate.trace_id,
    ]


def test_the_stored_best_defends_its_place():
    stored = published([final(candidate(42), 0.1)])
    trials = [record(candidate(number), 1.0) for number in range(6)]
    assert stored.trace_id in {item.trace_id for item in select_finalists(trials, stored)}


def test_without_a_successful_trial_only_the_default_is_a_finalist():
    failed = record(candidate(1), failure=FailureKind.BUILD_ERROR)
    assert select_finalists([failed], None) == [default_candidate()]


def test_a_candidate_that_was_given_up_is_neither_a_finalist_nor_a_best():
    given_up = replace(
        record(candidate(1), 1.0), result=MeasureResult(run_secs=(1e-9,), censored_secs=1e-9)
    )
    assert select_finalists([given_up], None) == [default_candidate()]
    assert choose_best([replace(given_up, purpose=Purpose.FINAL)]) is None


def test_the_fastest_verified_final_is_chosen_with_its_speedup():
    best = published(
        [
            final(default_candidate(), 4.0, 4.1, 4.0),
            final(candidate(1), 2.0, 2.0, 2.0),
            final(candidate(2), 1.0, 1.0, 1.0),
        ]
    )
    assert best.trace_id == candidate(2).trace_id
    assert best.tier is Tier.EXACT
    assert best.speedup == 4.0
    assert best.verified


def test_a_wrong_output_is_never_chosen_however_fast():
    best = published([final(candidate(1), 2.0), final(candidate(2), 1.0, passed=False)])
    assert best.trace_id == candidate(1).trace_id


def test_an_unchecked_record_is_never_chosen():
    assert choose_best([record(candidate(1), 1.0, purpose=Purpose.FINAL)]) is None


def test_nothing_slower_than_the_default_is_chosen():
    best = published([final(default_candidate(), 1.0, 1.0), final(candidate(1), 1.5, 1.5)])
    assert best.trace_id == default_candidate().trace_id
    assert best.tier is Tier.DEFAULT
    assert best.speedup == 1.0


def test_a_tie_goes_to_the_shorter_trace():
    long, short = candidate(1, padding=50), candidate(2)
    best = published([final(long, 1.0, 1.005, 1.01), final(short, 1.008, 1.009)])
    assert best.trace_id == short.trace_id


def test_a_default_that_failed_leaves_the_speedup_unknown():
    best = published(
        [
            final(default_candidate(), passed=None, failure=FailureKind.RUN_TIMEOUT),
            final(candidate(1), 1.0),
        ]
    )
    assert best.default_latency_secs is None
    assert best.speedup is None
