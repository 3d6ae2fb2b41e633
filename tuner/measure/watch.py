"""Whether something else runs on the cores that measure, or beside them.

A process on each core counts how often it can look at the clock in a few milliseconds, all of them
at the same time. Where two looks are far apart, the core did something else meanwhile, for a
process of anybody or for another virtual machine. Where there are fewer looks than this core
usually manages, it was slower: somebody runs on its other thread, or a hypervisor has put two
virtual cores on the two threads of one, which halves the speed of both and is to be seen nowhere
else. It needs no rights. What it cannot see is a neighbour in the caches; that shows in the drift
of the reference kernel (`tuner.measure.health`).

Usual is the median of the last minute of looking, and not the best that was ever seen: a core has
luck now and then, and its clock goes down for good when the machine gets warm.
"""

import os
import time
from collections import deque
from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from statistics import median
from typing import BinaryIO

from schedules.records import FailureKind
from tuner.measure import child
from tuner.measure.forked import ChildFailedError, ForkedChild
from tuner.measure.noise import Noise

SPIN_SECS = 0.006
"""How long the cores are watched."""
CORES_AT_MOST = 8
"""So many cores are watched."""
GAP_SECS = 5e-5
"""Looks that are further apart than this had something between them; an interrupt takes less."""
STOLEN_LIMIT = 0.05
"""The share of a core's time that others may take."""
SLOW_LIMIT = 0.85
"""A core that is slower than this share of its usual speed is no measure of a kernel."""
MEMORY_SECS = 60.0
"""So long looks are remembered, not counting the time in which nobody looked."""
PAUSE_SECS = 1.0
"""Looks that are further apart than this are so far apart for that memory."""
WAIT_SECS = 0.5
"""How long a disturbed machine is waited for."""
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
    spins : Mapping[int, int]
        How often each looked at the clock.
    """

    stolen: float
    spins: Mapping[int, int]


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
        self._spinners: dict[int, ForkedChild] = {}

    @property
    def pids(self) -> set[int]:
        """The processes that watch."""
        return {spinner.pid for spinner in self._spinners.values()}

    @contextmanager
    def open(self) -> Iterator[None]:
        """Keep the processes that watch while the context lasts; it must have one thread."""
        try:
            for core in self._cores:
                self._spinners[core] = _spinner(core)
            yield
        finally:
            for spinner in self._spinners.values():
                spinner.close()
            self._spinners.clear()

    def look(self) -> Look:
        """Look at all cores at once; only within `open`, and while nothing is timed."""
        for spinner in self._spinners.values():
            spinner.command({})
        deadline = time.monotonic() + ANSWER_SECS
        spins, stolen = {}, [0.0]
        for core, spinner in self._spinners.items():
            try:
                answer = spinner.answer(deadline, _KINDS)
            except ChildFailedError:
                # It had no turn for so long: somebody else has the core for himself.
                spinner.close()
                self._spinners[core] = _spinner(core)
                answer = {"spins": 1, "stolen": 1.0}
            spins[core] = answer["spins"]
            stolen.append(answer["stolen"])
        self._speeds.note(spins, time.monotonic())
        return Look(stolen=max(stolen), spins=spins)

    def is_calm(self, look: Look) -> bool:
        """Whether nobody else was there, by what is known now of the cores' speed."""
        slow = any(
            spins < SLOW_LIMIT * self._speeds.usual(core) for core, spins in look.spins.items()
        )
        return look.stolen <= STOLEN_LIMIT and not slow

    def settle(self, patience_secs: float = WAIT_SECS) -> Noise:
        """Wait until the machine is calm, for a while; return `Noise.CALM` if it is so at once."""
        if self.is_calm(self.look()):
            return Noise.CALM
        deadline = time.monotonic() + patience_secs
        while time.monotonic() < deadline:
            time.sleep(SPIN_SECS)
            if self.is_calm(self.look()):
                return Noise.WAITED
        return Noise.DISTURBED


class Speeds:
    """How often cores looked at the clock of late."""

    def __init__(self) -> None:
        self._clock_secs = 0.0
        self._noted_at: float | None = None
        self._seen: deque[tuple[float, Mapping[int, int]]] = deque()
        self._usual: dict[int, float] = {}

    def note(self, spins: Mapping[int, int], now: float) -> None:
        """Remember what was seen at a time of the monotonic clock."""
        if self._noted_at is not None:
            self._clock_secs += min(now - self._noted_at, PAUSE_SECS)
        self._noted_at = now
        self._seen.append((self._clock_secs, spins))
        while self._seen[0][0] < self._clock_secs - MEMORY_SECS:
            self._seen.popleft()
        self._usual = {core: median(seen[core] for _, seen in self._seen) for core in spins}

    def usual(self, core: int) -> float:
        """Return the median of what is remembered of a core; 0 where nothing is."""
        return self._usual.get(core, 0.0)


def _spinner(core: int) -> ForkedChild:
    def body(commands: BinaryIO, answers: BinaryIO) -> None:
        child.confine(cpu_secs=CPU_SECS)
        os.sched_setaffinity(0, {core})
        for _ in commands:
            child.answer(answers, _spin())

    return ForkedChild(body)


def _spin() -> dict[str, float]:
    spins, stolen_secs = 0, 0.0
    started = last = time.perf_counter()
    while last - started < SPIN_SECS:
        now = time.perf_counter()
        if now - last > GAP_SECS:
            stolen_secs += now - last
        last = now
        spins += 1
    return {"spins": spins, "stolen": stolen_secs / (last - started)}
