"""What a batch is expected to gain."""

import math
from dataclasses import replace

import numpy as np
import pytest

from schedules.records import FailureKind
from tests.records import candidate, record
from tuner.search import gain


def expected(scores, errors):
    return gain.expected_gain(scores, errors, np.random.default_rng(1))


def test_a_model_that_is_always_right_gains_what_it_says():
    assert expected([1.0, -3.0], [0.0] * gain.LEAST) == pytest.approx(0.5)
    assert expected([-0.5] * 16, [0.0] * gain.LEAST) == 0.0


def test_several_candidates_gain_more_than_one_where_the_model_errs():
    errors = [-0.2, 0.2] * gain.LEAST
    one, many = expected([-0.1], errors), expected([-0.1] * 16, errors)
    assert one == pytest.approx((1 - 2**-0.1) / 2, rel=0.2)
    assert many == pytest.approx(1 - 2**-0.1, rel=1e-3)


def test_failures_gain_nothing():
    assert expected([1.0] * 16, [-math.inf] * gain.LEAST) == 0.0


def test_too_little_is_known_of_a_young_model():
    assert expected([1.0], [0.0] * (gain.LEAST - 1)) is None
    assert expected([], [0.0] * gain.LEAST) is None


def trial(number, secs, *, score, version):
    return record(
        replace(candidate(number), predicted_score=score, model_version=version),
        *([] if secs is None else [secs]),
        failure=FailureKind.RUN_ERROR if secs is None else None,
    )


def session(*last):
    """A first sample of one second, then models that are always right, then a last batch."""
    sampled = [trial(0, 1.0, score=None, version=None)]
    middle = [trial(number, 2.0, score=-1.0, version="m1") for number in range(1, gain.LEAST + 1)]
    latest = [
        trial(100 + place, secs, score=score, version="m2")
        for place, (secs, score) in enumerate(last)
    ]
    return [*sampled, *middle, *latest]


def test_a_last_batch_without_promise_tells_that_nothing_is_left():
    assert gain.gain_of_another_batch(session((2.0, -1.0), (4.0, -2.0))) == 0.0


def test_what_the_last_batch_has_gained_is_not_gained_again():
    """It was right to promise twice the speed, which is the best's by now."""
    assert gain.gain_of_another_batch(session((0.5, 1.0), (2.0, -1.0))) == pytest.approx(0.0)


def test_a_last_batch_that_missed_leaves_something_to_gain():
    left = gain.gain_of_another_batch(session((1.0, 1.0), (1.0, 1.0)))
    assert left is not None
    assert 0.4 < left <= 0.5


def test_nothing_is_told_where_no_model_proposed():
    assert gain.gain_of_another_batch([]) is None
    assert gain.gain_of_another_batch([trial(0, 1.0, score=None, version=None)]) is None
    imported = trial(200, 1.0, score=None, version=None)
    assert gain.gain_of_another_batch([*session((2.0, -1.0)), imported]) is None


def test_a_failure_was_slower_than_any_prediction():
    misjudgement = gain.Misjudgement()
    for one in session((None, 1.0)):
        misjudgement.note(one.candidate, one.result)
    assert misjudgement.errors[-1] == -math.inf
    assert set(misjudgement.errors) == {0.0, -math.inf}


def test_a_batch_is_worth_what_it_saves_of_all_calls():
    trials = session((1.0, 1.0), (1.0, 1.0))
    left = gain.gain_of_another_batch(trials)
    assert left is not None
    assert gain.worth_of_another_batch(trials, 3.0) == pytest.approx(3.0 * 1.0 * left)


def test_what_is_not_known_is_hoped_for():
    assert gain.worth_of_another_batch([], 1.0) == math.inf
    assert gain.worth_of_another_batch([trial(0, None, score=None, version=None)], 1.0) == math.inf
    assert gain.worth_of_another_batch([trial(0, 0.5, score=None, version=None)], 4.0) == 2.0
