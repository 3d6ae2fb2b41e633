"""The tuning loop: ask, build, run, tell; then finals; then publish.

A service runs the same steps spread over processes: see `service.orchestrator`.
"""

import time
import uuid
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime

from schedules.records import (
    Best,
    Candidate,
    Environment,
    FailureKind,
    MeasureResult,
    Purpose,
    TuningRecord,
)
from schedules.target import Target
from schedules.workload import Workload
from tuner.measure.protocol import MeasureBatch, Measurer
from tuner.publish import choose_best, select_finalists
from tuner.search.protocol import SearchStrategy, Trial
from tuner.store import RecordStore

BATCH_SIZE = 16


@dataclass(frozen=True, kw_only=True)
class Budget:
    """When a search stops: at the first bound that is reached.

    Attributes
    ----------
    trials : int or None
        Trials of this session.
    seconds : float or None
        Wall-clock from the session's start; finals come on top.
    """

    trials: int | None = 64
    seconds: float | None = None


@dataclass(frozen=True, kw_only=True)
class Progress:
    """Where a session stands.

    Attributes
    ----------
    phase : str
        ``search``, ``final`` or ``done``.
    best_secs : float or None
        Fastest trial so far; not re-measured.
    """

    phase: str
    trials_done: int
    trials_budget: int | None
    best_secs: float | None
    failures: Mapping[FailureKind, int] = field(default_factory=dict)


class Session:
    """Tunes one workload on the measurer's device.

    Parameters
    ----------
    strategy : SearchStrategy
        Fresh; it is told the store's earlier trials first.
    measurer : Measurer
        Free until the session ends.
    environment : Environment
        Of the measurer's device.
    store : RecordStore
        Gets every record as soon as it is there.
    on_progress : callable or None
        Called after every trial.
    """

    def __init__(
        self,
        *,
        workload: Workload,
        target: Target,
        strategy: SearchStrategy,
        measurer: Measurer,
        environment: Environment,
        store: RecordStore,
        budget: Budget,
        on_progress: Callable[[Progress], None] | None = None,
    ) -> None:
        self._workload = workload
        self._target = target
        self._strategy = strategy
        self._measurer = measurer
        self._environment = environment
        self._store = store
        self._budget = budget
        self._on_progress = on_progress or (lambda progress: None)
        self._trials_done = 0
        self._failures: Counter[FailureKind] = Counter()
        self._best_secs: float | None = None
        self._started = time.monotonic()

    def run(self) -> Best | None:
        """Search within the budget, re-measure the finalists, publish.

        Returns
        -------
        Best or None
            What is published now; None if not even the compiler's default passed its check.
        """
        self._resume()
        while (count := self._affordable()) > 0:
            candidates = self._strategy.ask(count)
            if not candidates:
                break
            trials = self._measure_trials(candidates)
            self._strategy.tell(trials)
        return self._publish()

    def _resume(self) -> None:
        known = self._store.trials(self._workload.workload_id, self._target.target_id)
        for record in known:
            self._note_latency(record.result)
        self._strategy.tell(
            [Trial(candidate=record.candidate, result=record.result) for record in known]
        )

    def _affordable(self) -> int:
        seconds, trials = self._budget.seconds, self._budget.trials
        if seconds is not None and time.monotonic() - self._started >= seconds:
            return 0
        return BATCH_SIZE if trials is None else min(BATCH_SIZE, trials - self._trials_done)

    def _measure_trials(self, candidates: list[Candidate]) -> list[Trial]:
        trials = []
        for record in self._measured(candidates, Purpose.TRIAL):
            self._trials_done += 1
            self._note_latency(record.result)
            if record.result.failure is not None:
                self._failures[record.result.failure.kind] += 1
            trials.append(Trial(candidate=record.candidate, result=record.result))
            self._tell_progress("search")
        return trials

    def _publish(self) -> Best | None:
        self._tell_progress("final")
        identity = (self._workload.workload_id, self._target.target_id)
        stored, trials = self._store.best(*identity), self._store.trials(*identity)
        finalists = select_finalists(trials, stored)
        best = choose_best(list(self._measured(finalists, Purpose.FINAL)), trials)
        published = stored if best is None else self._store.publish(best)
        self._tell_progress("done")
        return published

    def _measured(self, candidates: list[Candidate], purpose: Purpose) -> Iterator[TuningRecord]:
        """Measure candidates; every record is stored before it is yielded."""
        batch = MeasureBatch(
            workload=self._workload,
            target=self._target,
            candidates=tuple(candidates),
            purpose=purpose,
            incumbent_secs=self._best_secs,
        )
        for place, result in self._measurer.measure(batch):
            record = self._record(candidates[place], purpose, result)
            self._store.add(self._workload, self._target, [record])
            yield record

    def _record(
        self, candidate: Candidate, purpose: Purpose, result: MeasureResult
    ) -> TuningRecord:
        return TuningRecord(
            record_id=uuid.uuid4().hex,
            workload_id=self._workload.workload_id,
            target_id=self._target.target_id,
            candidate=candidate,
            purpose=purpose,
            result=result,
            environment=self._environment.under(result.conditions),
            created_at=datetime.now(UTC),
        )

    def _note_latency(self, result: MeasureResult) -> None:
        if result.latency_secs is not None:
            self._best_secs = min(result.latency_secs, self._best_secs or result.latency_secs)

    def _tell_progress(self, phase: str) -> None:
        self._on_progress(
            Progress(
                phase=phase,
                trials_done=self._trials_done,
                trials_budget=self._budget.trials,
                best_secs=self._best_secs,
                failures=dict(self._failures),
            )
        )
