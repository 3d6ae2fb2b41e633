"""Whether something else runs on the cores that measure.

The measuring host spins on each core in turn and looks at the clock all the time: where two looks
are far apart, the core did something else meanwhile. It sees every process, of other users and of
other virtual machines too, and needs no rights. What it cannot see is a neighbour in the caches or
on the other thread of a core; that shows in the drift of the reference kernel
(`tuner.measure.health`).
"""

import os
import time
from enum import StrEnum

SPIN_SECS = 0.006
"""How long one core is watched."""
CORES_AT_MOST = 8
"""So many cores are watched each time: with more, watching would take longer than timing."""
GAP_SECS = 5e-5
"""Looks that are further apart than this had something between them; an interrupt takes less."""
STOLEN_LIMIT = 0.05
"""The share of a core's time that others may take."""
WAIT_SECS = 0.5
"""How long a disturbed machine is waited for."""


class Noise(StrEnum):
    """What was seen of the machine while a candidate was timed, and what was done about it."""

    CALM = "calm"
    WAITED = "waited"
    """It was disturbed before; timing waited until it was calm."""
    REPEATED = "repeated"
    """It was disturbed meanwhile; what counts was timed again when it was calm."""
    DISTURBED = "disturbed"
    """It did not become calm in time: the run times may be too long."""


def stolen_share() -> float:
    """Return the largest share of its time that one of this process's cores gave to others.

    The process is moved from core to core, and may run on all of its cores again afterwards.
    """
    cores = os.sched_getaffinity(0)
    try:
        return max(_stolen_from(core) for core in sorted(cores)[:CORES_AT_MOST])
    finally:
        os.sched_setaffinity(0, cores)


def settle() -> Noise:
    """Wait until the machine is calm, for a while; return `Noise.CALM` if it is so at once."""
    if stolen_share() <= STOLEN_LIMIT:
        return Noise.CALM
    deadline = time.monotonic() + WAIT_SECS
    while time.monotonic() < deadline:
        time.sleep(SPIN_SECS)
        if stolen_share() <= STOLEN_LIMIT:
            return Noise.WAITED
    return Noise.DISTURBED


def _stolen_from(core: int) -> float:
    os.sched_setaffinity(0, {core})
    stolen_secs = 0.0
    started = last = time.perf_counter()
    while last - started < SPIN_SECS:
        now = time.perf_counter()
        if now - last > GAP_SECS:
            stolen_secs += now - last
        last = now
    return stolen_secs / (last - started)
