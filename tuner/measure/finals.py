"""Finals: outputs checked against a reference, then timing interleaved until it is certain.

Only the finalist whose turn it is runs: the threads of TVM's pool look for more work for some tenth
of a second after a call, and would take the cores from the next one's.
"""

import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from statistics import median

from schedules.records import Failure, FailureKind, Verification
from tuner.measure import timing
from tuner.measure.entry import Entry
from tuner.measure.noise import Noise
from tuner.measure.watch import SPIN_SECS, Look, Watch

PATIENCE_SECS = 8.0
"""So much of its time a batch of finals loses to others before it puts up with them."""
PAUSE_SECS = 0.02
SPAN_SECS = 0.05
"""After so much timing the machine is looked at."""


def check(entries: Sequence[Entry], writer: Entry, seed: int, deadline_secs: float) -> None:
    """Compare the finalists' outputs on fresh inputs with the reference; note what is wrong.

    Parameters
    ----------
    entries : sequence of Entry
        Built finalists.
    writer : Entry
        Computes the reference: the program as it was written, built or failed.
    seed : int
        Of the inputs.
    deadline_secs : float
        For every order.
    """
    with tempfile.TemporaryDirectory(prefix="tunesmith-") as directory:
        reference = Path(directory) / "reference.npz"
        given = {"seed": seed, "reference": str(reference)}
        answer = None
        if writer.failure is None:
            answer = writer.order(deadline_secs, order="reference", **given)
        writer.child.close()
        for entry in entries:
            if answer is None:
                assert writer.failure is not None
                entry.failure = Failure(
                    kind=FailureKind.RUN_ERROR,
                    detail=f"the reference output could not be computed: {writer.failure.detail}",
                )
                continue
            with _turn_of(entry):
                found = entry.order(deadline_secs, order="check", source=answer["source"], **given)
            if found is not None:
                _note_check(entry, Verification(**found["verification"]), found["problem"])


def _note_check(entry: Entry, checked: Verification, problem: str | None) -> None:
    entry.verification = checked
    if not checked.passed:
        entry.failure = Failure(
            kind=FailureKind.WRONG_OUTPUT,
            detail=problem
            or f"error {checked.error:.3g} is over the tolerance {checked.tolerance:.3g} "
            f"against {checked.reference}",
        )


def interleave(entries: Sequence[Entry], deadline_secs: float, watch: Watch) -> None:
    """Time the finalists in rounds, as `tuner.measure.timing` says.

    After each round, and within long ones, the machine is looked at. What was timed between two
    looks of which one was not calm does not count; a disturbed machine is waited for, until all
    that was lost is `PATIENCE_SECS`.

    Parameters
    ----------
    entries : sequence of Entry
        Those that passed their check.
    deadline_secs : float
        For every order.
    watch : Watch
        Open.
    """
    race = _Race(entries, deadline_secs, watch)
    race.run()
    conditions = {"noise": race.noise.value, **race.core_speed()}
    for entry in entries:
        entry.run_secs = race.run_secs(entry.place)
        entry.note(conditions)


@dataclass(frozen=True, kw_only=True)
class _Span:
    """What was timed between two looks.

    Attributes
    ----------
    run_secs, spent_secs : Mapping[int, float]
        Of every finalist that ran: its repeat, and what that took.
    looks : tuple of Look
        The one before and the one after.
    """

    run_secs: Mapping[int, float]
    spent_secs: Mapping[int, float]
    looks: tuple[Look, Look]


