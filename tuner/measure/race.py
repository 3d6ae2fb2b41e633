"""Racers timed in rounds, between looks at the machine.

Only the racer whose turn it is runs: the threads of TVM's pool look for more work for some tenth of
a second after a call, and would take the cores from the next one's.
"""

import time
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from math import inf
from statistics import median
from typing import Any

from tuner.measure.entry import Entry
from tuner.measure.noise import Noise
from tuner.measure.timing import calls_per_repeat, is_hopeless
from tuner.measure.watch import Look, Watch

SPAN_SECS = 0.008
"""After so much timing the machine is looked at."""
PAUSE_SECS = 0.002
"""After so much rest it is looked at again: a hypervisor leaves a core that works where it is, and
puts one that rested somewhere else."""

Wanted = Callable[[Mapping[int, Sequence[float]], Mapping[int, float]], Collection[int]]
"""Who needs another repeat, from the repeats that count and the seconds spent on them, by place."""


@dataclass(frozen=True, kw_only=True)
class _Repeat:
    """One repeat: its value, what it took, and the looks before and after its span."""

    run_secs: float
    spent_secs: float
    looks: tuple[Look, Look]


@dataclass(kw_only=True, eq=False)
class _Racer:
    entry: Entry
    calls: int
    deadline_secs: float
    repeats: list[_Repeat] = field(default_factory=list)
    noise: Noise = Noise.CALM

    @property
    def fastest_secs(self) -> float:
        """Its fastest repeat, whether it counts or not; infinite before there is one."""
        return min((each.run_secs for each in self.repeats), default=inf)


