"""The store's contract: leases that run out, on both engines."""

import pytest

from schedules.errors import ConflictError
from schedules.records import FailureKind, Purpose
from service.db.leases import BACKOFF_SECS, MAX_ATTEMPTS, MAX_LOSSES
from service.db.queries import RecordFilter
from service.db.store import Store
from service.db.values import BatchProgress, LeasedItem, Report
from tests.contracts.conftest import Clock
from tests.contracts.store_values import (
    CPU,
    ENVIRONMENT,
    TTL,
    WORKLOAD,
    enqueue,
    lease,
    report_all,
    report_one,
    running_job,
    worker,
)

LONG = 1000.0


def test_a_lease_expires_by_the_database_clock_and_not_before(store: Store, clock: Clock) -> None:
    enqueue(store, running_job(store))
    lease(store, worker(store))
    clock.advance(TTL - 1)
    assert store.expire_leases() == 0
    clock.advance(2)
    assert store.expire_leases() == 1
    assert store.expire_leases() == 0


def test_items_of_an_expired_lease_return_one_by_one_after_a_while(
    store: Store, clock: Clock
) -> None:
    job = running_job(store)
    enqueue(store, job, 3)
    lost = worker(store, "lost")
    held = lease(store, lost)
    report_one(store, held, lost, 0)
    clock.advance(TTL + 1)
    other = worker(store, "other")
    # Leasing expires overdue leases by itself.
    assert store.lease_batch(other.worker_id, TTL) is None
    assert store.progress(job.job_id) == BatchProgress(
        open_batches=2, open_items=2, leased_batches=0
    )
    clock.advance(BACKOFF_SECS + 1)
    singles: list[LeasedItem] = []
    for _ in range(2):
        single = lease(store, other)
        singles += single.items
        report_all(store, single, other)
    assert sorted(item.item_id for item in singles) == [item.item_id for item in held.items[1:]]
    assert store.progress(job.job_id).open_batches == 0


def test_backoff_doubles_with_each_loss(store: Store, clock: Clock) -> None:
    enqueue(store, running_job(store), 1)
    me = worker(store)
    lease(store, me)
    for wait in (BACKOFF_SECS, 2 * BACKOFF_SECS):
        clock.advance(TTL + 1)
        assert store.expire_leases() == 1
        clock.advance(wait - 1)
        assert store.lease_batch(me.worker_id, TTL) is None
        clock.advance(2)
        lease(store, me)


def test_an_item_that_is_lost_too_often_is_recorded_as_poison(store: Store, clock: Clock) -> None:
    job = running_job(store)
    enqueue(store, job, 1)
    me = worker(store)
    for _ in range(MAX_LOSSES):
        held = lease(store, me)
        clock.advance(TTL + 1)
        assert store.expire_leases() == 1
        clock.advance(LONG)
    assert store.progress(job.job_id).open_batches == 0
    (stored,) = store.trials(WORKLOAD.workload_id, CPU.target_id)
    assert stored.record_id == held.items[0].item_id
    assert stored.result.failure is not None
    assert stored.result.failure.kind is FailureKind.WORKER_LOST
    assert stored.worker_id == me.worker_id
    assert stored.environment == ENVIRONMENT
    job = store.job(job.job_id)
    assert (job.trials_done, job.failures) == (1, {FailureKind.WORKER_LOST: 1})
    assert report_one(store, held, me).duplicate == (stored.record_id,)


def test_a_batch_that_comes_back_too_often_is_dead_and_recorded(store: Store) -> None:
    job = running_job(store)
    enqueue(store, job, 1)
    me = worker(store)
    for _ in range(MAX_ATTEMPTS):
        lease(store, me)
    assert store.lease_batch(me.worker_id, TTL) is None
    (stored,) = store.trials(WORKLOAD.workload_id, CPU.target_id)
    assert stored.result.failure is not None
    assert stored.result.failure.kind is FailureKind.WORKER_LOST
    assert store.progress(job.job_id).open_batches == 0


def test_one_item_that_takes_its_worker_down_costs_no_other(store: Store) -> None:
    job = running_job(store)
    enqueue(store, job, 4)
    bad = "?"
    crashes = 0
    me = worker(store)
    while (held := store.lease_batch(me.worker_id, TTL)) is not None:
        bad = held.items[1].item_id if len(held.items) == 4 else bad
        if bad in {item.item_id for item in held.items}:
            crashes += 1
            me = worker(store)
        else:
            report_all(store, held, me)
    assert crashes == MAX_LOSSES
    failures = {
        item.record_id for item in store.iter_records(RecordFilter()) if item.result.failure
    }
    assert failures == {bad}
    assert store.job(job.job_id).trials_done == 4


def test_late_result_of_an_expired_lease_is_stored_once(store: Store, clock: Clock) -> None:
    job = running_job(store)
    enqueue(store, job, 2)
    slow, other = worker(store, "slow"), worker(store, "other")
    held = lease(store, slow)
    clock.advance(TTL + 1)
    store.expire_leases()
    late = report_one(store, held, slow, 0)
    assert late == Report(accepted=(held.items[0].item_id,), duplicate=(), lease_open=False)
    assert report_one(store, held, slow, 0).duplicate == late.accepted
    clock.advance(LONG)
    assert lease(store, other).items == (held.items[1],)
    assert store.job(job.job_id).trials_done == 1


def test_late_result_ends_the_lease_of_whoever_measures_the_item_now(
    store: Store, clock: Clock
) -> None:
    job = running_job(store)
    enqueue(store, job, 1)
    slow, other = worker(store, "slow"), worker(store, "other")
    first = lease(store, slow)
    clock.advance(TTL + 1)
    store.expire_leases()
    clock.advance(LONG)
    second = lease(store, other)
    assert second.items == first.items
    assert report_one(store, first, slow).accepted == (first.items[0].item_id,)
    with pytest.raises(ConflictError):
        store.heartbeat(second.lease_id, second.epoch, TTL)
    assert report_one(store, second, other).duplicate == (first.items[0].item_id,)
    assert store.progress(job.job_id).open_batches == 0
    assert store.job(job.job_id).trials_done == 1


def test_late_result_of_a_cancelled_job_is_a_fact_too(store: Store, clock: Clock) -> None:
    job = running_job(store)
    enqueue(store, job, 2)
    me = worker(store)
    held = lease(store, me)
    store.cancel_job(job.job_id)
    clock.advance(TTL + 1)
    assert store.expire_leases() == 1
    assert store.progress(job.job_id).open_batches == 0
    assert len(report_one(store, held, me).accepted) == 1
    assert store.job(job.job_id).trials_done == 1
    assert store.lease_batch(me.worker_id, TTL) is None


def test_finals_are_those_of_the_latest_final_batch_even_if_it_was_split(
    store: Store, clock: Clock
) -> None:
    job = running_job(store)
    me = worker(store)
    assert store.finals(job.job_id) == ()
    enqueue(store, job, 2, purpose=Purpose.FINAL)
    report_all(store, lease(store, me), me)
    enqueue(store, job, 3, purpose=Purpose.FINAL)
    assert store.finals(job.job_id) == ()
    held = lease(store, me)
    clock.advance(TTL + 1)
    store.expire_leases()
    clock.advance(LONG)
    for _ in held.items:
        report_all(store, lease(store, me), me)
    finals = store.finals(job.job_id)
    assert [item.record_id for item in finals] == [item.item_id for item in held.items]
    assert store.trials(WORKLOAD.workload_id, CPU.target_id) == ()
