"""Seeing that others use the cores, by a process that does."""

import multiprocessing
import os
import time

from tuner.measure import noise
from tuner.measure.noise import Noise


def test_a_neighbour_on_one_core_is_seen_and_the_cores_are_kept(monkeypatch):
    cores = os.sched_getaffinity(0)
    # Long enough for any scheduler to let both have a turn.
    monkeypatch.setattr(noise, "SPIN_SECS", 0.15)
    neighbour = multiprocessing.get_context("fork").Process(target=spin, args=(max(cores),))
    neighbour.start()
    try:
        assert noise.stolen_share() > noise.STOLEN_LIMIT
    finally:
        neighbour.kill()
        neighbour.join()
    assert os.sched_getaffinity(0) == cores


def test_settling_tells_what_it_took(monkeypatch):
    shares = [0.0, 0.5, 0.5, 0.01]
    monkeypatch.setattr(noise, "stolen_share", lambda: shares.pop(0))
    assert noise.settle() is Noise.CALM
    assert noise.settle() is Noise.WAITED
    assert shares == []
    monkeypatch.setattr(noise, "stolen_share", lambda: 0.5)
    monkeypatch.setattr(noise, "WAIT_SECS", 0.05)
    assert noise.settle() is Noise.DISTURBED


def spin(core: int) -> None:
    os.sched_setaffinity(0, {core})
    while True:
        time.time()
