"""The measurement protocol's plans and intervals."""

import pytest

from tuner.measure import timing

INCUMBENT = 1e-3


@pytest.mark.parametrize("first_secs", [1e-7, 1e-6, 1e-4, 1e-2, 0.3, 5.0])
def test_short_kernels_are_called_often_enough_for_the_clock(first_secs):
    calls = timing.calls_per_repeat(first_secs, timing.TRIAL_REPEAT_SECS)
    assert calls * first_secs >= 0.999 * timing.TRIAL_REPEAT_SECS
    assert calls == 1 or (calls - 1) * first_secs < 1.001 * timing.TRIAL_REPEAT_SECS


def _goes_on(run_secs, incumbent_secs=INCUMBENT, spent_secs=0.1):
    return timing.trial_round({7: run_secs}, {7: spent_secs}, incumbent_secs) == [7]


@pytest.mark.parametrize(
    ("slower", "repeats"),
    [(2.1, 2), (1.9, timing.TRIAL_AGREEING), (1.3, timing.TRIAL_AGREEING)]
    + [(factor, timing.CONTENDER_AGREEING) for factor in (1.2, 0.5)],
)
def test_the_faster_a_candidate_the_more_repeats_have_to_agree(slower, repeats):
    assert _goes_on([slower * INCUMBENT] * (repeats - 1))
    assert not _goes_on([slower * INCUMBENT] * repeats)


def test_one_slow_repeat_gives_nobody_up():
    assert _goes_on([9 * INCUMBENT])
    assert _goes_on([9 * INCUMBENT, INCUMBENT])


def test_one_call_gives_up_what_waiting_for_a_core_cannot_explain():
    assert timing.is_hopeless(4.1 * INCUMBENT, INCUMBENT, waited_secs=0.0)
    assert not timing.is_hopeless(4.1 * INCUMBENT, INCUMBENT, waited_secs=0.2 * INCUMBENT)
    assert timing.is_hopeless(4.3 * INCUMBENT, INCUMBENT, waited_secs=0.2 * INCUMBENT)


def test_nobody_is_given_up_without_an_incumbent():
    assert not timing.is_hopeless(100.0, None, waited_secs=0.0)
    assert _goes_on([100.0, 100.0], None)
    assert timing.trial_round({0: ()}, {0: 0.0}, None) == [0]


def test_who_races_at_the_same_time_is_a_rival():
    spent = dict.fromkeys(range(2), 0.1)
    assert timing.trial_round({0: [1.0], 1: [2.1, 2.1]}, spent, None) == [0]
    assert timing.trial_round({0: [1.0], 1: [1.9, 1.9]}, spent, None) == [0, 1]


def test_a_slow_trial_whose_repeats_agree_is_no_bound():
    """The rival that is over twice as fast came after it had been timed."""
    assert timing.is_bound([3.0, 3.0], 1.0)
    assert timing.is_bound([3.0, 3.5, 4.0, 4.5], 1.0)
    assert not timing.is_bound([3.0] * timing.TRIAL_AGREEING, 1.0)
    assert not timing.is_bound([1.5, 1.5], 1.0)
    assert not timing.is_bound([3.0, 3.0], None)
    assert not timing.is_bound([], 1.0)


def test_repeats_that_do_not_agree_are_repeated_within_limits():
    restless = [(1 + 0.03 * step) * INCUMBENT for step in range(timing.CONTENDER_REPEATS)]
    assert _goes_on(restless[:-1])
    assert not _goes_on(restless)
    assert not _goes_on(restless[:-1], spent_secs=2 * timing.TRIAL_SECS)
    slower = [1.5 * secs for secs in restless]
    assert _goes_on(slower[: timing.TRIAL_REPEATS - 1])
    assert not _goes_on(slower[: timing.TRIAL_REPEATS])


def test_clearly_slower_finalists_end_after_a_few_rounds():
    certain = [1.0] * timing.FINAL_AGREEING
    wide = [0.99, 1.009, 1.1] * timing.FINAL_AGREEING
    slow = [5.0, 5.5, 6.0]
    spent = dict.fromkeys(range(3), 0.0)
    assert timing.final_round({0: certain, 1: wide, 2: slow}, spent, None) == [1]
    assert timing.final_round({0: certain, 1: wide[:2], 2: slow}, spent, None) == [1]
    assert timing.final_round({0: certain[:3], 1: wide, 2: slow}, spent, None) == [0, 1]
    assert timing.final_round({}, {}, None) == []


def test_finals_end_in_time():
    wide = [0.9, 0.91] * timing.FINAL_AGREEING
    assert timing.final_round({0: wide}, {0: timing.FINAL_SECS}, None) == []
    assert timing.final_round({0: wide * timing.FINAL_ROUNDS}, {0: 0.0}, None) == []


def test_finals_in_a_slow_spell_go_on_until_it_ends_or_their_time_does():
    certain, slower = [1.0] * timing.FINAL_AGREEING, [1.5] * timing.FINAL_AGREEING
    spent = dict.fromkeys(range(2), 0.0)
    finals = {0: certain, 1: slower}
    assert timing.final_round(finals, spent, 1.0) == []
    assert timing.is_slow_spell(finals, 0.95)
    assert timing.final_round(finals, spent, 0.95) == [0]
    assert timing.final_round({0: [*certain, 0.95], 1: slower}, spent, 0.95) == [0]
    assert timing.final_round({0: [1.0] * timing.FINAL_ROUNDS, 1: slower}, spent, 0.95) == []
    assert timing.final_round(finals, {0: timing.FINAL_SECS, 1: 0.0}, 0.95) == []
    assert not timing.is_slow_spell({0: []}, 0.95)


def test_the_reference_kernel_has_as_many_repeats_as_are_compared():
    some = {0: [1e-4] * (timing.REFERENCE_REPEATS - 1)}
    assert timing.reference_round(some, {0: 1.0}) == [0]
    assert timing.reference_round({0: [1e-4] * timing.REFERENCE_REPEATS}, {0: 1.0}) == []
