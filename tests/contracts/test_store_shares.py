"""The store's contract: fair shares between submitters, on both engines."""

from collections import Counter

from service.db.store import Store
from service.db.values import Job, Worker
from tests.contracts.conftest import Clock
from tests.contracts.store_values import (
    CPU,
    OWNER,
    TTL,
    claim,
    enqueue,
    lease,
    report_all,
    running_job,
    spec,
    stock,
    worker,
)


def measure_next(store: Store, by: Worker) -> str:
    held = lease(store, by)
    report_all(store, held, by)
    return held.job_id


def test_a_submitter_with_many_jobs_gets_no_more_than_one_with_few(store: Store) -> None:
    many = [running_job(store, seed=seed, submitter="many") for seed in range(6)]
    for job in many:
        enqueue(store, job)
    few = [running_job(store, seed=10 + seed, submitter="few") for seed in range(2)]
    for job in few:
        enqueue(store, job)
    me = worker(store)
    order = [measure_next(store, me) for _ in range(8)]
    assert set(order[:4]) == {many[0].job_id, many[1].job_id, few[0].job_id, few[1].job_id}


def test_shares_are_counted_in_candidates(store: Store) -> None:
    large, small = (running_job(store, seed=seed, submitter=str(seed)) for seed in (1, 2))
    me = worker(store)
    for _ in range(3):
        enqueue(store, large, 8)
    for _ in range(12):
        enqueue(store, small, 2)
    order = Counter(measure_next(store, me) for _ in range(10))
    assert order == {large.job_id: 2, small.job_id: 8}


def test_who_comes_late_has_no_claim_on_the_past(store: Store) -> None:
    old = running_job(store, seed=1, submitter="old")
    me = worker(store)
    for _ in range(5):
        enqueue(store, old)
        measure_next(store, me)
    enqueue(store, old)
    enqueue(store, old)
    new = running_job(store, seed=2, submitter="new")
    for _ in range(3):
        enqueue(store, new)
    order = [measure_next(store, me) for _ in range(4)]
    assert Counter(order) == {old.job_id: 2, new.job_id: 2}


def test_priority_goes_before_fairness(store: Store) -> None:
    urgent = running_job(store, seed=1, submitter="a", priority=5)
    for _ in range(3):
        enqueue(store, urgent)
    patient = running_job(store, seed=2, submitter="b")
    enqueue(store, patient)
    me = worker(store)
    order = [measure_next(store, me) for _ in range(4)]
    assert order == [urgent.job_id] * 3 + [patient.job_id]


def test_an_equal_request_of_higher_priority_raises_the_job_and_its_batches(store: Store) -> None:
    raised = running_job(store, seed=2)
    other = running_job(store, seed=1, priority=1)
    enqueue(store, raised)
    enqueue(store, other)
    store.submit_job(spec(seed=2, priority=5), idempotency_key=None)
    assert store.job(raised.job_id).spec.priority == 5
    assert measure_next(store, worker(store)) == raised.job_id


def test_claims_alternate_between_submitters(store: Store) -> None:
    stock(store)
    for seed in range(4):
        store.submit_job(spec(seed=seed, submitter="many"), idempotency_key=None)
    for seed in range(4, 6):
        store.submit_job(spec(seed=seed, submitter="few"), idempotency_key=None)
    claimed = store.claim_jobs(OWNER, TTL, limit=4)
    assert Counter(item.job.spec.submitter for item in claimed) == {"many": 2, "few": 2}


def test_claims_can_be_restricted_to_targets(store: Store) -> None:
    stock(store)
    store.submit_job(spec(), idempotency_key=None)
    assert store.claim_jobs(OWNER, TTL, target_ids=["elsewhere"]) == ()
    assert len(store.claim_jobs(OWNER, TTL, target_ids=[CPU.target_id])) == 1


def test_a_job_is_claimed_again_only_when_its_batches_are_done(store: Store, clock: Clock) -> None:
    job = running_job(store)
    enqueue(store, job, 2)
    store.release_jobs(OWNER, job.job_id)
    me = worker(store)

    def claimable() -> bool:
        claimed: Job | None = claim(store, OWNER, TTL)
        store.release_jobs(OWNER)
        return claimed is not None

    assert not claimable()
    assert store.measuring_jobs([CPU.target_id]) == 1
    held = lease(store, me)
    assert not claimable()
    # It runs out and comes back in two parts.
    clock.advance(TTL + 1)
    store.expire_leases()
    assert not claimable()
    clock.advance(100)
    for _ in range(2):
        assert not claimable()
        report_all(store, lease(store, me), me)
    assert claimable()
    assert store.measuring_jobs([CPU.target_id]) == 0
    assert len(held.items) == 2


def test_the_time_a_job_has_run_is_the_databases(store: Store, clock: Clock) -> None:
    stock(store)
    store.submit_job(spec(), idempotency_key=None)
    (first,) = store.claim_jobs(OWNER, TTL)
    store.release_jobs(OWNER)
    clock.advance(500)
    (second,) = store.claim_jobs(OWNER, TTL)
    assert first.elapsed_secs == 0
    assert 500 <= second.elapsed_secs < 560
