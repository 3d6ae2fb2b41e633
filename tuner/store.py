"""Where records and bests are kept, as the embedded tuner sees it."""

from collections.abc import Sequence
from contextlib import AbstractContextManager
from importlib.metadata import entry_points
from typing import Protocol

from schedules.errors import UnavailableError
from schedules.records import DEFAULT_TRACE, Best, Purpose, TuningRecord
from schedules.target import Target
from schedules.workload import Workload

STORES_GROUP = "tunesmith.stores"


class RecordStore(Protocol):
    """Keeps tuning records and bests. Thread-safe; every call is atomic."""

    def trials(self, workload_id: str, target_id: str) -> tuple[TuningRecord, ...]:
        """Return all trial records of a workload on a target, oldest first."""
        ...

    def best(self, workload_id: str, target_id: str) -> Best | None:
        """Return the published best, None where nothing is published."""
        ...

    def bests_of_operator(
        self, operator: str, dtype: str, target_id: str
    ) -> Sequence[tuple[Workload, Best]]:
        """Return the bests of all shapes of an operator on a target, with their workloads.

        Where the compiler's default is best, there is nothing that other shapes could take over.
        """
        ...

    def bests_of_family(self, family_id: str, target_id: str) -> Sequence[tuple[Workload, Best]]:
        """Return the bests of a family on a target, as `bests_of_operator` does."""
        ...

    def base_model(self) -> bytes | None:
        """Return the file of the cost model in use, None where there is none."""
        ...

    def add(self, workload: Workload, target: Target, records: Sequence[TuningRecord]) -> None:
        """Store records; those whose id is known are left as they are."""
        ...

    def publish(self, best: Best) -> Best:
        """Replace the best of a workload on a target, and return what is published now."""
        ...


class MemoryStore:
    """A `RecordStore` that lives as long as its process."""

    def __init__(self) -> None:
        self._workloads: dict[str, Workload] = {}
        self._records: dict[str, TuningRecord] = {}
        self._bests: dict[tuple[str, str], Best] = {}

    def trials(self, workload_id: str, target_id: str) -> tuple[TuningRecord, ...]:
        """See `RecordStore`."""
        return tuple(
            record
            for record in list(self._records.values())
            if (record.workload_id, record.target_id) == (workload_id, target_id)
            and record.purpose is Purpose.TRIAL
        )

    def best(self, workload_id: str, target_id: str) -> Best | None:
        """See `RecordStore`."""
        return self._bests.get((workload_id, target_id))

    def bests_of_operator(
        self, operator: str, dtype: str, target_id: str
    ) -> Sequence[tuple[Workload, Best]]:
        """See `RecordStore`."""
        return [
            (workload, best)
            for workload, best in self._tuned(target_id)
            if (call := workload.call) is not None and (call.op, call.dtype) == (operator, dtype)
        ]

    def bests_of_family(self, family_id: str, target_id: str) -> Sequence[tuple[Workload, Best]]:
        """See `RecordStore`."""
        return [found for found in self._tuned(target_id) if found[0].family_id == family_id]

    def _tuned(self, target_id: str) -> list[tuple[Workload, Best]]:
        return [
            (self._workloads[best.workload_id], best)
            for best in list(self._bests.values())
            if best.target_id == target_id and best.trace != DEFAULT_TRACE
        ]

    def base_model(self) -> bytes | None:
        """See `RecordStore`."""
        return None

    def add(self, workload: Workload, target: Target, records: Sequence[TuningRecord]) -> None:
        """See `RecordStore`."""
        self._workloads[workload.workload_id] = workload
        for record in records:
            self._records.setdefault(record.record_id, record)

    def publish(self, best: Best) -> Best:
        """See `RecordStore`."""
        self._bests[best.workload_id, best.target_id] = best
        return best


def open_database(database_url: str | None) -> AbstractContextManager[RecordStore]:
    """Open the database of an installed server package.

    Parameters
    ----------
    database_url : str or None
        SQLAlchemy URL; the embedded database of this user by default.

    Raises
    ------
    UnavailableError
        The server package is not installed.
    """
    for entry in entry_points(group=STORES_GROUP):
        try:
            opened: AbstractContextManager[RecordStore] = entry.load()(database_url)
        except ImportError:
            # The entry is there, the packages that it needs are not.
            continue
        return opened
    raise UnavailableError(
        "no database support is installed; install it with: pip install 'tunesmith[server]'"
    )
