"""The results database as the embedded tuner uses it: `tuner.store.RecordStore` over `Store`."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from schedules.records import Best, TuningRecord
from schedules.target import Target
from schedules.workload import Workload
from service.db import migrate
from service.db.lock import exclusive
from service.db.model_values import ModelFile
from service.db.store import Store
from service.settings import Settings


class EmbeddedStore:
    """A `RecordStore` that keeps everything in the results database.

    Parameters
    ----------
    store : Store
        Open; stays the caller's to close.
    """

    def __init__(self, store: Store) -> None:
        self._store = store

    def trials(self, workload_id: str, target_id: str) -> tuple[TuningRecord, ...]:
        """See `RecordStore`."""
        return self._store.trials(workload_id, target_id)

    def best(self, workload_id: str, target_id: str) -> Best | None:
        """See `RecordStore`."""
        return self._store.best(workload_id, target_id)

    def bests_of_operator(
        self, operator: str, dtype: str, target_id: str
    ) -> Sequence[tuple[Workload, Best]]:
        """See `RecordStore`."""
        return self._store.bests_of_operator(operator, dtype, target_id)

    def bests_of_family(self, family_id: str, target_id: str) -> Sequence[tuple[Workload, Best]]:
        """See `RecordStore`."""
        return self._store.bests_of_family(family_id, target_id)

    def base_model(self) -> bytes | None:
        """See `RecordStore`."""
        version = self._store.promoted_model()
        return None if version is None else self._store.model_file(version, ModelFile.CONTENT)

    def add(self, workload: Workload, target: Target, records: Sequence[TuningRecord]) -> None:
        """See `RecordStore`."""
        self._store.save_workload(workload)
        self._store.save_target(target)
        self._store.add_records(records)

    def publish(self, best: Best) -> Best:
        """See `RecordStore`."""
        return self._store.publish(best, owner=None, job_id=None, remeasured=True)


@contextmanager
def open_store(database_url: str | None) -> Iterator[EmbeddedStore]:
    """Open a results database for one process, and upgrade it where that is needed.

    Parameters
    ----------
    database_url : str or None
        The embedded database in this user's data directory by default.

    Raises
    ------
    ConflictError
        A server has the file open.
    InputError
        The URL is malformed.
    """
    settings = Settings() if database_url is None else Settings(database_url=database_url)
    if not settings.database_url:
        settings.data_dir.expanduser().mkdir(mode=0o700, parents=True, exist_ok=True)
    url = settings.resolved_database_url
    with exclusive(url):
        migrate.upgrade(url)
        store = Store.open(url)
        try:
            yield EmbeddedStore(store)
        finally:
            store.close()
