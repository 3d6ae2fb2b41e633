"""A candidate on its way through a batch."""

import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from schedules.records import (
    Candidate,
    Failure,
    FailureKind,
    MeasureResult,
    Verification,
)
from tuner.measure.forked import ChildFailedError, ForkedChild

BUILD_KINDS = (FailureKind.BUILD_ERROR, FailureKind.BUILD_TIMEOUT)
RUN_KINDS = (FailureKind.RUN_ERROR, FailureKind.RUN_TIMEOUT)


@dataclass
class Entry:
    """A candidate, its child, and what is known of it so far.

    Attributes
    ----------
    place : int
        Its place in the batch.
    code_id : str or None
        Of what it compiled to; see `tuner.measure.kernel.Kernel`.
    run_secs : tuple of float
        Repeats so far.
    busy_cores : float or None
        CPU seconds per second of timing, in the repeat with the most.
    """

    place: int
    candidate: Candidate
    child: ForkedChild
    build_secs: float | None = None
    code_id: str | None = None
    run_secs: tuple[float, ...] = ()
    censored_secs: float | None = None
    busy_cores: float | None = None
    failure: Failure | None = None
    verification: Verification | None = None
    conditions: Mapping[str, str | int] = field(default_factory=dict)

    def result(self) -> MeasureResult:
        """Return what is known as a result."""
        failed = self.failure is not None
        return MeasureResult(
            run_secs=() if failed else self.run_secs,
            failure=self.failure,
            censored_secs=None if failed else self.censored_secs,
            build_secs=self.build_secs,
            verification=self.verification,
            conditions=self.conditions,
        )

    def take_build(self, deadline: float) -> None:
        """Read that the child has built; note the failure if it has not."""
        try:
            answer = self.child.answer(deadline, BUILD_KINDS)
        except ChildFailedError as failed:
            self.failure = failed.failure
            return
        self.build_secs, self.code_id = answer["built_secs"], answer["code_id"]

    def order(self, deadline_secs: float, **message: Any) -> dict[str, Any] | None:
        """Send an order and return its answer; None, and the failure noted, if there is none."""
        started = time.monotonic()
        self.child.command(message)
        try:
            return self.child.answer(started + deadline_secs, RUN_KINDS)
        except ChildFailedError as failed:
            self.failure = failed.failure
            return None

    def run(self, deadline_secs: float, **message: Any) -> None:
        """Send an order that times, and add its repeat."""
        answer = self.order(deadline_secs, **message)
        if answer is None:
            return
        self.run_secs += (answer["run_secs"],)
        self.note(answer["conditions"])
        if answer["busy_cores"] is not None:
            self.busy_cores = max(self.busy_cores or 0.0, answer["busy_cores"])

    def note(self, conditions: Mapping[str, str | int]) -> None:
        """Add conditions under which it was measured."""
        self.conditions = {**self.conditions, **conditions}
