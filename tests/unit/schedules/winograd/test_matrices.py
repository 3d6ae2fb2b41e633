"""Winograd's matrices compute filters exactly, with fewer products."""

import random
from fractions import Fraction

import pytest

from schedules.winograd.matrices import LARGEST, transforms

SIZES = [
    (outputs, taps)
    for outputs in range(2, LARGEST)
    for taps in range(2, LARGEST)
    if outputs + taps - 1 <= LARGEST
]


def times(matrix, vector):
    return [sum(a * b for a, b in zip(row, vector, strict=True)) for row in matrix]


@pytest.mark.parametrize(("outputs", "taps"), SIZES)
def test_outputs_are_those_of_a_filter(outputs, taps):
    chance = random.Random(outputs * taps)
    made = transforms(outputs, taps)
    data = [Fraction(chance.randint(-99, 99)) for _ in range(outputs + taps - 1)]
    weights = [Fraction(chance.randint(-99, 99)) for _ in range(taps)]
    products = [
        a * b for a, b in zip(times(made.filters, weights), times(made.data, data), strict=True)
    ]
    assert len(products) == made.inputs == outputs + taps - 1
    assert times(made.outputs, products) == [
        sum(data[at + tap] * weights[tap] for tap in range(taps)) for at in range(outputs)
    ]


def test_the_usual_tile_has_the_usual_matrix():
    # Lavin and Gray, 2016, section 4.2.
    made = transforms(4, 3)
    assert [list(map(int, row)) for row in made.data[:2]] == [
        [4, 0, -5, 0, 1, 0],
        [0, -4, -4, 1, 1, 0],
    ]
    assert list(map(int, made.outputs[3])) == [0, 1, -1, 8, -8, 1]
