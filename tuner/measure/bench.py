"""Measuring one batch in forked children: builds on all cores, then timing alone.

Building and timing never overlap. Every candidate has a child of its own, which builds it and then
waits; so one that crashes or hangs costs itself only, and finals can be interleaved.
"""

import tempfile
import time
from collections.abc import Generator, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from schedules import detect, intrinsics
from schedules.records import (
    DEFAULT_TRACE,
    Candidate,
    Failure,
    FailureKind,
    MeasureResult,
    Purpose,
    Verification,
)
from schedules.target import Target
from tuner.measure import child, timing
from tuner.measure.forked import ChildFailedError, ForkedChild, wait_readable
from tuner.measure.protocol import MeasureBatch
from tuner.measure.reference import reference_batch

BUILD_KINDS = (FailureKind.BUILD_ERROR, FailureKind.BUILD_TIMEOUT)
RUN_KINDS = (FailureKind.RUN_ERROR, FailureKind.RUN_TIMEOUT)


@dataclass(frozen=True, kw_only=True)
class Deadlines:
    """How long a candidate may take.

    Attributes
    ----------
    build_secs : float
        For replay and code generation.
    run_secs : float
        For one command of a trial.
    final_run_secs : float
        For one command of a final; the compiler's default may be very slow.
    """

    build_secs: float = 20.0
    run_secs: float = 10.0
    final_run_secs: float = 120.0