class Race:
    """Gives racers repeats, of which those count that nothing disturbed.

    Racers may come and go between rounds. What was timed between two looks of which one was not
    calm does not count; a disturbed machine is waited for. Once that has lost `patience_secs`,
    everything counts. Of those that are hopeless beside the fastest everything counts at once: they
    have lost, as neighbours make a kernel twice as slow, and a calm moment is too short for most.

    Parameters
    ----------
    watch : Watch
        Open.
    patience_secs : float
        See above.
    wanted : Wanted
        Decides whose race goes on.
    """

    def __init__(self, watch: Watch, *, patience_secs: float, wanted: Wanted) -> None:
        self._watch = watch
        self._patience_secs = patience_secs
        self._wanted = wanted
        self._racers: dict[int, _Racer] = {}
        self._last: Look | None = None
        self._looked_at = 0.0

    def __len__(self) -> int:
        return len(self._racers)

    @property
    def run_secs(self) -> dict[int, tuple[float, ...]]:
        """The repeats that count, by place."""
        return {
            place: tuple(each.run_secs for each in self._counted(racer))
            for place, racer in self._racers.items()
        }

    def add(
        self, entry: Entry, first_secs: float, repeat_secs: float, deadline_secs: float
    ) -> None:
        """Let an entry race.

        Parameters
        ----------
        entry : Entry
            Built, its child paused.
        first_secs, repeat_secs : float
            What a call takes, roughly, and what a repeat shall take at least.
        deadline_secs : float
            For a repeat.
        """
        calls = calls_per_repeat(first_secs, repeat_secs)
        self._racers[entry.place] = _Racer(entry=entry, calls=calls, deadline_secs=deadline_secs)

    def round(self) -> bool:
        """Give everyone who needs it another repeat; return whether anybody did."""
        going = self._going()
        needed = bool(going)
        while going:
            self._run_span(going)
        return needed

    def pause(self, secs: float) -> None:
        """Wait for a machine that is slow although it looks calm, while there is patience."""
        if self._patience_secs > 0:
            time.sleep(secs)
            self._lose(secs, Noise.WAITED, self._racers.values())

    def leave(self) -> list[Entry]:
        """Let those go who need no more, with what counts and how the machine was."""
        going = {racer.entry.place for racer in self._going()}
        left = [racer for place, racer in self._racers.items() if place not in going]
        for racer in left:
            counted = self._counted(racer)
            racer.entry.run_secs = tuple(each.run_secs for each in counted)
            racer.entry.note({"noise": self._noise(racer), **_core_speed(counted)})
        for racer in left:
            del self._racers[racer.entry.place]
        return [racer.entry for racer in left]

    def _going(self) -> list[_Racer]:
        racing = {
            place: self._counted(racer)
            for place, racer in self._racers.items()
            if racer.entry.failure is None
        }
        wanted = self._wanted(
            {place: [each.run_secs for each in counted] for place, counted in racing.items()},
            {place: sum(each.spent_secs for each in counted) for place, counted in racing.items()},
        )
        return [self._racers[place] for place in wanted]

    def _counted(self, racer: _Racer) -> list[_Repeat]:
        """Return the repeats that count, by what is known now of the cores."""
        if self._patience_secs <= 0 or self._has_lost(racer):
            return racer.repeats
        return [each for each in racer.repeats if self._is_calm(each)]

    def _has_lost(self, racer: _Racer) -> bool:
        """Whether a racer has lost, however the machine was while it was timed."""
        fastest_secs = min(each.fastest_secs for each in self._racers.values())
        return bool(racer.repeats) and is_hopeless(
            racer.fastest_secs, fastest_secs, waited_secs=0.0
        )

    def _is_calm(self, repeat: _Repeat) -> bool:
        return all(map(self._watch.is_calm, repeat.looks))

    def _noise(self, racer: _Racer) -> Noise:
        calm = all(map(self._is_calm, self._counted(racer)))
        return racer.noise if calm else Noise.DISTURBED

    def _run_span(self, going: list[_Racer]) -> None:
        """Run the next of those who go on, for some time, and take them off the list."""
        before = self._look() if self._has_lost(going[0]) else self._ready()
        timed: list[tuple[_Racer, float, float]] = []
        spent_secs = 0.0
        while going and spent_secs < SPAN_SECS:
            racer, started = going.pop(0), time.monotonic()
            with turn_of(racer.entry):
                racer.entry.run(racer.deadline_secs, order="repeat", calls=racer.calls)
            took_secs = time.monotonic() - started
            spent_secs += took_secs
            if racer.entry.failure is None:
                timed.append((racer, racer.entry.run_secs[-1], took_secs))
        after = self._look()
        for racer, run_secs, took_secs in timed:
            repeat = _Repeat(run_secs=run_secs, spent_secs=took_secs, looks=(before, after))
            racer.repeats.append(repeat)
        if not self._watch.is_calm(after):
            again = {racer: secs for racer, _, secs in timed if not self._has_lost(racer)}
            self._lose(sum(again.values()), Noise.REPEATED, again)

    def _ready(self) -> Look:
        """Wait for a calm machine while there is patience; return what was seen last."""
        fresh = time.monotonic() - self._looked_at < SPAN_SECS
        look = self._last if fresh and self._last is not None else self._look()
        while not self._watch.is_calm(look) and self._patience_secs > 0:
            started = time.monotonic()
            time.sleep(PAUSE_SECS)
            look = self._look()
            lost_secs = time.monotonic() - started
            self._lose(lost_secs, Noise.WAITED, list(self._racers.values()))
        return look

    def _look(self) -> Look:
        self._last, self._looked_at = self._watch.look(), time.monotonic()
        return self._last

    def _lose(self, lost_secs: float, noise: Noise, racers: Iterable[_Racer]) -> None:
        self._patience_secs -= lost_secs
        self._note(noise, racers)

    @staticmethod
    def _note(noise: Noise, racers: Iterable[_Racer]) -> None:
        for racer in racers:
            if racer.noise is not Noise.REPEATED:
                racer.noise = noise


@contextmanager
def turn_of(entry: Entry) -> Iterator[None]:
    """Let the entry's child run while the context lasts."""
    entry.child.resume()
    try:
        yield
    finally:
        entry.child.pause()


def first_call(
    entry: Entry, deadline_secs: float, incumbent_secs: float | None = None
) -> dict[str, Any] | None:
    """Let an entry warm up and return what it says of its speed; None if it fails."""
    with turn_of(entry):
        return entry.order(deadline_secs, order="first", incumbent_secs=incumbent_secs)


def _core_speed(repeats: Sequence[_Repeat]) -> dict[str, int]:
    """Return what a burst took on the slowest core while what counts was timed, as a condition.

    Latencies of one machine compare only as far as this is the same: its cores may be slower for
    minutes, by their clock or by what a hypervisor has put beside them.
    """
    looks = [look for repeat in repeats for look in repeat.looks]
    slowest = [max(look.burst_secs.values()) for look in looks if look.burst_secs]
    return {"burst_nanosecs": round(1e9 * median(slowest))} if slowest else {}
