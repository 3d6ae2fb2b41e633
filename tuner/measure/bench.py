"""Measuring one batch in forked children, which build and are then timed one at a time.

Every candidate has a child of its own, which builds it and then waits; so one that crashes or hangs
costs itself only, and finals can be interleaved. Where there are cores that nothing is timed on,
trials are timed while others are built there; otherwise building and timing never overlap.
"""

import os
import time
from collections.abc import Generator, Iterable, Iterator, Sequence
from dataclasses import dataclass
from operator import attrgetter
from typing import Any

from schedules import detect, intrinsics
from schedules.records import DEFAULT_TRACE, Candidate, FailureKind, MeasureResult, Purpose
from schedules.target import Target
from tuner.measure import child, finals, timing
from tuner.measure.deadlines import Deadlines
from tuner.measure.entry import Entry
from tuner.measure.forked import ChildFailedError, ForkedChild, wait_readable
from tuner.measure.kernel import Assignment, timer_overhead_secs
from tuner.measure.protocol import MeasureBatch
from tuner.measure.race import Race, first_call
from tuner.measure.reference import reference_batch
from tuner.measure.trials import TimedCode, Trials
from tuner.measure.watch import Watch

OVERHEAD_SECS = 10.0


@dataclass(frozen=True, kw_only=True)
class Measured:
    """A result with what only the bench knows.

    Attributes
    ----------
    busy_cores : float or None
        CPU seconds per second of timing, in the repeat with the most.
    """

    place: int
    result: MeasureResult
    busy_cores: float | None


