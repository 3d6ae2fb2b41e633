"""Finals: outputs checked against a reference, then timing interleaved until it is certain.

Only the finalist whose turn it is runs: the threads of TVM's pool look for more work for some tenth
of a second after a call, and would take the cores from the next one's.
"""

import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from schedules.records import Failure, FailureKind, Verification
from tuner.measure import timing
from tuner.measure.entry import Entry
from tuner.measure.noise import Noise

AGAIN_SECS = 4.0
"""Finals that took longer are not repeated."""


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


def interleave(entries: Sequence[Entry], deadline_secs: float, settle: Callable[[], Noise]) -> None:
    """Time the finalists in rounds, as `tuner.measure.timing` says.

    A machine that is disturbed at the end was so meanwhile: then all rounds are repeated once, if
    they are short.

    Parameters
    ----------
    entries : sequence of Entry
        Those that passed their check.
    deadline_secs : float
        For every order.
    settle : callable
        Waits for a calm machine; see `tuner.measure.noise.settle`.
    """
    before = settle()
    _run_rounds(entries, deadline_secs)
    noise = before
    short = sum(entry.spent_secs for entry in entries) < AGAIN_SECS
    if before is not Noise.DISTURBED and settle() is not Noise.CALM:
        noise = Noise.DISTURBED
    if noise is Noise.DISTURBED and before is not noise and short:
        for entry in entries:
            entry.run_secs = ()
            entry.spent_secs = 0.0
        _run_rounds(entries, deadline_secs)
        noise = Noise.REPEATED if settle() is Noise.CALM else Noise.DISTURBED
    for entry in entries:
        entry.note({"noise": noise.value})


def _run_rounds(entries: Sequence[Entry], deadline_secs: float) -> None:
    calls = {}
    for entry in entries:
        with _turn_of(entry):
            answer = entry.order(deadline_secs, order="first")
        if answer is not None:
            repeat_secs = timing.FINAL_REPEAT_SECS
            calls[entry.place] = timing.calls_per_repeat(answer["first_secs"], repeat_secs)
    while True:
        racing = {entry.place: entry for entry in entries if entry.failure is None}
        wanted = timing.final_round(
            {place: entry.run_secs for place, entry in racing.items()},
            {place: entry.spent_secs for place, entry in racing.items()},
        )
        if not wanted:
            return
        for place in wanted:
            with _turn_of(racing[place]):
                racing[place].run(deadline_secs, order="repeat", calls=calls[place])


@contextmanager
def _turn_of(entry: Entry) -> Iterator[None]:
    entry.child.resume()
    try:
        yield
    finally:
        entry.child.pause()
