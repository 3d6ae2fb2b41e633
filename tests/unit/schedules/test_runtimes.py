"""What repeats say about a latency."""

import random
from statistics import median

import pytest

from schedules import runtimes


def test_what_was_disturbed_does_not_count():
    quiet = [1.0, 1.004, 1.008, 1.012, 1.016]
    random.Random(3).shuffle(disturbed := [*quiet, 1.1, 1.3, 1.8, 2.0, 5.0])
    assert runtimes.undisturbed(disturbed) == quiet
    assert runtimes.latency(disturbed) == 1.008
    assert runtimes.latency_interval(disturbed) == runtimes.median_interval(quiet)


def test_a_single_repeat_is_its_own_latency():
    assert runtimes.latency([2.0]) == 2.0
    assert runtimes.latency_interval([2.0]) == (2.0, 2.0)


def test_a_busy_neighbour_moves_the_latency_less_than_the_median():
    """Two thirds of the time a neighbour takes up to a third of the speed."""
    generator = random.Random(11)
    calm = [1 + 0.01 * generator.random() for _ in range(20)]
    slowed = [1 + max(0.0, generator.uniform(-0.25, 0.5)) for _ in calm]
    busy = [secs * factor for secs, factor in zip(calm, slowed, strict=True)]
    assert runtimes.latency(busy) == pytest.approx(runtimes.latency(calm), rel=0.005)
    assert median(busy) > 1.02 * median(calm)


def test_the_interval_holds_the_median_of_the_sample():
    for count in range(1, 40):
        sample = [random.Random(count).random() for _ in range(count)]
        low, high = runtimes.median_interval(sample)
        assert min(sample) <= low <= median(sample) <= high <= max(sample)


def test_the_interval_holds_the_true_median_nineteen_times_in_twenty():
    generator = random.Random(7)
    hits = 0
    for _ in range(2000):
        low, high = runtimes.median_interval([generator.expovariate(1.0) for _ in range(15)])
        hits += low <= 0.6931 <= high
    assert 0.93 < hits / 2000 < 0.995