class Bench:
    """Measures batches on this machine; the process that owns it must have one thread.

    Parameters
    ----------
    builders : int
        How many candidates are built at once.
    deadlines : Deadlines
        For every candidate.
    interrupt : int or None
        See `tuner.measure.forked.ForkedChild`.
    device : str
        Where ``cuda`` targets run, as in ``cuda:0``.
    build_cores : frozenset of int or None
        Cores to build trials on while others are timed; None builds a batch before it is timed.
    """

    def __init__(
        self,
        *,
        builders: int,
        deadlines: Deadlines,
        interrupt: int | None = None,
        device: str = "cpu",
        build_cores: frozenset[int] | None = None,
    ) -> None:
        self._device = device
        self._build_cores = build_cores
        self._builders = builders
        self._deadlines = deadlines
        self._interrupt = interrupt
        self._timed = TimedCode()
        self._watch = Watch(os.sched_getaffinity(0) if device == "cpu" else ())
        self._overhead_nanosecs: int | None = None

    def measure(self, batch: MeasureBatch, seed: int) -> Generator[Measured, None, None]:
        """Yield every candidate's result as it comes; see `tuner.measure.protocol.Measurer`."""
        for candidate in batch.candidates:
            # Once for all children.
            intrinsics.register_named(candidate.trace)
        entries: list[Entry] = []
        try:
            with self._watch.open():
                yield from self._measure(batch, entries, seed)
        finally:
            for entry in entries:
                entry.child.close()

    def _measure(
        self, batch: MeasureBatch, entries: list[Entry], seed: int
    ) -> Generator[Measured, None, None]:
        built = self._built(batch, entries)
        if batch.purpose is Purpose.TRIAL:
            yield from self._run_trials(batch, built)
        else:
            yield from self._run_finals(batch, built, seed)

    def _run_trials(self, batch: MeasureBatch, built: Iterator[Entry]) -> Iterator[Measured]:
        beside = self._build_cores is not None
        trials = Trials(
            batch,
            self._watch,
            deadlines=self._deadlines,
            timed=self._timed,
            conditions=self._timer_conditions(batch) | ({"builds": "beside"} if beside else {}),
            as_built=beside,
        )
        # On the cores that are timed, nothing may be built meanwhile.
        ready = built if beside else sorted(built, key=attrgetter("place"))
        for entry, result in trials.run(ready):
            yield Measured(place=entry.place, result=result, busy_cores=entry.busy_cores)

    def reference(self, target: Target) -> MeasureResult:
        """Build and run the reference kernel, in the same way as candidates."""
        batch = reference_batch(target)
        entry = self._entry(batch, 0, batch.candidates[0])
        try:
            entry.take_build(time.monotonic() + self._deadlines.build_secs)
            with self._watch.open():
                self._run_reference(entry)
        finally:
            entry.child.close()
        return entry.result()

    def _run_reference(self, entry: Entry) -> None:
        """Time until there are repeats enough of a calm machine, or patience has ended."""
        deadline_secs = self._deadlines.run_secs
        race = Race(
            self._watch,
            patience_secs=timing.REFERENCE_PATIENCE_SECS,
            wanted=timing.reference_round,
        )
        first = None if entry.failure else first_call(entry, deadline_secs)
        if first is None:
            return
        race.add(entry, first["first_secs"], timing.REFERENCE_REPEAT_SECS, deadline_secs)
        while race.round():
            pass
        race.leave()
        # There are more where patience ended: then all count that were timed.
        entry.run_secs = entry.run_secs[timing.REFERENCE_WARM_UP : timing.REFERENCE_REPEATS]

    def _measured(self, entry: Entry) -> Measured:
        return Measured(place=entry.place, result=entry.result(), busy_cores=entry.busy_cores)

    # --- builds ----------------------------------------------------------------------------------

    def _built(self, batch: MeasureBatch, entries: list[Entry]) -> Iterator[Entry]:
        """Build all candidates, `builders` at a time; yield each when it is built or has failed."""
        pending = list(enumerate(batch.candidates))
        building: dict[int, float] = {}
        finished_secs: list[float] = []

        def start_more() -> None:
            finished = _readable(entries[place] for place in building)
            free = self._builders - len(building) + len(finished)
            for place, candidate in pending[:free]:
                entries.append(self._entry(batch, place, candidate))
                building[place] = time.monotonic()
            del pending[:free]

        start_more()
        while building:
            allowed_secs = self._deadlines.of_build(finished_secs)
            entry = entries[self._next_built(entries, building, allowed_secs)]
            entry.take_build(building.pop(entry.place) + allowed_secs)
            if entry.build_secs is not None:
                finished_secs.append(entry.build_secs)
            # Where this one is timed at once, they are built meanwhile.
            start_more()
            yield entry

    @staticmethod
    def _next_built(
        entries: Sequence[Entry], building: dict[int, float], allowed_secs: float
    ) -> int:
        """Wait until one of the builds has ended or is overdue, and return its place."""
        oldest = min(building, key=lambda place: building[place])
        left_secs = building[oldest] + allowed_secs - time.monotonic()
        ready = _readable((entries[place] for place in building), left_secs)
        return next((entry.place for entry in ready), oldest)

    def _entry(self, batch: MeasureBatch, place: int, candidate: Candidate) -> Entry:
        return Entry(place, candidate, self._fork(batch, batch.target, candidate.trace))

    def _fork(self, batch: MeasureBatch, target: Target, trace: str) -> ForkedChild:
        assignment = Assignment(
            workload=batch.workload,
            target=target,
            trace=trace,
            threads=target.cores,
            device=self._device,
            build_cores=self._build_cores,
        )
        wall_secs = self._deadlines.build_secs + 3 * self._deadlines.final_run_secs
        cpu_secs = int(wall_secs * target.cores)

        def body(commands: Any, answers: Any) -> None:
            child.confine(
                cpu_secs=cpu_secs,
                extra_bytes=8 * batch.workload.size_bytes,
                may_raise=target.kind == "cuda",
            )
            child.serve(assignment, commands, answers)

        return ForkedChild(body, interrupt=self._interrupt)

    # --- finals ----------------------------------------------------------------------------------

    def _run_finals(
        self, batch: MeasureBatch, built: Iterator[Entry], seed: int
    ) -> Iterator[Measured]:
        entries: list[Entry] = []
        for entry in built:
            if entry.failure is not None:
                yield self._measured(entry)
            else:
                entries.append(entry)
        deadline_secs = self._deadlines.final_run_secs
        writer = Entry(-1, batch.candidates[0], self._fork_writer(batch))
        try:
            writer.take_build(time.monotonic() + self._deadlines.build_secs)
            finals.check(entries, writer, seed, deadline_secs)
        finally:
            writer.child.close()
        passed = [entry for entry in entries if entry.failure is None]
        finals.interleave(passed, deadline_secs, self._watch, batch.incumbent_secs)
        for entry in entries:
            entry.note(self._timer_conditions(batch))
            entry.child.close()
            yield self._measured(entry)

    def _fork_writer(self, batch: MeasureBatch) -> ForkedChild:
        """Fork what computes the reference output, on a CPU in any case."""
        if batch.workload.call is None:
            # What a GPU should give is not asked of that GPU.
            target = detect.native_target() if batch.target.kind == "cuda" else batch.target
            return self._fork(batch, target, DEFAULT_TRACE)
        cpu_secs = int(self._deadlines.build_secs + self._deadlines.final_run_secs)

        def body(commands: Any, answers: Any) -> None:
            child.confine(cpu_secs=cpu_secs, extra_bytes=8 * batch.workload.size_bytes)
            child.serve_reference(batch.workload, commands, answers)

        return ForkedChild(body, interrupt=self._interrupt)

    def _timer_conditions(self, batch: MeasureBatch) -> dict[str, str | int]:
        """Say what the clock adds to a repeat; measured once, in a child of its own."""
        if batch.target.kind == "cuda":
            return {}
        if self._overhead_nanosecs is None:
            self._overhead_nanosecs = self._measure_overhead()
        return {"timer_overhead_nanosecs": self._overhead_nanosecs}

    def _measure_overhead(self) -> int:
        def body(commands: Any, answers: Any) -> None:
            child.confine(cpu_secs=int(OVERHEAD_SECS))
            child.answer(answers, {"overhead_secs": timer_overhead_secs()})

        forked = ForkedChild(body, interrupt=self._interrupt)
        try:
            kinds = (FailureKind.RUN_ERROR, FailureKind.RUN_TIMEOUT)
            told = forked.answer(time.monotonic() + OVERHEAD_SECS, kinds)
        except ChildFailedError:
            return 0
        finally:
            forked.close()
        return round(float(told["overhead_secs"]) * 1e9)


def _readable(entries: Iterable[Entry], wait_secs: float = 0.0) -> list[Entry]:
    """Return those whose child has said something or ended, after waiting for the first."""
    waiting = list(entries)
    ready = wait_readable([entry.child.fileno for entry in waiting], wait_secs)
    return [entry for entry in waiting if entry.child.fileno in ready]
