"""What a batch is expected to gain."""

import math

import numpy as np
import pytest

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
