"""Seeing that others use the cores, by a process that does, and by what was seen before."""

import os
import time
from math import inf

import pytest

from tests.neighbour import busy_neighbour
from tuner.measure import watch
from tuner.measure.watch import Look, Speeds, Watch

CORE = max(os.sched_getaffinity(0))

pytestmark = pytest.mark.alone


@pytest.fixture(autouse=True)
def long_looks(monkeypatch):
    # Long enough for any scheduler to let two processes have a turn.
    monkeypatch.setattr(watch, "LOOK_SECS", 0.15)


def test_a_neighbour_on_a_core_is_seen_and_waited_for():
    watching = Watch([CORE])
    with watching.open():
        with busy_neighbour(CORE):
            look = watching.look()
            assert look.stolen > watch.STOLEN_LIMIT
            assert not watching.is_calm(look)
        # Others may be there on a busy machine, but not for so long.
        deadline = time.monotonic() + 30
        while not watching.is_calm(watching.look()):
            assert time.monotonic() < deadline


def test_all_cores_are_watched_at_once_and_this_process_keeps_its_own():
    cores = os.sched_getaffinity(0)
    watching = Watch(cores)
    with watching.open():
        look = watching.look()
    assert set(look.burst_secs) == set(sorted(cores)[: watch.CORES_AT_MOST])
    assert min(look.burst_secs.values()) > 0
    assert os.sched_getaffinity(0) == cores


def test_a_core_that_is_slower_than_at_its_best_is_disturbed_even_if_nobody_took_it():
    watching = Watch([CORE])
    with watching.open():
        best_secs = min(watching.look().burst_secs[CORE] for _ in range(3))
    assert not watching.is_calm(Look(stolen=0.0, burst_secs={CORE: 1.5 * best_secs}))
    assert watching.is_calm(Look(stolen=0.0, burst_secs={CORE: best_secs}))


def test_what_passed_for_calm_is_judged_again_when_the_core_shows_its_speed():
    speeds = Speeds()
    speeds.note({CORE: 1.5}, 0.0)
    assert speeds.best_secs(CORE) == 1.5
    speeds.note({CORE: 1.0}, 0.1)
    assert speeds.best_secs(CORE) == 1.0


def test_the_best_is_what_was_seen_in_a_tenth_of_all_looks():
    speeds = Speeds()
    for number in range(100):
        speeds.note({CORE: 0.9 if number < 9 else 1.0 if number < 30 else 1.3}, number / 10)
    assert speeds.best_secs(CORE) == 1.0


def test_a_core_that_stays_slow_is_taken_for_what_it_has_become():
    speeds = Speeds()
    for second in range(60):
        speeds.note({CORE: 1.0}, float(second))
    for second in range(60, 114):
        speeds.note({CORE: 1.6}, float(second))
    assert speeds.best_secs(CORE) == 1.0
    for second in range(114, 120):
        speeds.note({CORE: 1.6}, float(second))
    assert speeds.best_secs(CORE) == 1.6


def test_time_in_which_nobody_looks_is_no_reason_to_forget():
    speeds = Speeds()
    for now in (0.0, 1.0, 2.0, 1e5):
        speeds.note({CORE: 1.6 if now > 2.0 else 1.0}, now)
    assert speeds.best_secs(CORE) == 1.0


def test_cores_that_are_seldom_fast_at_once_are_calm_when_they_come_nearest_to_it():
    speeds, usual = Speeds(), (1.0, 1.1, 1.4, 1.4, 1.4)
    for number in range(400):
        # Each is at its best in a fifth of the looks, both at once in one of 25.
        first, second = usual[number % 5], usual[number // 5 % 5]
        speeds.note({CORE: first, CORE + 1: second}, number / 10)
    assert speeds.best_secs(CORE) == speeds.best_secs(CORE + 1) == 1.0
    assert speeds.slow_limit == pytest.approx(1.1)
    assert speeds.slowness({CORE: 1.0, CORE + 1: 1.1}) == pytest.approx(1.1)


def test_cores_that_are_often_fast_at_once_are_calm_only_then():
    speeds = Speeds()
    for number in range(100):
        speeds.note({CORE: 1.0, CORE + 1: 1.0 if number % 5 == 0 else 1.3}, number / 10)
    assert speeds.slow_limit == watch.SLOW_LIMIT


def test_of_a_core_that_nobody_looked_at_nothing_is_slow():
    assert Speeds().best_secs(CORE) == inf


def test_of_no_cores_all_are_calm():
    watching = Watch([])
    with watching.open():
        assert watching.is_calm(watching.look())


def test_nothing_is_left_of_those_who_watch():
    watching = Watch([CORE])
    with watching.open():
        pids = watching.pids
        assert pids
    for pid in pids:
        with pytest.raises(ProcessLookupError):
            os.kill(pid, 0)
