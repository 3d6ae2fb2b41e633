"""What is known to be in the database and never changes there, kept in memory."""

from collections.abc import Iterable

from schedules.target import Target
from schedules.workload import Workload
from service.recent import Recent

CAPACITY = 1024


class Known:
    """Workloads, targets and series that were read from the database or committed. Thread-safe.

    All are named by the hash of what they are, and are never deleted. A workload without an
    operator call is not kept, because one may still be added to it.
    """

    def __init__(self) -> None:
        self._workloads: Recent[str, Workload] = Recent(CAPACITY)
        self._by_call: Recent[str, Workload] = Recent(CAPACITY)
        self._targets: Recent[str, Target] = Recent(CAPACITY)
        self._series: Recent[int, bool] = Recent(8 * CAPACITY)

    def workload(self, workload_id: str) -> Workload | None:
        """Return a workload of which the call is known too."""
        return self._workloads.get(workload_id)

    def workload_for_call(self, call_key: str) -> Workload | None:
        """Return the workload that an operator call made."""
        return self._by_call.get(call_key)

    def target(self, target_id: str) -> Target | None:
        """Return a target."""
        return self._targets.get(target_id)

    def has_series(self, series_id: int) -> bool:
        """Whether a series of counters is in the database."""
        return self._series.get(series_id) is not None

    def add_series(self, series_ids: Iterable[int]) -> None:
        """Remember series that are in the database."""
        for series_id in series_ids:
            self._series.put(series_id, True)

    def add_workload(self, workload: Workload) -> None:
        """Remember a workload as it is in the database."""
        if workload.call is not None:
            self._workloads.put(workload.workload_id, workload)

    def add_call(self, call_key: str, workload: Workload) -> None:
        """Remember which workload an operator call made."""
        self._by_call.put(call_key, workload)

    def add_target(self, target: Target) -> None:
        """Remember a target that is in the database."""
        self._targets.put(target.target_id, target)
