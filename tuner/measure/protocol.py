"""What a measurer is."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Protocol

from schedules.records import Candidate, Environment, MeasureResult, Purpose
from schedules.target import Target
from schedules.workload import Workload


@dataclass(frozen=True, kw_only=True)
class MeasureBatch:
    """Candidates of one workload on one target that are measured together.

    Attributes
    ----------
    purpose : Purpose
        ``TRIAL``: each candidate alone, timed briefly. ``FINAL``: all candidates interleaved, timed
        thoroughly, outputs checked.
    incumbent_secs : float or None
        The best latency so far; a trial that is clearly slower is timed less.
    """

    workload: Workload
    target: Target
    candidates: tuple[Candidate, ...]
    purpose: Purpose = Purpose.TRIAL
    incumbent_secs: float | None = None


class Measurer(Protocol):
    """Measures batches of candidates.

    One batch at a time: a measurer owns its device, and `measure` is not to be called before the
    iterator of the call before is exhausted or closed. Candidates that fail are results with a
    failure, never exceptions.
    """

    def measure(self, batch: MeasureBatch) -> Iterator[tuple[int, MeasureResult]]:
        """Measure every candidate of a batch.

        Yields
        ------
        tuple of (int, MeasureResult)
            The candidate's place in the batch and its result, each place exactly once, as they
            come.

        Raises
        ------
        UnavailableError
            The device or its process is gone and could not be brought back.
        """
        ...


class DeviceMeasurer(Measurer, Protocol):
    """A measurer that knows its device."""

    def describe(self) -> tuple[Target, Environment]:
        """Return the native target and the environment."""
        ...

    def reference(self) -> MeasureResult | None:
        """Run the reference kernel; None for a device that has none.

        Raises
        ------
        UnavailableError
            The device or its process is gone and could not be brought back.
        """
        ...

    def interrupt(self) -> None:
        """End the present `measure` before its next result, if there is one; thread-safe."""
        ...
