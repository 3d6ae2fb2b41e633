"""Sets of CPU cores, in the notation of ``taskset`` and of systemd: ``0-3,8``."""

import contextlib
import os
import threading
from collections.abc import Collection, Iterator
from pathlib import Path

from schedules.errors import InputError

_LARGEST_CORE = 2**16


def parse_cores(text: str) -> frozenset[int]:
    """Read a list of core numbers and ranges.

    Raises
    ------
    InputError
        It is empty or not such a list.
    """
    cores: set[int] = set()
    for part in text.split(","):
        first, dash, last = part.strip().partition("-")
        if not (first.isdecimal() and (last.isdecimal() if dash else True)):
            raise InputError(f"{text!r} is not a list of cores; write it like 0-3,8")
        start, end = int(first), int(last or first)
        if start > end:
            raise InputError(f"the range {part.strip()!r} of cores ends before it begins")
        if end > _LARGEST_CORE:
            raise InputError(f"there is no core {end}")
        cores.update(range(start, end + 1))
    return frozenset(cores)


def format_cores(cores: Collection[int]) -> str:
    """Write core numbers as the shortest list of numbers and ranges, in order."""
    runs: list[tuple[int, int]] = []
    for core in sorted(cores):
        if runs and core == runs[-1][1] + 1:
            runs[-1] = (runs[-1][0], core)
        else:
            runs.append((core, core))
    return ",".join(str(first) if first == last else f"{first}-{last}" for first, last in runs)


@contextlib.contextmanager
def running_on(cores: Collection[int] | None) -> Iterator[None]:
    """Run the calling thread, and what it starts, on these cores meanwhile; None: as it is."""
    own = os.sched_getaffinity(0)
    if cores is not None:
        os.sched_setaffinity(0, cores)
    try:
        yield
    finally:
        os.sched_setaffinity(0, own)


@contextlib.contextmanager
def starting_threads() -> Iterator[None]:
    """Make the first parallel call of a process, which starts TVM's threads, and keep off them.

    See `leave_bound_cores`.
    """
    cores = os.sched_getaffinity(0)
    yield
    leave_bound_cores(cores)


def leave_bound_cores(cores: Collection[int]) -> None:
    """Keep the calling thread off the cores that other threads of this process are bound to.

    TVM binds the threads of its pool to a core each, but not the one that calls a kernel, which
    does its share of the work: beside one of them it may stay for good, at half the speed.

    Parameters
    ----------
    cores : collection of int
        Where this thread may run. If all of them are taken, nothing is done.
    """
    own, taken = threading.get_native_id(), set()
    for thread in (int(path.name) for path in Path("/proc/self/task").iterdir()):
        with contextlib.suppress(ProcessLookupError):
            bound = os.sched_getaffinity(thread)
            if thread != own and len(bound) == 1:
                taken |= bound
    if taken and set(cores) - taken:
        os.sched_setaffinity(own, set(cores) - taken)
