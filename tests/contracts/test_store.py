"""The store's contract: workloads, targets, workers and paging, on both engines."""

from dataclasses import replace

import pytest

from schedules.errors import ConflictError, InputError, NotFoundError
from schedules.identity import sha256_id
from service.db.store import Store
from service.db.values import JobState, LeasedItem, WorkerState
from tests.contracts.conftest import Clock
from tests.contracts.store_values import (
    CALL,
    CPU,
    ENVIRONMENT,
    GPU,
    OTHER_WORKLOAD,
    OWNER,
    TTL,
    WORKLOAD,
    enqueue,
    lease,
    report_all,
    running_job,
    spec,
    stock,
    worker,
)

# --- workloads and targets -----------------------------------------------------------------------


def test_a_saved_workload_comes_back_as_it_was(store: Store) -> None:
    store.save_workload(WORKLOAD)
    store.save_workload(WORKLOAD)
    assert store.workload(WORKLOAD.workload_id) == WORKLOAD
    assert store.workload(WORKLOAD.workload_id).call == CALL
    assert store.workloads(limit=10, cursor=None).items == (WORKLOAD,)


def test_what_tensors_hold_is_kept(store: Store) -> None:
    first, *others = WORKLOAD.tensors
    known = replace(first, is_constant=True, index_below=9)
    store.save_workload(replace(WORKLOAD, tensors=(known, *others)))
    assert store.workload(WORKLOAD.workload_id).tensors == (known, *others)


def test_a_workload_is_found_by_its_call(store: Store) -> None:
    store.save_workload(OTHER_WORKLOAD)
    assert store.workload_for_call(CALL.key) is None
    store.save_workload(WORKLOAD)
    assert store.workload_for_call(CALL.key) == WORKLOAD


def test_ir_that_was_saved_first_learns_its_call(store: Store) -> None:
    store.save_workload(replace(WORKLOAD, call=None))
    store.save_workload(WORKLOAD)
    store.save_workload(replace(WORKLOAD, call=None))
    assert store.workload(WORKLOAD.workload_id).call == WORKLOAD.call


def test_a_workload_of_an_older_version_learns_its_family(store: Store) -> None:
    store.save_workload(replace(WORKLOAD, family_id=None))
    stored = store.workload_for_call(CALL.key)
    assert stored is not None
    assert stored.family_id is None
    store.save_workload(WORKLOAD)
    assert store.workload_for_call(CALL.key) == WORKLOAD
    store.save_workload(replace(OTHER_WORKLOAD, family_id=None))
    store.save_workload(OTHER_WORKLOAD)
    assert store.workload(OTHER_WORKLOAD.workload_id) == OTHER_WORKLOAD


def test_a_saved_target_comes_back_as_it_was(store: Store) -> None:
    for target in (CPU, GPU, CPU):
        store.save_target(target)
    assert store.target(CPU.target_id) == CPU
    assert store.target(CPU.target_id).target_id == CPU.target_id
    assert set(map(str, store.targets(limit=10, cursor=None).items)) == {str(CPU), str(GPU)}


def test_unknown_ids_are_not_found(store: Store) -> None:
    for call in (
        lambda: store.workload("x"),
        lambda: store.target("x"),
        lambda: store.job("x"),
        lambda: store.cancel_job("x"),
        lambda: store.worker("x"),
        lambda: store.clear_worker("x"),
        lambda: store.checks("x", limit=1, cursor=None),
        lambda: store.check_worker("x", [1.0, 1.0], boot_id="b", failure=None, strict=True),
        lambda: store.finish_job("x", OWNER),
        lambda: store.touch_worker("x"),
        lambda: store.drain_worker("x"),
        lambda: store.lease_batch("x", TTL),
        lambda: store.heartbeat("x", 1, TTL),
        lambda: store.release("x", 1),
        lambda: store.submit_job(spec(), idempotency_key=None),
    ):
        with pytest.raises(NotFoundError):
            call()


# --- workers -------------------------------------------------------------------------------------


def test_a_worker_that_is_not_seen_goes_offline_and_its_target_with_it(
    store: Store, clock: Clock
) -> None:
    seen, unseen = worker(store, "seen"), worker(store, "unseen", GPU)
    assert sorted(map(str, store.live_targets())) == sorted(map(str, (CPU, GPU)))
    clock.advance(89)
    store.touch_worker(seen.worker_id)
    clock.advance(2)
    states = {item.worker_id: item.state for item in store.workers(limit=9, cursor=None).items}
    assert states == {seen.worker_id: WorkerState.IDLE, unseen.worker_id: WorkerState.OFFLINE}
    assert store.live_targets() == (CPU,)


