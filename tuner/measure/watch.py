"""Whether something else runs on the cores that measure, or beside them.

A process on each core does the same short work over and over for a few milliseconds
(`tuner.measure.burst`), all of them at the same time. A burst that takes far longer than the others
had something between, a process of anybody or another virtual machine. Where all of them take
longer than they did of late, the core was slower: somebody is busy on its other thread, or a
hypervisor has put two virtual cores on the two threads of one, which is to be seen nowhere else. It
needs no rights. What it cannot see is what others do to the caches that cores share; that shows in
the drift of the reference kernel (`tuner.measure.health`).

A core's best speed is one that it reached in a tenth of the last minute's looks: a neighbour may be
there most of the time, what can be waited for is less rare than that, and a clock that goes down
for good, as when the machine gets warm, is forgotten after a minute. Where the cores are seldom at
their best all at once, the tenth of the looks in which they came nearest to it are calm.
"""

import os
import time
from bisect import bisect_left, insort
from collections import deque
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from math import inf
from statistics import median
from typing import BinaryIO

from schedules.records import FailureKind
from tuner.measure import child
from tuner.measure.burst import make_burst
from tuner.measure.forked import ChildFailedError, ForkedChild

LOOK_SECS = 0.002
"""How long the cores are watched."""
CORES_AT_MOST = 8
"""So many cores are watched."""
GAP = 4.0
"""A burst that takes so many times as long as the others had something between."""
STOLEN_LIMIT = 0.05
"""The share of a core's time that others may take."""
SLOW_LIMIT = 1.02
"""A core whose bursts take so many times as long as at its best is no measure of a kernel, except
where all cores are seldom that fast at once."""
BEST_SHARE = 0.1
"""In this share of the looks a core was at its best."""
MEMORY_SECS = 60.0
"""So long looks are remembered, not counting the time in which nobody looked."""
PAUSE_SECS = 1.0
"""Looks that are further apart than this are so far apart for that memory."""
ANSWER_SECS = 10.0
CPU_SECS = 3600
_KINDS = (FailureKind.RUN_ERROR, FailureKind.RUN_TIMEOUT)


@dataclass(frozen=True, kw_only=True)
class Look:
    """What was seen of the cores at one time.

    Attributes
    ----------
    stolen : float
        The largest share of its time that one of them gave to others.
    burst_secs : Mapping[int, float]
        What the same work took on each.
    """

    stolen: float
    burst_secs: Mapping[int, float]


class Watch:
    """Looks at cores; remembers how fast each is.

    Parameters
    ----------
    cores : collection of int
        Which; the first `CORES_AT_MOST` are watched, and of no cores all are calm.
    """

    def __init__(self, cores: Collection[int]) -> None:
        self._cores = sorted(cores)[:CORES_AT_MOST]
        self._speeds = Speeds()
        self._watchers: dict[int, ForkedChild] = {}

    @property
    def pids(self) -> set[int]:
        """The processes that watch."""
        return {watcher.pid for watcher in self._watchers.values()}

    @contextmanager
    def open(self) -> Iterator[None]:
        """Keep the processes that watch while the context lasts; it must have one thread."""
        try:
            for core in self._cores:
                self._watchers[core] = _watcher(core)
            yield
        finally:
            for watcher in self._watchers.values():
                watcher.close()
            self._watchers.clear()

    def look(self) -> Look:
        """Look at all cores at once; only within `open`, and while nothing is timed."""
        for watcher in self._watchers.values():
            watcher.command({})
        deadline = time.monotonic() + ANSWER_SECS
        burst_secs, stolen = {}, [0.0]
        for core, watcher in self._watchers.items():
            try:
                answer = watcher.answer(deadline, _KINDS)
            except ChildFailedError:
                # It had no turn for so long: somebody else has the core for himself.
                watcher.close()
                self._watchers[core] = _watcher(core)
                answer = {"burst_secs": ANSWER_SECS, "stolen": 1.0}
            burst_secs[core] = answer["burst_secs"]
            stolen.append(answer["stolen"])
        self._speeds.note(burst_secs, time.monotonic())
        return Look(stolen=max(stolen), burst_secs=burst_secs)

    def is_calm(self, look: Look) -> bool:
        """Whether nobody else was there, by what is known now of the cores' speed."""
        slow = self._speeds.slowness(look.burst_secs) > self._speeds.slow_limit
        return look.stolen <= STOLEN_LIMIT and not slow


class Speeds:
    """What bursts took of late."""

    def __init__(self) -> None:
        self._clock_secs = 0.0
        self._noted_at: float | None = None
        self._seen: deque[tuple[float, Mapping[int, float], float]] = deque()
        self._secs: dict[int, list[float]] = {}
        self._slowness: list[float] = []

    def note(self, burst_secs: Mapping[int, float], now: float) -> None:
        """Remember what was seen at a time of the monotonic clock."""
        if self._noted_at is not None:
            self._clock_secs += min(now - self._noted_at, PAUSE_SECS)
        self._noted_at = now
        for core, secs in burst_secs.items():
            insort(self._secs.setdefault(core, []), secs)
        slowness = self.slowness(burst_secs)
        insort(self._slowness, slowness)
        self._seen.append((self._clock_secs, burst_secs, slowness))
        while self._seen[0][0] < self._clock_secs - MEMORY_SECS:
            self._forget(*self._seen.popleft()[1:])

    def best_secs(self, core: int) -> float:
        """Return what bursts took when the core was at its best; infinite before any look."""
        return _tenth(self._secs.get(core, ()))

    def slowness(self, burst_secs: Mapping[int, float]) -> float:
        """Return how many times its best the slowest core takes; 0 of no cores."""
        return max((secs / self.best_secs(core) for core, secs in burst_secs.items()), default=0.0)

    @property
    def slow_limit(self) -> float:
        """The slowness up to which the cores, all together, are at their best."""
        return max(SLOW_LIMIT, _tenth(self._slowness))

    def _forget(self, burst_secs: Mapping[int, float], slowness: float) -> None:
        for core, secs in burst_secs.items():
            _drop(self._secs[core], secs)
        _drop(self._slowness, slowness)


def _tenth(ordered: Sequence[float]) -> float:
    return ordered[int(BEST_SHARE * len(ordered))] if ordered else inf


def _drop(ordered: list[float], value: float) -> None:
    del ordered[bisect_left(ordered, value)]


def _watcher(core: int) -> ForkedChild:
    # Built here, once for all children.
    burst = make_burst()

    def body(commands: BinaryIO, answers: BinaryIO) -> None:
        child.confine(cpu_secs=CPU_SECS)
        os.sched_setaffinity(0, {core})
        for _ in commands:
            child.answer(answers, _watch(burst))

    return ForkedChild(body)


def _watch(burst: Callable[[], None]) -> dict[str, float]:
    bursts_secs = []
    started = last = time.perf_counter()
    while last - started < LOOK_SECS:
        burst()
        now = time.perf_counter()
        bursts_secs.append(now - last)
        last = now
    usual_secs = median(bursts_secs)
    stolen_secs = sum(secs for secs in bursts_secs if secs > GAP * usual_secs)
    return {"burst_secs": usual_secs, "stolen": stolen_secs / (last - started)}
