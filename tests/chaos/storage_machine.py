"""Random steps of a fleet on one store, thousands of times; see `tests.contracts.fleet_machine`."""

import multiprocessing
import os
import tempfile
import traceback
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from pathlib import Path

from service.db.engine import Database
from service.db.migrate import upgrade
from tests.chaos.fault import Fault, Outcome
from tests.contracts.fleet_machine import run_fleets
from tests.contracts.fleet_model import StoppedClock

STEPS = 50
_RUNS_AT_ONCE = 250
"""Hypothesis remembers all that it tried: many small sets of runs take less memory than a large."""


def run_random_steps(count: int, folder: Path) -> Outcome:
    """Run so many fleets, as many at once as there are cores."""
    parts = [(first, min(_RUNS_AT_ONCE, count - first)) for first in range(0, count, _RUNS_AT_ONCE)]
    processes = min(len(parts), os.cpu_count() or 1)
    spawn = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(processes, mp_context=spawn) as pool:
        problems = [found for found in pool.map(_run, *zip(*parts, strict=True)) if found]
    return Outcome(
        faults=count,
        orphaned=len(problems),
        notes="; ".join([f"{STEPS} steps each", *problems[:1]]),
    )


def _run(first: int, runs: int) -> str:
    """Run fleets on a database of their own and return what did not hold, in words."""
    with _in_memory() as folder:
        url = f"sqlite:///{folder}/fleet.db"
        upgrade(url)
        database = Database(url)
        clock = StoppedClock(database)
        try:
            run_fleets(database, clock, runs=runs, steps=STEPS, start=first)
        except Exception as error:
            return "".join(traceback.format_exception(error))[-4000:]
        finally:
            database.close()
    return ""


@contextmanager
def _in_memory() -> Iterator[str]:
    """Make a directory whose files need no disk, where there is such a place."""
    place = "/dev/shm" if os.access("/dev/shm", os.W_OK) else None
    with tempfile.TemporaryDirectory(prefix="fleet-", dir=place) as folder:
        yield folder


FAULTS = (
    Fault(
        name=f"random sequences of {STEPS} steps of a fleet",
        run=run_random_steps,
        full=10_000,
        shrunk=5,
        databases=("sqlite",),
        full_secs=1200,
    ),
)
