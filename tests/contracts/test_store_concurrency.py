"""The store's contract under many threads at once, on both engines."""

import random
import threading
from collections import Counter
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

from schedules.errors import ConflictError
from schedules.records import Purpose
from service.db.queries import RecordFilter
from service.db.store import Store
from tests.contracts.conftest import Clock
from tests.contracts.store_values import (
    ENVIRONMENT,
    TTL,
    WORKLOAD,
    claim,
    enqueue,
    finish,
    lease,
    measured,
    running_job,
    spec,
    stock,
    worker,
)

THREADS = 8
T = TypeVar("T")


def at_once(work: Callable[[int], T], threads: int = THREADS) -> list[T]:
    """Run `work` in several threads that start together."""
    barrier = threading.Barrier(threads)

    def run(number: int) -> T:
        barrier.wait()
        return work(number)

    with ThreadPoolExecutor(threads) as pool:
        return list(pool.map(run, range(threads)))


def test_eight_workers_that_lease_at_once_get_eight_batches(store: Store) -> None:
    job = running_job(store)
    for _ in range(THREADS):
        enqueue(store, job)
    workers = [worker(store, f"worker-{number}") for number in range(THREADS)]
    leases = at_once(lambda number: lease(store, workers[number]))
    assert len({held.lease_id for held in leases}) == THREADS
    assert {held.epoch for held in leases} == {1}


def test_one_batch_is_leased_once_however_many_ask(store: Store) -> None:
    enqueue(store, running_job(store))
    workers = [worker(store, f"worker-{number}") for number in range(THREADS)]
    got = at_once(lambda number: store.lease_batch(workers[number].worker_id, TTL))
    assert sum(held is not None for held in got) == 1


def test_a_device_never_holds_two_leases_even_if_it_asks_eight_times_at_once(store: Store) -> None:
    job = running_job(store)
    for _ in range(THREADS):
        enqueue(store, job)
    me = worker(store)
    leases = at_once(lambda _: store.lease_batch(me.worker_id, TTL))
    assert store.progress(job.job_id).leased_batches == 1
    alive = 0
    for held in leases:
        assert held is not None
        try:
            store.heartbeat(held.lease_id, held.epoch, TTL)
            alive += 1
        except ConflictError:
            pass
    assert alive == 1


def test_equal_requests_at_once_are_one_job(store: Store) -> None:
    stock(store)
    answers = at_once(
        lambda number: store.submit_job(spec(trials=10 + number), idempotency_key=None)
    )
    assert len({job.job_id for job, _ in answers}) == 1
    assert sum(created for _, created in answers) == 1
    (job,) = store.active_jobs()
    assert job.spec.trials == 10 + THREADS - 1


def test_one_idempotency_key_at_once_is_one_job(store: Store) -> None:
    stock(store)
    answers = at_once(lambda _: store.submit_job(spec(), idempotency_key="key"))
    assert len({job.job_id for job, _ in answers}) == 1
    assert sum(created for _, created in answers) == 1


def test_a_job_is_claimed_by_one_owner_however_many_ask(store: Store) -> None:
    stock(store)
    for seed in range(3):
        store.submit_job(spec(seed=seed), idempotency_key=None)
    claimed = at_once(lambda number: claim(store, f"owner-{number}", TTL))
    ids = [job.job_id for job in claimed if job is not None]
    assert len(ids) == len(set(ids)) == 3


def test_one_name_registered_at_once_is_one_worker(store: Store) -> None:
    assert len({item.worker_id for item in at_once(lambda _: worker(store))}) == 1


def test_a_result_reported_at_once_is_stored_once(store: Store) -> None:
    job = running_job(store)
    enqueue(store, job, 4)
    me = worker(store)
    held = lease(store, me)
    results = [(item.item_id, measured()) for item in held.items]

    def report(number: int) -> tuple[str, ...]:
        mine = random.Random(number).sample(results, len(results))
        return store.report(held.lease_id, held.epoch, me.worker_id, ENVIRONMENT, mine).accepted

    accepted = Counter(item_id for answer in at_once(report) for item_id in answer)
    assert accepted == Counter(item_id for item_id, _ in results)
    assert store.job(job.job_id).trials_done == 4


def test_nothing_is_lost_or_doubled_by_a_restless_fleet(store: Store, clock: Clock) -> None:
    """Workers crash, stall, release and report late while a job is fed and leases expire."""
    job = running_job(store)
    feeding = threading.Event()
    workers = [worker(store, f"worker-{number}") for number in range(THREADS - 2)]

    def feed() -> None:
        for _ in range(6):
            enqueue(store, job, 3)
        feeding.set()

    def disturb() -> None:
        while store.progress(job.job_id).open_batches or not feeding.is_set():
            clock.advance(2.0)
            store.expire_leases()

    def measure(number: int) -> None:
        dice = random.Random(number)
        me = workers[number]
        while store.progress(job.job_id).open_batches or not feeding.is_set():
            held = store.lease_batch(me.worker_id, TTL)
            if held is None:
                continue
            mishap = dice.random()
            try:
                if mishap < 0.1:
                    store.release(held.lease_id, held.epoch)
                    continue
                if mishap < 0.2:
                    clock.advance(TTL)
                for item in held.items:
                    store.heartbeat(held.lease_id, held.epoch, TTL)
                    for _ in range(dice.choice((1, 1, 2))):
                        store.report(
                            held.lease_id,
                            held.epoch,
                            me.worker_id,
                            ENVIRONMENT,
                            [(item.item_id, measured())],
                        )
            except ConflictError:
                late = [(item.item_id, measured()) for item in held.items]
                store.report(held.lease_id, held.epoch, me.worker_id, ENVIRONMENT, late)

    def role(number: int) -> None:
        if number == 0:
            feed()
        elif number == 1:
            disturb()
        else:
            measure(number - 2)

    at_once(role)
    records = list(store.iter_records(RecordFilter(workload_id=WORKLOAD.workload_id)))
    assert len(records) == len({item.record_id for item in records}) == 18
    assert {item.purpose for item in records} == {Purpose.TRIAL}
    assert store.job(job.job_id).trials_done == 18
    finish(store, job)
