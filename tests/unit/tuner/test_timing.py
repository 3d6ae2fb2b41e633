"""The measurement protocol's plans and intervals."""

import random
from statistics import median

import pytest

from tuner.measure import timing
from tuner.measure.timing import Verdict

INCUMBENT = 1e-3


@pytest.mark.parametrize("first_secs", [1e-7, 1e-6, 1e-4, 1e-2, 0.3, 5.0])
def test_short_kernels_are_called_often_enough_for_the_clock(first_secs):
    calls = timing.calls_per_repeat(first_secs, timing.TRIAL_REPEAT_SECS)
    assert calls * first_secs >= 0.999 * timing.TRIAL_REPEAT_SECS
    assert calls == 1 or (calls - 1) * first_secs < 1.001 * timing.TRIAL_REPEAT_SECS


@pytest.mark.parametrize(
    ("slower", "verdict"),
    [(2.1, Verdict.GIVEN_UP), (1.9, Verdict.ENOUGH), (1.3, Verdict.ENOUGH), (0.5, Verdict.ENOUGH)],
)
def test_only_candidates_of_over_twice_the_incumbent_are_given_up(slower, verdict):
    steady = [slower * INCUMBENT] * timing.TRIAL_REPEATS_AT_LEAST
    assert timing.judge_trial(steady, INCUMBENT, 0.1) is verdict


def test_one_slow_repeat_gives_nobody_up():
    assert timing.judge_trial([9 * INCUMBENT], INCUMBENT, 0.1) is Verdict.MORE
    assert timing.judge_trial([9 * INCUMBENT, INCUMBENT], INCUMBENT, 0.1) is Verdict.MORE


def test_one_call_gives_up_what_waiting_for_a_core_cannot_explain():
    assert timing.is_hopeless(4.1 * INCUMBENT, INCUMBENT, waited_secs=0.0)
    assert not timing.is_hopeless(4.1 * INCUMBENT, INCUMBENT, waited_secs=0.2 * INCUMBENT)
    assert timing.is_hopeless(4.3 * INCUMBENT, INCUMBENT, waited_secs=0.2 * INCUMBENT)


def test_nobody_is_given_up_without_an_incumbent():
    assert not timing.is_hopeless(100.0, None, waited_secs=0.0)
    assert timing.judge_trial([100.0, 100.0], None, 0.1) is not Verdict.GIVEN_UP


def test_contenders_are_timed_until_they_are_certain():
    wide = [INCUMBENT, 1.1 * INCUMBENT] * 3
    assert timing.judge_trial(wide, INCUMBENT, 0.1) is Verdict.MORE
    assert timing.judge_trial(wide * 2, INCUMBENT, 0.1) is Verdict.ENOUGH
    assert timing.judge_trial(wide, INCUMBENT, 2 * timing.TRIAL_SECS) is Verdict.ENOUGH
    assert timing.judge_trial([2.1 * secs for secs in wide], INCUMBENT, 0.1) is Verdict.GIVEN_UP
    assert timing.judge_trial([1.5 * secs for secs in wide], INCUMBENT, 0.1) is Verdict.ENOUGH


def test_clearly_slower_finalists_end_after_a_few_rounds():
    certain = [1.0] * timing.CONTENDER_ROUNDS_AT_LEAST
    wide = [0.9, 1.1] * timing.CONTENDER_ROUNDS_AT_LEAST
    slow = [5.0, 5.5, 6.0]
    spent = dict.fromkeys(range(3), 0.0)
    assert timing.final_round({0: certain, 1: wide, 2: slow}, spent) == [1]
    assert timing.final_round({0: certain, 1: wide[:2], 2: slow}, spent) == [1]
    assert timing.final_round({0: certain[:3], 1: wide, 2: slow}, spent) == [0, 1]
    assert timing.final_round({}, {}) == []


def test_finals_end_in_time():
    wide = [0.9, 1.1] * timing.CONTENDER_ROUNDS_AT_LEAST
    assert timing.final_round({0: wide}, {0: timing.FINAL_SECS}) == []
    assert timing.final_round({0: wide * timing.FINAL_ROUNDS}, {0: 0.0}) == []


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
