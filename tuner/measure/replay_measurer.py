"""A measurer that answers from records, so that a search can be tested without hardware."""

from collections.abc import Iterable, Iterator

from schedules.records import Failure, FailureKind, MeasureResult, Purpose, TuningRecord
from tuner.measure.protocol import MeasureBatch


class ReplayMeasurer:
    """Gives every candidate the result that was recorded for it; implements `Measurer`.

    Nothing is built or run, so the same batches give the same results, at once. The idea is Kernel
    Tuner's simulation mode.

    Parameters
    ----------
    records : iterable of TuningRecord
        What was measured, oldest first, of any number of workloads and targets. Of several records
        of one candidate and purpose the latest counts. A final that was never recorded is answered
        from the trial, and the other way round.

    Notes
    -----
    A candidate without a record gets a failure of the kind ``worker_lost``, as that teaches a cost
    model nothing.
    """

    def __init__(self, records: Iterable[TuningRecord]) -> None:
        self._results: dict[tuple[str, str, str], dict[Purpose, MeasureResult]] = {}
        for record in records:
            key = (record.workload_id, record.target_id, record.candidate.trace_id)
            self._results.setdefault(key, {})[record.purpose] = record.result

    def measure(self, batch: MeasureBatch) -> Iterator[tuple[int, MeasureResult]]:
        """Look a batch up; see `Measurer`."""
        for place, candidate in enumerate(batch.candidates):
            key = (batch.workload.workload_id, batch.target.target_id, candidate.trace_id)
            known = self._results.get(key, {})
            yield place, known.get(batch.purpose) or next(iter(known.values()), _UNKNOWN)


_UNKNOWN = MeasureResult(
    failure=Failure(
        kind=FailureKind.WORKER_LOST, detail="no record of this candidate could be replayed"
    )
)