def test_a_worker_is_busy_while_it_holds_a_lease(store: Store) -> None:
    enqueue(store, running_job(store))
    me = worker(store)
    held = lease(store, me)
    assert store.workers(limit=9, cursor=None).items[0].state is WorkerState.BUSY
    store.release(held.lease_id, held.epoch)
    assert store.workers(limit=9, cursor=None).items == (me,)


def test_a_heartbeat_keeps_a_measuring_worker_online(store: Store, clock: Clock) -> None:
    enqueue(store, running_job(store))
    held = lease(store, worker(store), 60)
    clock.advance(50)
    store.heartbeat(held.lease_id, held.epoch, 60)
    clock.advance(50)
    assert store.live_targets() == (CPU,)


def test_registering_a_name_again_takes_the_place_of_the_old_worker(store: Store) -> None:
    old = worker(store)
    new = store.register_worker("worker", GPU, replace(ENVIRONMENT, facts={"gpu": "H100"}))
    assert (new.worker_id, new.registered_at) == (old.worker_id, old.registered_at)
    assert new.target == GPU
    assert new.environment.facts == {"gpu": "H100"}
    assert store.workers(limit=9, cursor=None).items == (new,)


def test_registering_again_returns_open_leases_to_the_queue(store: Store) -> None:
    job = running_job(store)
    enqueue(store, job, 3)
    old = lease(store, worker(store))
    again = worker(store)
    assert store.progress(job.job_id).leased_batches == 0
    with pytest.raises(ConflictError):
        store.heartbeat(old.lease_id, old.epoch, TTL)
    found: list[LeasedItem] = []
    for _ in old.items:
        # One by one, as the worker may have died with one of them.
        single = lease(store, again)
        found += single.items
        report_all(store, single, again)
    assert tuple(found) == old.items


def test_a_draining_worker_gets_no_work_and_is_told_to_leave(store: Store) -> None:
    job = running_job(store)
    enqueue(store, job)
    enqueue(store, job)
    me = worker(store)
    held = lease(store, me)
    store.drain_worker(me.worker_id)
    assert store.workers(limit=9, cursor=None).items[0].state is WorkerState.DRAINING
    assert store.heartbeat(held.lease_id, held.epoch, TTL) == "drain"
    store.release(held.lease_id, held.epoch)
    assert store.lease_batch(me.worker_id, TTL) is None
    assert lease(store, worker(store)).items == held.items


# --- paging --------------------------------------------------------------------------------------


def test_jobs_are_listed_newest_first_and_by_state(store: Store) -> None:
    stock(store)
    ids = [store.submit_job(spec(seed=seed), idempotency_key=None)[0].job_id for seed in range(3)]
    store.cancel_job(ids[1])
    listed = [job.job_id for job in store.jobs(state=None, limit=9, cursor=None).items]
    assert listed == ids[::-1]
    queued = store.jobs(state=JobState.QUEUED, limit=9, cursor=None).items
    assert [job.job_id for job in queued] == [ids[2], ids[0]]


def test_pages_neither_repeat_nor_skip_while_jobs_are_added(store: Store) -> None:
    stock(store)
    ids = [store.submit_job(spec(seed=seed), idempotency_key=None)[0].job_id for seed in range(7)]
    met: list[str] = []
    cursor: str | None = None
    for seed in range(100, 200):
        page = store.jobs(state=None, limit=2, cursor=cursor)
        met += [job.job_id for job in page.items]
        cursor = page.next_cursor
        if cursor is None:
            break
        store.submit_job(spec(seed=seed), idempotency_key=None)
    assert met == ids[::-1]


def test_the_last_page_has_no_cursor_even_when_it_is_full(store: Store) -> None:
    for number in range(4):
        store.save_workload(
            replace(OTHER_WORKLOAD, workload_id=sha256_id(number), name=str(number))
        )
    first = store.workloads(limit=2, cursor=None)
    second = store.workloads(limit=2, cursor=first.next_cursor)
    assert second.next_cursor is None
    assert {item.name for item in first.items + second.items} == {"0", "1", "2", "3"}


@pytest.mark.parametrize(
    "cursor", ["", "x", "é", "bm9wZQ", "W10", "WzEsMl0", "WyJ4IiwieSJd", "\x00", "A" * 10_000]
)
def test_a_bad_cursor_is_refused(store: Store, cursor: str) -> None:
    with pytest.raises(InputError, match="cursor"):
        store.workers(limit=5, cursor=cursor)


@pytest.mark.parametrize("limit", [0, -1, 10**9])
def test_a_bad_limit_is_refused(store: Store, limit: int) -> None:
    with pytest.raises(InputError, match="limit"):
        store.jobs(state=None, limit=limit, cursor=None)


def test_text_that_a_database_cannot_hold_is_an_input_error_or_kept(store: Store) -> None:
    for name in ("nul \x00", "half \ud800"):
        try:
            kept = store.register_worker(name, CPU, ENVIRONMENT)
        except InputError:
            continue
        assert kept.name == name
