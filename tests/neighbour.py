"""A process that takes a core from whoever else wants it."""

import multiprocessing
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def busy_neighbour(core: int) -> Iterator[None]:
    """Keep a core busy while the context lasts."""
    process = multiprocessing.get_context("fork").Process(target=_spin, args=(core,), daemon=True)
    process.start()
    try:
        yield
    finally:
        process.kill()
        process.join()


def _spin(core: int) -> None:
    os.sched_setaffinity(0, {core})
    while True:
        time.time()
