"""Validity learnt from the choices of one search."""

import numpy as np
import pytest

from cost_model.validity import NOTHING_FAILS, chances_of_working


def rows(count, seed=1):
    """Powers of two in five columns, of which the last is open for half of the rows."""
    random = np.random.default_rng(seed)
    choices = 2.0 ** random.integers(0, 6, size=(count, 5))
    choices[random.random(count) < 0.5, 4] = np.nan
    return choices


def right(works_at, *, tried=48):
    """Share of unseen rows whose validity is told."""
    seen, unseen = rows(tried), rows(200, seed=2)
    chances = chances_of_working(seen, works_at(seen), unseen)
    return ((chances > 0.5) == works_at(unseen)).mean()


@pytest.mark.parametrize(
    "works_at",
    [
        lambda choices: choices[:, 2] < 16,
        lambda choices: choices[:, 2] > 2,
        lambda choices: choices[:, 1] * choices[:, 3] < 64,
    ],
    ids=["one too large", "one too small", "a product too large"],
)
def test_what_fails_at_one_choice_is_told_of_others(works_at):
    assert right(works_at) > 0.95


def test_a_cause_that_is_no_rule_is_still_told_more_often_than_not():
    def works_at(choices):
        return choices[:, :3].prod(axis=1) < 512

    base = works_at(rows(200, seed=2)).mean()
    assert right(works_at, tried=96) > max(base, 1 - base) + 0.1


def test_an_exception_does_not_overthrow_a_rule():
    seen = rows(48)
    works = seen[:, 0] < 8
    works[np.flatnonzero(works)[0]] = False
    unseen = rows(200, seed=2)
    chances = chances_of_working(seen, works, unseen)
    assert ((chances > 0.5) == (unseen[:, 0] < 8)).mean() > 0.95


def test_between_what_works_and_what_fails_lies_doubt():
    seen = np.array([[2.0, 4.0]] * 6 + [[32.0, 4.0]] * 6)
    works = seen[:, 0] < 8
    below, between, above = chances_of_working(
        seen, works, np.array([[2.0, 4.0], [8.0, 4.0], [64.0, 4.0]])
    )
    assert below > 0.9
    assert above < 0.1
    assert 0.2 < between < 0.8


def test_what_was_never_tried_is_believed_to_work_more_often_than_nothing_fails():
    nothing = np.zeros((0, 5)), np.zeros(0, dtype=np.bool_)
    chances = chances_of_working(*nothing, rows(32))
    assert chances.min() > NOTHING_FAILS
    assert chances.max() < 0.97


def test_where_all_works_nothing_is_feared_and_the_other_way_round():
    seen = rows(32)
    assert chances_of_working(seen, np.ones(32, dtype=np.bool_), seen).min() > 0.95
    assert chances_of_working(seen, np.zeros(32, dtype=np.bool_), seen).max() < 0.05


def test_one_candidate_that_is_alone_and_none_at_all():
    alone = np.array([[4.0, 1.0]])
    assert chances_of_working(alone, np.array([False]), alone) < 0.5
    assert chances_of_working(alone, np.array([True]), alone[:0]).shape == (0,)
    assert chances_of_working(alone[:, :0], np.array([True]), alone[:, :0]) > 0.9
