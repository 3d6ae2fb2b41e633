"""What a process knows of its own waiting, on a core that another one wants as well."""

import os
import time

import pytest

from tests.neighbour import busy_neighbour
from tuner.measure import noise

pytestmark = pytest.mark.alone


def test_a_process_knows_how_long_it_has_waited_for_a_core():
    cores = os.sched_getaffinity(0)
    core = max(cores)
    with busy_neighbour(core):
        os.sched_setaffinity(0, {core})
        try:
            before, cpu_before = noise.waited_secs(), time.process_time()
            started = time.perf_counter()
            while time.perf_counter() - started < 0.5:
                pass
            waited_secs = noise.waited_secs() - before
            ran_secs = time.process_time() - cpu_before
        finally:
            os.sched_setaffinity(0, cores)
    assert waited_secs > 0.05
    # Whoever wants a core all the time either has it or waits for it.
    assert waited_secs + ran_secs > 0.45
