"""How much the server has to do, counted now and then."""

import threading
import time
from collections import Counter
from collections.abc import Mapping

from schedules.records import FailureKind
from service.db.paging import all_items
from service.db.queries import RecordFilter
from service.db.store import Store
from service.db.summary_values import GroupBy
from service.db.values import JobState, WorkerState
from service.errors import Refusal, retry_after
from service.quality import model_quality

BUSY_RETRY_AFTER_SECS = 10.0

_REFRESH_SECS = 1.0
_JUDGE_SECS = 60.0
_PAGE = 1000


class Load:
    """Counts active jobs and workers. Thread-safe.

    Counts may be a second old; jobs that this process submits since then are added.

    Parameters
    ----------
    store : Store
        What is counted.
    max_active_jobs : int
        How many jobs may be active.
    """

    def __init__(self, store: Store, *, max_active_jobs: int) -> None:
        self._store = store
        self._max_active_jobs = max_active_jobs
        self._lock = threading.Lock()
        self._counted_at = float("-inf")
        self._jobs: Counter[JobState] = Counter()
        self._judged_at = float("-inf")
        self._quality: Mapping[str, float] = {}

    def jobs(self) -> Mapping[JobState, int]:
        """Count active jobs by state."""
        with self._lock:
            if time.monotonic() - self._counted_at > _REFRESH_SECS:
                self._jobs = Counter(self._store.count_active_jobs())
                self._counted_at = time.monotonic()
            return dict(self._jobs)

    def check_room(self) -> None:
        """Refuse where no further job fits.

        Raises
        ------
        Refusal
            A 429 that says when to come again.
        """
        if sum(self.jobs().values()) >= self._max_active_jobs:
            raise Refusal(
                429,
                "too_many_jobs",
                f"{self._max_active_jobs} jobs are queued or running already; try again later",
                retry_after(BUSY_RETRY_AFTER_SECS),
            )

    def job_added(self) -> None:
        """Count a job that was just submitted."""
        with self._lock:
            self._jobs[JobState.QUEUED] += 1

    def workers(self) -> Mapping[WorkerState, int]:
        """Count workers by state; a busy one holds exactly one lease."""
        every = all_items(lambda cursor: self._store.workers(limit=_PAGE, cursor=cursor))
        counted = Counter(dict.fromkeys(WorkerState, 0))
        counted.update(worker.state for worker in every)
        return counted

    def backlog(self) -> Mapping[str, int]:
        """Count the batches that wait for a worker, by the id of their target."""
        return self._store.backlog()

    def outcomes(self) -> Mapping[str, int]:
        """Count all records by what came of them: ``measured``, ``censored``, or a failure."""
        found = self._store.summarise(GroupBy.FAILURE, RecordFilter(), limit=len(FailureKind) + 1)
        counted: Counter[str] = Counter(measured=0, censored=0)
        for group in found.groups:
            counted.update(measured=group.measured, censored=group.censored)
            counted.update({kind.value: count for kind, count in group.failures.items()})
        return counted

    def model_quality(self) -> Mapping[str, float]:
        """Return how well each model version has ordered the newest trials; see `service.quality`.

        It may be a minute old.
        """
        with self._lock:
            if time.monotonic() - self._judged_at > _JUDGE_SECS:
                self._quality = model_quality(self._store)
                self._judged_at = time.monotonic()
            return self._quality
