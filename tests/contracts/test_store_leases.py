"""The store's contract: batches and leases, on both engines."""

from dataclasses import replace

import pytest

from schedules.errors import ConflictError, InputError, NotFoundError
from schedules.records import FailureKind, MeasureResult, Purpose
from service.db.leases import MAX_ATTEMPTS
from service.db.queries import RecordFilter
from service.db.store import Store
from service.db.values import BatchProgress, Report
from tests.contracts.conftest import Clock
from tests.contracts.store_values import (
    CPU,
    ENVIRONMENT,
    GPU,
    OTHER_WORKLOAD,
    OWNER,
    TTL,
    WORKLOAD,
    candidates,
    enqueue,
    failed,
    finish,
    lease,
    measured,
    report_all,
    report_one,
    running_job,
    worker,
)

LONG = 1000.0


def records(store: Store) -> list[str]:
    return [item.record_id for item in store.iter_records(RecordFilter())]


# --- leasing -------------------------------------------------------------------------------------


def test_a_lease_has_all_that_measuring_needs(store: Store) -> None:
    job = running_job(store)
    batch_id = store.enqueue_batch(
        job.job_id,
        OWNER,
        purpose=Purpose.FINAL,
        candidates=candidates(3),
        incumbent_secs=0.5,
    )
    assert store.progress(job.job_id) == BatchProgress(
        open_batches=1, open_items=3, leased_batches=0
    )
    held = lease(store, worker(store))
    assert (held.lease_id, held.epoch, held.ttl_secs) == (batch_id, 1, TTL)
    assert (held.job_id, held.purpose, held.incumbent_secs) == (job.job_id, Purpose.FINAL, 0.5)
    assert (held.workload, held.target) == (WORKLOAD, CPU)
    assert [item.candidate for item in held.items] == candidates(3)
    assert store.progress(job.job_id).leased_batches == 1


def test_a_score_that_is_not_finite_predicts_nothing(store: Store) -> None:
    job = running_job(store)
    odd = [replace(item, predicted_score=float("-inf")) for item in candidates(1)]
    store.enqueue_batch(
        job.job_id, OWNER, purpose=Purpose.TRIAL, candidates=odd, incumbent_secs=None
    )
    (item,) = lease(store, worker(store)).items
    assert item.candidate.predicted_score is None


def test_an_empty_batch_is_refused(store: Store) -> None:
    with pytest.raises(InputError):
        enqueue(store, running_job(store), 0)


def test_a_worker_gets_only_batches_of_its_target(store: Store) -> None:
    enqueue(store, running_job(store, target_id=GPU.target_id))
    assert store.lease_batch(worker(store).worker_id, TTL) is None
    assert lease(store, worker(store, "gpu", GPU)).target == GPU


def test_the_highest_priority_is_leased_first_then_the_oldest(store: Store) -> None:
    jobs = [running_job(store, seed=seed, priority=priority) for seed, priority in [(1, 0), (2, 9)]]
    wanted = [enqueue(store, jobs[0]), enqueue(store, jobs[0]), enqueue(store, jobs[1])]
    me = worker(store)
    got = []
    for _ in wanted:
        held = lease(store, me)
        got.append(held.lease_id)
        report_all(store, held, me)
    assert got == [wanted[2], wanted[0], wanted[1]]
    assert store.lease_batch(me.worker_id, TTL) is None


def test_a_batch_is_leased_to_one_worker_at_a_time(store: Store) -> None:
    enqueue(store, running_job(store))
    lease(store, worker(store, "a"))
    assert store.lease_batch(worker(store, "b").worker_id, TTL) is None


def test_a_worker_that_asks_again_lost_the_answer_and_gets_its_batch_back(store: Store) -> None:
    job = running_job(store)
    enqueue(store, job)
    enqueue(store, job)
    me = worker(store)
    first = lease(store, me)
    second = lease(store, me)
    assert (second.lease_id, second.epoch) == (first.lease_id, first.epoch + 1)
    assert store.progress(job.job_id).leased_batches == 1
    with pytest.raises(ConflictError):
        store.heartbeat(first.lease_id, first.epoch, TTL)


