"""Replaying a best: in a fresh process, on fresh inputs, against the reference."""

from dataclasses import dataclass

from schedules.records import Candidate, MeasureResult, Purpose, trace_id
from schedules.target import Target
from schedules.workload import Workload
from tuner.measure.local import LocalMeasurer
from tuner.measure.protocol import MeasureBatch


@dataclass(frozen=True, kw_only=True)
class Replay:
    """What a replay showed.

    Attributes
    ----------
    result : MeasureResult
        Latency, verification, and a failure if the output was wrong.
    busy_cores : float or None
        CPU seconds per second while it was timed: the cores that the kernel kept busy.
    """

    result: MeasureResult
    busy_cores: float | None

    @property
    def passed(self) -> bool:
        """Whether it ran and its output was right."""
        checked = self.result.verification
        return self.result.failure is None and checked is not None and checked.passed


def replay_trace(workload: Workload, target: Target, trace: str) -> Replay:
    """Build a trace in a fresh process, check its output, and time it.

    Parameters
    ----------
    workload : Workload
        What the trace was tuned for.
    target : Target
        What it was tuned for; this machine must be able to run it.
    trace : str
        Canonical trace, as in a best.

    Raises
    ------
    UnavailableError
        The measuring process cannot be kept alive.
    """
    batch = MeasureBatch(
        workload=workload,
        target=target,
        candidates=(Candidate(trace=trace, trace_id=trace_id(trace)),),
        purpose=Purpose.FINAL,
    )
    with LocalMeasurer() as measurer:
        [(place, result)] = list(measurer.measure(batch))
        return Replay(result=result, busy_cores=measurer.busy_cores[place])
