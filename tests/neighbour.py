"""A process that takes a core from whoever else wants it."""

import multiprocessing
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def busy_neighbour(core: int, *, busy_secs: float = 1.0, idle_secs: float = 0.0) -> Iterator[None]:
    """Keep a core busy while the context lasts, for some time and then not for some time."""
    process = multiprocessing.get_context("fork").Process(
        target=_load, args=(core, busy_secs, idle_secs), daemon=True
    )
    process.start()
    try:
        yield
    finally:
        process.kill()
        process.join()


def _load(core: int, busy_secs: float, idle_secs: float) -> None:
    os.sched_setaffinity(0, {core})
    while True:
        until = time.perf_counter() + busy_secs
        while time.perf_counter() < until:
            pass
        time.sleep(idle_secs)