# --- heartbeats and fencing ----------------------------------------------------------------------


def test_a_heartbeat_extends_the_lease_by_the_database_clock(store: Store, clock: Clock) -> None:
    enqueue(store, running_job(store))
    held = lease(store, worker(store))
    for _ in range(3):
        clock.advance(TTL - 1)
        assert store.heartbeat(held.lease_id, held.epoch, TTL) == "continue"
        assert store.expire_leases() == 0


def test_a_heartbeat_never_shortens_a_lease(store: Store, clock: Clock) -> None:
    enqueue(store, running_job(store))
    held = lease(store, worker(store), LONG)
    store.heartbeat(held.lease_id, held.epoch, 1.0)
    clock.advance(LONG - 1)
    assert store.expire_leases() == 0


def test_a_stale_epoch_can_neither_extend_nor_release(store: Store) -> None:
    enqueue(store, running_job(store))
    me = worker(store)
    old = lease(store, me)
    store.release(old.lease_id, old.epoch)
    new = lease(store, me)
    assert new.epoch == old.epoch + 1
    for epoch in (old.epoch, new.epoch + 1, 0, -1, 10**30):
        with pytest.raises(ConflictError):
            store.heartbeat(new.lease_id, epoch, TTL)
        with pytest.raises(ConflictError):
            store.release(new.lease_id, epoch)
    assert store.heartbeat(new.lease_id, new.epoch, TTL) == "continue"


def test_a_lease_that_ran_out_cannot_be_revived(store: Store, clock: Clock) -> None:
    enqueue(store, running_job(store))
    held = lease(store, worker(store))
    clock.advance(TTL + 1)
    with pytest.raises(ConflictError):
        store.heartbeat(held.lease_id, held.epoch, TTL)


def test_a_cancelled_jobs_lease_is_told_by_its_heartbeat(store: Store) -> None:
    job = running_job(store)
    enqueue(store, job)
    me = worker(store)
    held = lease(store, me)
    store.cancel_job(job.job_id)
    assert store.heartbeat(held.lease_id, held.epoch, TTL) == "cancel"
    assert report_one(store, held, me) == Report(
        accepted=(held.items[0].item_id,), duplicate=(), lease_open=True
    )
    store.release(held.lease_id, held.epoch)
    assert store.progress(job.job_id).open_batches == 0
    assert store.lease_batch(me.worker_id, TTL) is None


def test_a_finished_jobs_lease_is_told_too(store: Store) -> None:
    job = running_job(store)
    enqueue(store, job)
    enqueue(store, job)
    me = worker(store)
    held = lease(store, me)
    finish(store, job)
    assert store.heartbeat(held.lease_id, held.epoch, TTL) == "cancel"
    assert store.lease_batch(me.worker_id, TTL) is None


# --- reporting -----------------------------------------------------------------------------------


def test_results_become_records_and_end_the_lease_with_the_last_item(store: Store) -> None:
    job = running_job(store)
    enqueue(store, job, 2)
    me = worker(store)
    held = lease(store, me)
    first = report_one(store, held, me, 0)
    assert first.lease_open
    assert store.progress(job.job_id).open_items == 1
    last = report_one(store, held, me, 1, failed())
    assert not last.lease_open
    assert store.progress(job.job_id) == BatchProgress(
        open_batches=0, open_items=0, leased_batches=0
    )
    with pytest.raises(ConflictError):
        store.heartbeat(held.lease_id, held.epoch, TTL)
    stored = store.trials(WORKLOAD.workload_id, CPU.target_id)
    assert [item.record_id for item in stored] == [item.item_id for item in held.items]
    assert [item.candidate for item in stored] == candidates(2)
    assert [item.result for item in stored] == [measured(), failed()]
    assert {(item.job_id, item.worker_id, item.purpose) for item in stored} == {
        (job.job_id, me.worker_id, Purpose.TRIAL)
    }
    assert {item.environment == ENVIRONMENT for item in stored} == {True}


