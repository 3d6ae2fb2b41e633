"""Choosing a batch from a population."""

from dataclasses import dataclass

import numpy as np
import pytest

from tuner.search.batch import choose, distance
from tuner.search.sites import Point


@dataclass(frozen=True)
class Member:
    point: Point | None
    score: float


def at(*decisions, design=0):
    return Point(design=design, decisions=decisions)


def population(count):
    return [Member(at(number, number % 7, number % 3), float(number)) for number in range(count)]


def test_a_batch_has_no_member_twice_and_all_that_there_are():
    members = population(20)
    chosen = choose(members, 12, incumbent=None, random=np.random.default_rng(1))
    assert len(chosen) == len({member.point for member in chosen}) == 12
    assert len(choose(members[:5], 12, incumbent=None, random=np.random.default_rng(1))) == 5
    assert choose([], 12, incumbent=None, random=np.random.default_rng(1)) == []


def test_the_highest_score_comes_first():
    chosen = choose(population(50), 8, incumbent=None, random=np.random.default_rng(1))
    assert chosen[0].score == 49


def test_equal_random_states_choose_equally():
    batches = [
        choose(population(50), 16, incumbent=at(1, 1, 1), random=np.random.default_rng(3))
        for _ in range(2)
    ]
    assert batches[0] == batches[1]


def test_a_neighbour_of_the_incumbent_is_among_them_however_low_its_score():
    neighbour = Member(at(90, 90, 91), -1.0)
    members = [*population(50), neighbour]
    chosen = choose(members, 8, incumbent=at(90, 90, 90), random=np.random.default_rng(1))
    assert neighbour in chosen


def test_what_is_too_alike_waits_while_there_is_something_else():
    alike = [Member(at(1, 1, number), 100.0 + number) for number in range(20)]
    apart = [Member(at(number, number, number), 1.0) for number in range(2, 22)]
    chosen = choose([*alike, *apart], 8, incumbent=None, random=np.random.default_rng(1))
    assert sum(member in alike for member in chosen) == 1
    assert len(choose(alike, 8, incumbent=None, random=np.random.default_rng(1))) == 8


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
