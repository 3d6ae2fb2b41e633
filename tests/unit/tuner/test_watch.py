"""Seeing that others use the cores, by a process that does, and by what was seen before."""

import os

import pytest

from tests.neighbour import busy_neighbour
from tuner.measure import watch
from tuner.measure.noise import Noise
from tuner.measure.watch import Look, Speeds, Watch

CORE = max(os.sched_getaffinity(0))


@pytest.fixture(autouse=True)
def long_looks(monkeypatch):
    # Long enough for any scheduler to let two processes have a turn.
    monkeypatch.setattr(watch, "SPIN_SECS", 0.15)


def test_a_neighbour_on_a_core_is_seen_and_waited_for():
    watching = Watch([CORE])
    with watching.open():
        with busy_neighbour(CORE):
            look = watching.look()
            assert look.stolen > watch.STOLEN_LIMIT
            assert not watching.is_calm(look)
            assert watching.settle(0.2) is Noise.DISTURBED
        # Others may be there on a busy machine, but not for so long.
        assert watching.settle(30.0) in {Noise.CALM, Noise.WAITED}


def test_all_cores_are_watched_at_once_and_this_process_keeps_its_own():
    cores = os.sched_getaffinity(0)
    watching = Watch(cores)
    with watching.open():
        look = watching.look()
    assert set(look.spins) == set(sorted(cores)[: watch.CORES_AT_MOST])
    assert min(look.spins.values()) > 0
    assert os.sched_getaffinity(0) == cores


def test_a_core_that_is_usually_faster_is_disturbed_even_if_nobody_took_it():
    watching = Watch([CORE])
    with watching.open():
        spins = sorted(watching.look().spins[CORE] for _ in range(3))[1]
    slow = Look(stolen=0.0, spins={CORE: int(0.6 * spins)})
    assert not watching.is_calm(slow)
    assert watching.is_calm(Look(stolen=0.0, spins={CORE: spins}))


def test_what_passed_for_calm_is_judged_again_when_the_core_shows_its_speed():
    watching = Watch([CORE])
    slow = Look(stolen=0.0, spins={CORE: 5})
    assert watching.is_calm(slow)
    with watching.open():
        watching.look()
    assert not watching.is_calm(slow)


def test_neither_luck_nor_a_short_weakness_changes_what_is_usual():
    speeds = Speeds()
    for second, count in enumerate([100, 150, 98, 50, 102]):
        speeds.note({CORE: count}, float(second))
    assert speeds.usual(CORE) == 100


def test_a_core_that_stays_slow_is_taken_for_what_it_has_become():
    speeds = Speeds()
    for second in range(60):
        speeds.note({CORE: 100}, float(second))
    for second in range(60, 80):
        speeds.note({CORE: 60}, float(second))
    assert speeds.usual(CORE) == 100
    for second in range(80, 100):
        speeds.note({CORE: 60}, float(second))
    assert speeds.usual(CORE) == 60


def test_time_in_which_nobody_looks_is_no_reason_to_forget():
    speeds = Speeds()
    for now in (0.0, 1.0, 2.0, 1e5):
        speeds.note({CORE: 60 if now > 2.0 else 100}, now)
    assert speeds.usual(CORE) == 100


def test_of_no_cores_all_are_calm():
    watching = Watch([])
    with watching.open():
        assert watching.settle() is Noise.CALM


def test_nothing_is_left_of_those_who_watch():
    watching = Watch([CORE])
    with watching.open():
        pids = watching.pids
        assert pids
    for pid in pids:
        with pytest.raises(ProcessLookupError):
            os.kill(pid, 0)