def test_a_result_that_is_sent_twice_is_stored_once(store: Store) -> None:
    job = running_job(store)
    enqueue(store, job, 2)
    me = worker(store)
    held = lease(store, me)
    ids = [item.item_id for item in held.items]
    twice = [(ids[0], measured(1.0)), (ids[0], measured(2.0))]
    told = store.report(held.lease_id, held.epoch, me.worker_id, ENVIRONMENT, twice)
    assert told == Report(accepted=(ids[0],), duplicate=(ids[0],), lease_open=True)
    assert report_one(store, held, me).duplicate == (ids[0],)
    report_one(store, held, me, 1)
    assert report_one(store, held, me, 1).duplicate == (ids[1],)
    assert sorted(records(store)) == ids
    assert store.job(job.job_id).trials_done == 2


@pytest.mark.parametrize("fault", ["unknown item", "foreign item", "no result", "infinite"])
def test_a_report_with_one_bad_result_stores_nothing(store: Store, fault: str) -> None:
    job = running_job(store)
    other = running_job(store, workload_id=OTHER_WORKLOAD.workload_id)
    enqueue(store, job)
    enqueue(store, other)
    me, you = worker(store, "a"), worker(store, "b")
    held, foreign = lease(store, me), lease(store, you)
    bad: tuple[str, MeasureResult] = {
        "unknown item": ("nothing", measured()),
        "foreign item": (foreign.items[0].item_id, measured()),
        "no result": (held.items[1].item_id, MeasureResult()),
        "infinite": (held.items[1].item_id, measured(float("inf"))),
    }[fault]
    good = (held.items[0].item_id, measured())
    with pytest.raises((NotFoundError, InputError)):
        store.report(held.lease_id, held.epoch, me.worker_id, ENVIRONMENT, [good, bad])
    assert records(store) == []
    assert store.heartbeat(held.lease_id, held.epoch, TTL) == "continue"


def test_a_report_from_nowhere_stores_nothing(store: Store) -> None:
    enqueue(store, running_job(store))
    me = worker(store)
    held = lease(store, me)
    results = [(held.items[0].item_id, measured())]
    with pytest.raises(NotFoundError):
        store.report("nothing", held.epoch, me.worker_id, ENVIRONMENT, results)
    with pytest.raises(NotFoundError):
        store.report(held.lease_id, held.epoch, "nobody", ENVIRONMENT, results)
    for epoch in (0, held.epoch + 1):
        with pytest.raises(ConflictError):
            store.report(held.lease_id, epoch, me.worker_id, ENVIRONMENT, results)
    assert records(store) == []


def test_an_error_text_of_a_crash_is_stored_whatever_it_holds(store: Store) -> None:
    enqueue(store, running_job(store), 1)
    me = worker(store)
    detail = "core \x00 dumped \ud800"
    report_all(store, lease(store, me), me, failed(FailureKind.RUN_ERROR, detail))
    (stored,) = store.iter_records(RecordFilter())
    assert stored.result.failure is not None
    assert "dumped" in stored.result.failure.detail


# --- releasing -----------------------------------------------------------------------------------


def test_a_released_batch_is_leased_again_without_its_reported_items(store: Store) -> None:
    enqueue(store, running_job(store), 3)
    me = worker(store)
    held = lease(store, me)
    report_one(store, held, me, 1)
    store.release(held.lease_id, held.epoch)
    again = lease(store, worker(store, "b"))
    assert again.items == (held.items[0], held.items[2])


def test_releases_do_not_count_as_attempts(store: Store) -> None:
    enqueue(store, running_job(store))
    me = worker(store)
    for _ in range(MAX_ATTEMPTS * 2):
        held = lease(store, me)
        store.release(held.lease_id, held.epoch)
    assert len(lease(store, me).items) == 2
