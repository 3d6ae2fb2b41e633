"""The measurement protocol's plans and intervals."""

import random
from statistics import median

import pytest

from tuner.measure import timing


@pytest.mark.parametrize("first_secs", [1e-7, 1e-6, 1e-4, 1e-2, 0.3, 5.0])
def test_trials_are_short_and_never_single_calls(first_secs):
    plan = timing.trial_plan(first_secs, None)
    assert plan.calls * plan.repeats >= timing.TRIAL_CALLS_AT_LEAST
    spent_secs = first_secs * plan.calls * plan.repeats
    assert spent_secs <= max(1.1 * timing.TRIAL_SECS, timing.TRIAL_CALLS_AT_LEAST * first_secs)


def test_short_kernels_are_called_often_enough_for_the_clock():
    plan = timing.trial_plan(1e-6, None)
    assert plan.calls * 1e-6 >= timing.TRIAL_REPEAT_SECS


def test_hopeless_candidates_get_the_least():
    plan = timing.trial_plan(0.04, 0.01)
    assert (plan.calls, plan.repeats) == (1, timing.TRIAL_CALLS_AT_LEAST)


def test_finals_have_more_rounds_than_trials_have_repeats():
    assert timing.final_plan(1e-3).repeats > timing.trial_plan(1e-3, None).repeats
    assert timing.final_plan(10.0).repeats == timing.FINAL_ROUNDS_AT_LEAST


def test_the_interval_holds_the_median_of_the_sample():
    for count in range(1, 40):
        sample = [random.Random(count).random() for _ in range(count)]
        low, high = timing.median_interval(sample)
        assert min(sample) <= low <= median(sample) <= high <= max(sample)


def test_the_interval_holds_the_true_median_nineteen_times_in_twenty():
    generator = random.Random(7)
    hits = 0
    for _ in range(2000):
        low, high = timing.median_interval([generator.expovariate(1.0) for _ in range(15)])
        hits += low <= 0.6931 <= high
    assert 0.93 < hits / 2000 < 0.995
