"""The store's contract: counts, on both engines."""

from service.db.store import Store
from service.db.values import JobState
from tests.contracts.store_values import finish, running_job, spec, stock


def test_active_jobs_are_counted_by_state(store: Store) -> None:
    assert store.count_active_jobs() == {JobState.QUEUED: 0, JobState.RUNNING: 0}
    done = running_job(store, seed=1)
    finish(store, done)
    running_job(store, seed=2)
    stock(store)
    for seed in (3, 4):
        store.submit_job(spec(seed=seed), idempotency_key=None)
    assert store.count_active_jobs() == {JobState.QUEUED: 2, JobState.RUNNING: 1}
