"""Finals: outputs checked against a reference, then timing interleaved until it is certain."""

import tempfile
from collections.abc import Sequence
from functools import partial
from pathlib import Path

from schedules.records import Failure, FailureKind, Verification
from tuner.measure import timing
from tuner.measure.entry import Entry
from tuner.measure.race import Race, first_call, turn_of
from tuner.measure.watch import Watch

PATIENCE_SECS = 8.0
"""So much of its time a batch of finals loses to others before it puts up with them."""


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
            with turn_of(entry):
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


def interleave(
    entries: Sequence[Entry], deadline_secs: float, watch: Watch, expected_secs: float | None
) -> None:
    """Time the finalists in rounds, as `tuner.measure.timing` says.

    Parameters
    ----------
    entries : sequence of Entry
        Those that passed their check.
    deadline_secs : float
        For every order.
    watch : Watch
        Open.
    expected_secs : float or None
        What the fastest of them took as a trial, as far as that is known.
    """
    wanted = partial(timing.final_round, expected_secs=expected_secs)
    race = Race(watch, patience_secs=PATIENCE_SECS, wanted=wanted)
    for entry in entries:
        first = first_call(entry, deadline_secs)
        if first is not None:
            race.add(entry, first["first_secs"], timing.FINAL_REPEAT_SECS, deadline_secs)
    # All stay until nobody needs another round: they are compared with each other.
    while race.round():
        if timing.is_slow_spell(race.run_secs, expected_secs):
            race.pause(timing.SLOW_SPELL_PAUSE_SECS)
    race.leave()
