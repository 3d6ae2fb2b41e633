"""The store's contract: what waiting workers need, on both engines."""

from service.db.idle import Prospect
from service.db.leases import BACKOFF_SECS
from service.db.store import Store
from service.db.values import WorkerState
from service.db.workers import OFFLINE_SECS
from tests.contracts.conftest import Clock
from tests.contracts.store_values import CPU, GPU, TTL, enqueue, lease, running_job, worker

NOBODY: frozenset[str] = frozenset()


def test_batches_are_counted_by_target_and_up_to_a_bound(store: Store) -> None:
    job = running_job(store)
    for _ in range(3):
        enqueue(store, job)
    assert store.prospect(CPU.target_id, (), most=10) == Prospect(leasable=3, holders=NOBODY)
    assert store.prospect(CPU.target_id, (), most=2) == Prospect(leasable=2, holders=NOBODY)
    assert store.prospect(GPU.target_id, (), most=10) == Prospect(leasable=0, holders=NOBODY)


def test_a_leased_batch_is_not_counted_but_its_holder_is_known(store: Store) -> None:
    first, second = worker(store, "first"), worker(store, "second")
    enqueue(store, running_job(store))
    lease(store, first)
    asked = (first.worker_id, second.worker_id)
    found = store.prospect(CPU.target_id, asked, most=10)
    assert found == Prospect(leasable=0, holders=frozenset({first.worker_id}))


def test_an_overdue_lease_is_worth_a_try_and_what_waits_out_its_backoff_is_not(
    store: Store, clock: Clock
) -> None:
    first, second = worker(store, "first"), worker(store, "second")
    enqueue(store, running_job(store), count=1)
    lease(store, first)
    clock.advance(TTL + 1)
    assert store.prospect(CPU.target_id, (), most=10).leasable == 1
    assert store.lease_batch(second.worker_id, TTL) is None
    assert store.prospect(CPU.target_id, (), most=10).leasable == 0
    clock.advance(BACKOFF_SECS + 1)
    assert store.prospect(CPU.target_id, (), most=10).leasable == 1


def test_many_workers_are_noted_at_once(store: Store, clock: Clock) -> None:
    known = [worker(store, f"worker {number}") for number in range(5)]
    clock.advance(OFFLINE_SECS + 1)
    store.touch_workers([item.worker_id for item in known[:4]] + ["unknown"])
    states = {item.name: item.state for item in store.workers(limit=10, cursor=None).items}
    assert states.pop("worker 4") is WorkerState.OFFLINE
    assert set(states.values()) == {WorkerState.IDLE}


def test_what_a_lease_is_for_can_be_looked_up(store: Store) -> None:
    job = running_job(store)
    batch_id = enqueue(store, job)
    assert store.lease_subject(batch_id) == (job.job_id, CPU.target_id)
    assert store.lease_subject("none") is None
