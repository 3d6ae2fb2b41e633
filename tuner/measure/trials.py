"""Trials: candidates of one batch race against the incumbent, each until its latency is known."""

from collections import OrderedDict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace

from schedules.records import MeasureResult
from tuner.measure import timing
from tuner.measure.deadlines import Deadlines
from tuner.measure.entry import Entry
from tuner.measure.protocol import MeasureBatch
from tuner.measure.race import Race, first_call
from tuner.measure.watch import Watch

PATIENCE_SECS = 1.0
"""So much of its time a batch of trials loses to others before it puts up with them."""
TOGETHER = 8
"""So many race together where all are built: the more, the further their repeats lie apart."""
TOGETHER_BYTES = 2**29
"""Buffers of so many bytes may be there for that."""
CODES_KEPT = 4096
"""So many results are remembered by their code; a result takes about a kilobyte."""

_Code = tuple[str, str, str]


@dataclass(frozen=True, kw_only=True)
class _Timed:
    """The first candidate that compiled to some code, with its result."""

    trace_id: str
    result: MeasureResult


@dataclass(frozen=True, kw_only=True)
class _Leader:
    """A candidate that races, and those with the same code, which wait for its result."""

    trace_id: str
    twins: list[Entry] = field(default_factory=list)


class TimedCode:
    """Remembers results by the code that was timed."""

    def __init__(self) -> None:
        self._timed: OrderedDict[_Code, _Timed] = OrderedDict()

    def find(self, code: _Code, entry: Entry, incumbent_secs: float | None) -> MeasureResult | None:
        """Return the result of an earlier candidate with the same code, as this one's."""
        known = self._timed.get(code)
        # The same candidate once more is asked for on purpose.
        if known is None or known.trace_id == entry.candidate.trace_id:
            return None
        bound_secs = known.result.censored_secs
        if bound_secs is not None and not timing.is_given_up(bound_secs, incumbent_secs):
            # It lost against a faster incumbent than this one.
            return None
        return replace(known.result, build_secs=entry.build_secs, duplicate_of=known.trace_id)

    def note(self, code: _Code, entry: Entry, result: MeasureResult) -> None:
        """Remember the result of an entry that was timed."""
        # A failure may have had another reason than the code.
        if entry.code_id is None or result.failure is not None:
            return
        self._timed[code] = _Timed(trace_id=entry.candidate.trace_id, result=result)
        while len(self._timed) > CODES_KEPT:
            self._timed.popitem(last=False)


class Trials:
    """Races the trials of a batch; used once.

    Parameters
    ----------
    batch : MeasureBatch
        Of trials.
    watch : Watch
        Open.
    deadlines : Deadlines
        For every candidate.
    timed : TimedCode
        What earlier batches timed.
    conditions : Mapping[str, str | int]
        Noted for each that is timed.
    as_built : bool
        Whether entries come one by one as they are built, so that waiting for more of them before
        any is timed would cost time.
    """

    def __init__(
        self,
        batch: MeasureBatch,
        watch: Watch,
        *,
        deadlines: Deadlines,
        timed: TimedCode,
        conditions: Mapping[str, str | int],
        as_built: bool,
    ) -> None:
        self._batch = batch
        self._deadlines = deadlines
        self._timed = timed
        self._conditions = conditions
        fitting = TOGETHER_BYTES // max(batch.workload.size_bytes, 1)
        self._together = 1 if as_built else max(1, min(TOGETHER, fitting))
        self._incumbent_secs = batch.incumbent_secs
        self._race = Race(watch, patience_secs=PATIENCE_SECS, wanted=self._wanted)
        self._leaders: dict[_Code, _Leader] = {}

    def run(self, entries: Iterable[Entry]) -> Iterator[tuple[Entry, MeasureResult]]:
        """Yield every entry with its result, as they come; its child is closed then."""
        for entry in entries:
            yield from self._enter(entry)
            if len(self._race) >= self._together:
                yield from self._go_round()
        while self._race:
            yield from self._go_round()

    def _enter(self, entry: Entry) -> Iterator[tuple[Entry, MeasureResult]]:
        """Let an entry race, unless that is not needed."""
        code = self._code(entry)
        leader = self._leaders.get(code) if entry.failure is None and entry.code_id else None
        if leader is not None and leader.trace_id != entry.candidate.trace_id:
            leader.twins.append(entry)
            return
        known = self._timed.find(code, entry, self._best_secs())
        if known is not None:
            entry.child.close()
            yield entry, known
        elif entry.failure is not None or not self._start(entry):
            yield from self._end(entry)
        else:
            self._leaders.setdefault(code, _Leader(trace_id=entry.candidate.trace_id))

    def _start(self, entry: Entry) -> bool:
        """Warm up; return whether the entry is to race."""
        best_secs, deadline_secs = self._best_secs(), self._deadline_secs()
        first = first_call(entry, deadline_secs, best_secs)
        entry.note(self._conditions)
        if first is None:
            return False
        entry.note(first["conditions"])
        if first["hopeless"]:
            entry.run_secs, entry.censored_secs = (first["first_secs"],), first["first_secs"]
            return False
        self._race.add(entry, first["first_secs"], timing.TRIAL_REPEAT_SECS, deadline_secs)
        return True

    def _go_round(self) -> Iterator[tuple[Entry, MeasureResult]]:
        self._race.round()
        for entry in self._race.leave():
            if timing.is_bound(entry.run_secs, self._best_secs()):
                entry.censored_secs = min(entry.run_secs)
            yield from self._end(entry)

    def _end(self, entry: Entry) -> Iterator[tuple[Entry, MeasureResult]]:
        entry.child.close()
        result = entry.result()
        if result.latency_secs is not None:
            self._incumbent_secs = min(
                result.latency_secs, self._incumbent_secs or result.latency_secs
            )
        code = self._code(entry)
        self._timed.note(code, entry, result)
        yield entry, result
        leader = self._leaders.get(code)
        if leader is not None and leader.trace_id == entry.candidate.trace_id:
            del self._leaders[code]
            for twin in leader.twins:
                yield from self._enter(twin)

    def _wanted(
        self, run_secs: Mapping[int, Sequence[float]], spent_secs: Mapping[int, float]
    ) -> list[int]:
        return timing.trial_round(run_secs, spent_secs, self._incumbent_secs)

    def _best_secs(self) -> float | None:
        """Return the fastest that was seen, also of those that still race."""
        return timing.fastest_seen(self._race.run_secs, self._incumbent_secs)

    def _deadline_secs(self) -> float:
        return self._deadlines.of_trial(self._incumbent_secs, self._batch.workload.size_bytes)

    def _code(self, entry: Entry) -> _Code:
        return self._batch.workload.workload_id, self._batch.target.target_id, entry.code_id or ""