class _Race:
    """Repeats in rounds, of which those count that nothing disturbed."""

    def __init__(self, entries: Sequence[Entry], deadline_secs: float, watch: Watch) -> None:
        self._entries = entries
        self._deadline_secs = deadline_secs
        self._watch = watch
        self._spans: list[_Span] = []
        self._waited_secs = 0.0
        self.noise = Noise.CALM

    def run(self) -> None:
        """Go on until nobody needs another round."""
        calls = self._rough_calls()
        before = self._wait()
        while wanted := self._wanted():
            while wanted:
                before = self._run_span(wanted, calls, before)

    def run_secs(self, place: int) -> tuple[float, ...]:
        """Return the repeats of a finalist that count."""
        return _repeats(self._counted(), place)

    def core_speed(self) -> dict[str, int]:
        """Return what the slowest core managed while what counts was timed, as a condition.

        Latencies of one machine compare only as far as this is the same: its cores may be slower
        for minutes, by their clock or by what a hypervisor has put beside them.
        """
        looks = [look for span in self._counted() for look in span.looks]
        slowest = [min(look.spins.values()) for look in looks if look.spins]
        return {"core_looks_per_ms": round(median(slowest) / (1e3 * SPIN_SECS))} if slowest else {}

    def _rough_calls(self) -> dict[int, int]:
        calls = {}
        for entry in self._entries:
            with _turn_of(entry):
                answer = entry.order(self._deadline_secs, order="first")
            if answer is not None:
                repeat_secs = timing.FINAL_REPEAT_SECS
                calls[entry.place] = timing.calls_per_repeat(answer["first_secs"], repeat_secs)
        return calls

    def _wanted(self) -> list[Entry]:
        counted = self._counted()
        racing = {entry.place: entry for entry in self._entries if entry.failure is None}
        wanted = timing.final_round(
            {place: _repeats(counted, place) for place in racing},
            {place: sum(each.spent_secs.get(place, 0.0) for each in counted) for place in racing},
        )
        return [racing[place] for place in wanted]

    def _counted(self) -> list[_Span]:
        """Return the spans that count, by what is known now; all, once patience has ended."""
        if self.noise is Noise.DISTURBED:
            return self._spans
        return [each for each in self._spans if all(map(self._watch.is_calm, each.looks))]

    def _run_span(self, wanted: list[Entry], calls: Mapping[int, int], before: Look) -> Look:
        """Run the next of the wanted, for some time, and take them off the list.

        Returns
        -------
        Look
            What was seen last, after waiting if it was not calm.
        """
        run_secs: dict[int, float] = {}
        spent_secs: dict[int, float] = {}
        while wanted and sum(spent_secs.values()) < SPAN_SECS:
            entry, started = wanted.pop(0), time.monotonic()
            with _turn_of(entry):
                entry.run(self._deadline_secs, order="repeat", calls=calls[entry.place])
            if entry.failure is None:
                run_secs[entry.place] = entry.run_secs[-1]
            spent_secs[entry.place] = time.monotonic() - started
        after = self._watch.look()
        self._spans.append(_Span(run_secs=run_secs, spent_secs=spent_secs, looks=(before, after)))
        if self.noise is Noise.DISTURBED or self._watch.is_calm(after):
            return after
        self._lose(sum(spent_secs.values()), Noise.REPEATED)
        return self._wait()

    def _wait(self) -> Look:
        """Wait for a calm machine while there is patience; return what was seen last."""
        while not self._watch.is_calm(look := self._watch.look()):
            if self.noise is Noise.DISTURBED:
                break
            time.sleep(PAUSE_SECS)
            self._lose(PAUSE_SECS, Noise.WAITED)
        return look

    def _lose(self, lost_secs: float, noise: Noise) -> None:
        self._waited_secs += lost_secs
        if self._waited_secs > PATIENCE_SECS:
            self.noise = Noise.DISTURBED
        elif self.noise is not Noise.REPEATED:
            self.noise = noise


def _repeats(spans: Sequence[_Span], place: int) -> tuple[float, ...]:
    return tuple(each.run_secs[place] for each in spans if place in each.run_secs)


@contextmanager
def _turn_of(entry: Entry) -> Iterator[None]:
    entry.child.resume()
    try:
        yield
    finally:
        entry.child.pause()
