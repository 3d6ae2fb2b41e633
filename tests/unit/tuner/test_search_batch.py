"""Choosing a batch from a population."""

from dataclasses import dataclass

import numpy as np
import pytest

from tuner.search.batch import choose, distance, keep
from tuner.search.sites import Point


@dataclass(frozen=True)
class Member:
    point: Point | None
    score: float


def at(*decisions, design=0):
    return Point(design=design, decisions=decisions)


def population(count):
    return [Member(at(number, number % 7, number % 3), float(number)) for number in range(count)]


def chosen_of(members, count, *, incumbent=None, chances=None):
    known = np.ones(len(members)) if chances is None else np.array(chances)
    return choose(
        members,
        count,
        incumbent=incumbent,
        chances=known.astype(np.float32),
        random=np.random.default_rng(1),
    )


def test_a_batch_has_no_member_twice_and_all_that_there_are():
    members = population(20)
    chosen = chosen_of(members, 12)
    assert len(chosen) == len({member.point for member in chosen}) == 12
    assert len(chosen_of(members[:5], 12)) == 5
    assert chosen_of([], 12) == []


def test_the_highest_score_comes_first():
    chosen = chosen_of(population(50), 8)
    assert chosen[0].score == 49


def test_equal_random_states_choose_equally():
    batches = [chosen_of(population(50), 16, incumbent=at(1, 1, 1)) for _ in range(2)]
    assert batches[0] == batches[1]


def test_a_neighbour_of_the_incumbent_is_among_them_however_low_its_score():
    neighbour = Member(at(90, 90, 91), -1.0)
    members = [*population(50), neighbour]
    chosen = chosen_of(members, 8, incumbent=at(90, 90, 90))
    assert neighbour in chosen


def test_what_is_too_alike_waits_while_there_is_something_else():
    alike = [Member(at(1, 1, number), 100.0 + number) for number in range(20)]
    apart = [Member(at(number, number, number), 1.0) for number in range(2, 22)]
    chosen = chosen_of([*alike, *apart], 8)
    assert sum(member in alike for member in chosen) == 1
    assert len(chosen_of(alike, 8)) == 8


def test_what_is_unlikely_to_work_is_only_taken_at_random():
    members = population(64)
    hopeless = [1.0 if member.score < 40 else 0.0 for member in members]
    chosen = chosen_of(members, 16, chances=hopeless)
    assert chosen[0].score == 39
    assert all(member.score < 40 for member in chosen)
    doubtful = [1.0 if member.score < 40 else 0.7 for member in members]
    assert 0 < sum(member.score >= 40 for member in chosen_of(members, 32, chances=doubtful)) <= 4
    assert len(chosen_of(members, 64, chances=hopeless)) == 64


def test_where_nothing_is_likely_to_work_scores_decide():
    chosen = chosen_of(population(64), 8, chances=[0.1] * 64)
    assert chosen[0].score == 63


@pytest.mark.parametrize(
    ("failing", "likely", "doubted"),
    [(0, 16, 0), (2, 14, 2), (40, 12, 4), (60, 4, 12), (64, 0, 16)],
)
def test_what_is_kept_is_mostly_likely_to_work_however_fast_the_rest_may_be(
    failing, likely, doubted
):
    members = population(64)
    fails = [member.score >= 64 - failing for member in members]
    kept = keep(members, 16, chances=np.where(fails, 0.1, 1.0).astype(np.float32))
    scores = [member.score for member in kept]
    assert scores[:likely] == [63.0 - failing - place for place in range(likely)]
    assert scores[likely:] == [63.0 - place for place in range(doubted)]


@pytest.mark.parametrize(
    ("one", "other", "expected"),
    [
        (at(1, 2), at(1, 2), 0),
        (at(1, 2), at(3, 2), 1),
        (at(1, 2), at(1, 2, design=1), float("inf")),
        (None, at(1, 2), float("inf")),
    ],
)
def test_distance_counts_decisions(one, other, expected):
    assert distance(one, other) == expected