@dataclass
class _Entry:
    """A candidate on its way through a batch."""

    place: int
    candidate: Candidate
    child: ForkedChild
    build_secs: float | None = None
    run_secs: tuple[float, ...] = ()
    busy_cores: float | None = None
    failure: Failure | None = None
    verification: Verification | None = None
    conditions: Mapping[str, str | int] = field(default_factory=dict)

    def result(self) -> MeasureResult:
        return MeasureResult(
            run_secs=self.run_secs if self.failure is None else (),
            failure=self.failure,
            build_secs=self.build_secs,
            verification=self.verification,
            conditions=self.conditions,
        )


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
    """

    def __init__(
        self,
        *,
        builders: int,
        deadlines: Deadlines,
        interrupt: int | None = None,
        device: str = "cpu",
    ) -> None:
        self._device = device
        self._builders = builders
        self._deadlines = deadlines
        self._interrupt = interrupt

    def measure(self, batch: MeasureBatch, seed: int) -> Generator[Measured, None, None]:
        """Yield every candidate's result as it comes; see `tuner.measure.protocol.Measurer`."""
        for candidate in batch.candidates:
            # Once for all children.
            intrinsics.register_named(candidate.trace)
        entries: list[_Entry] = []
        try:
            for entry in self._built(batch, entries):
                yield self._measured(entry)
            waiting = [entry for entry in entries if entry.failure is None]
            if batch.purpose is Purpose.TRIAL:
                for entry in waiting:
                    self._run_trial(entry, batch.incumbent_secs)
                    entry.child.close()
                    yield self._measured(entry)
            else:
                yield from self._run_finals(batch, waiting, seed)
        finally:
            for entry in entries:
                entry.child.close()

    def reference(self, target: Target) -> MeasureResult:
        """Build and run the reference kernel, in the same way as candidates."""
        batch = reference_batch(target)
        entry = _Entry(0, batch.candidates[0], self._fork(batch, target, batch.candidates[0].trace))
        try:
            deadline = time.monotonic() + self._deadlines.build_secs
            entry.build_secs = entry.child.answer(deadline, BUILD_KINDS)["built_secs"]
            first_secs = self._order(entry, self._deadlines.run_secs, order="first")["first_secs"]
            plan = timing.reference_plan(first_secs)
            self._time(entry, plan.calls, plan.repeats, self._deadlines.run_secs)
            entry.run_secs = entry.run_secs[timing.REFERENCE_WARM_UP :]
        except ChildFailedError as failed:
            entry.failure = failed.failure
        finally:
            entry.child.close()
        return entry.result()

    @staticmethod
    def _measured(entry: _Entry) -> Measured:
        return Measured(place=entry.place, result=entry.result(), busy_cores=entry.busy_cores)

    def _built(self, batch: MeasureBatch, entries: list[_Entry]) -> Iterator[_Entry]:
        """Build all candidates, `builders` at a time; yield those that failed."""
        pending = list(enumerate(batch.candidates))
        building: list[tuple[_Entry, float]] = []
        while pending or building:
            while pending and len(building) < self._builders:
                place, candidate = pending.pop(0)
                entry = _Entry(place, candidate, self._fork(batch, batch.target, candidate.trace))
                entries.append(entry)
                building.append((entry, time.monotonic() + self._deadlines.build_secs))
            entry, deadline = self._next_built(building)
            building = [item for item in building if item[0] is not entry]
            try:
                entry.build_secs = entry.child.answer(deadline, BUILD_KINDS)["built_secs"]
            except ChildFailedError as failed:
                entry.failure = failed.failure
                yield entry

    @staticmethod
    def _next_built(building: list[tuple[_Entry, float]]) -> tuple[_Entry, float]:
        """Wait until one of the builds has ended or is overdue."""
        first_deadline = min(deadline for _, deadline in building)
        left_secs = max(0.0, first_deadline - time.monotonic())
        waited_on = [entry.child.fileno for entry, _ in building]
        ready = wait_readable(waited_on, left_secs)
        for entry, deadline in building:
            if entry.child.fileno in ready:
                return entry, deadline
        return min(building, key=lambda item: item[1])

    def _fork(self, batch: MeasureBatch, target: Target, trace: str) -> ForkedChild:
        assignment = child.Assignment(
            workload=batch.workload,
            target=target,
            trace=trace,
            threads=target.cores,
            device=self._device,
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

    def _run_trial(self, entry: _Entry, incumbent_secs: float | None) -> None:
        try:
            first_secs = self._order(entry, self._deadlines.run_secs, order="first")["first_secs"]
            plan = timing.trial_plan(first_secs, incumbent_secs)
            self._time(entry, plan.calls, plan.repeats, self._deadlines.run_secs)
        except ChildFailedError as failed:
            entry.failure = failed.failure

    def _run_finals(
        self, batch: MeasureBatch, entries: list[_Entry], seed: int
    ) -> Iterator[Measured]:
        with tempfile.TemporaryDirectory(prefix="tunesmith-") as directory:
            reference = Path(directory) / "reference.npz"
            source = self._write_reference(batch, reference, seed)
            for entry in entries:
                self._check(entry, seed, reference, source)
        self._interleave([entry for entry in entries if entry.failure is None])
        for entry in entries:
            entry.child.close()
            yield self._measured(entry)

    def _write_reference(self, batch: MeasureBatch, reference: Path, seed: int) -> str | Failure:
        # On a CPU in any case: what a GPU should give is not asked of that GPU.
        target = detect.native_target() if batch.target.kind == "cuda" else batch.target
        writer = _Entry(-1, batch.candidates[0], self._fork(batch, target, DEFAULT_TRACE))
        try:
            writer.child.answer(time.monotonic() + self._deadlines.build_secs, BUILD_KINDS)
            answer = self._order(
                writer,
                self._deadlines.final_run_secs,
                order="reference",
                seed=seed,
                reference=str(reference),
            )
        except ChildFailedError as failed:
            return failed.failure
        finally:
            writer.child.close()
        return str(answer["source"])

    def _check(self, entry: _Entry, seed: int, reference: Path, source: str | Failure) -> None:
        if isinstance(source, Failure):
            entry.failure = Failure(
                kind=FailureKind.RUN_ERROR,
                detail=f"the reference output could not be computed: {source.detail}",
            )
            return
        try:
            answer = self._order(
                entry,
                self._deadlines.final_run_secs,
                order="check",
                seed=seed,
                reference=str(reference),
                source=source,
            )
        except ChildFailedError as failed:
            entry.failure = failed.failure
            return
        entry.verification = Verification(**answer)
        if not entry.verification.passed:
            entry.failure = Failure(
                kind=FailureKind.WRONG_OUTPUT,
                detail=f"error {entry.verification.error:.3g} is over the tolerance "
                f"{entry.verification.tolerance:.3g} against {entry.verification.reference}",
            )

    def _interleave(self, entries: list[_Entry]) -> None:
        plans = {}
        for entry in entries:
            try:
                answer = self._order(entry, self._deadlines.final_run_secs, order="first")
                plans[entry.place] = timing.final_plan(answer["first_secs"])
            except ChildFailedError as failed:
                entry.failure = failed.failure
        for round_number in range(timing.FINAL_ROUNDS):
            for entry in entries:
                plan = plans.get(entry.place)
                if entry.failure is not None or plan is None or round_number >= plan.repeats:
                    continue
                try:
                    self._time(entry, plan.calls, 1, self._deadlines.final_run_secs)
                except ChildFailedError as failed:
                    entry.failure = failed.failure

    def _time(self, entry: _Entry, calls: int, repeats: int, deadline_secs: float) -> None:
        answer = self._order(entry, deadline_secs, order="time", calls=calls, repeats=repeats)
        entry.run_secs += tuple(answer["run_secs"])
        entry.conditions = {**entry.conditions, **answer["conditions"]}
        entry.busy_cores = max(entry.busy_cores or 0.0, answer["busy_cores"])

    @staticmethod
    def _order(entry: _Entry, deadline_secs: float, **message: Any) -> dict[str, Any]:
        entry.child.command(message)
        return entry.child.answer(time.monotonic() + deadline_secs, RUN_KINDS)
