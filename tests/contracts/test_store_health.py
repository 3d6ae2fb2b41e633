"""The store's contract: checks of workers, quarantine, records set aside, on both engines."""

import pytest

from schedules.errors import ConflictError, InputError
from schedules.records import FailureKind, MeasureResult, Purpose, Verification
from service.db.health import BAD_CHECKS, GOOD_CHECKS, MISHAPS
from service.db.queries import RecordFilter
from service.db.store import Store
from service.db.values import CheckKind, Worker, WorkerState
from tests.contracts.conftest import Clock
from tests.contracts.store_values import (
    CPU,
    OWNER,
    TTL,
    WORKLOAD,
    enqueue,
    failed,
    finish,
    lease,
    report_all,
    report_one,
    running_job,
    worker,
)
from tuner.publish import choose_best

STEADY = [1.0e-3, 1.001e-3, 0.999e-3, 1.0e-3, 1.002e-3]
SLOW = [secs * 1.08 for secs in STEADY]
SCATTERED = [1.0e-3, 0.8e-3, 1.2e-3, 0.9e-3, 1.1e-3]
CHECKED = Verification(reference="numpy", tolerance=1e-5, error=0.0, passed=True)


def check(
    store: Store, of: Worker, runs: list[float], *, strict: bool = True, failure: str | None = None
) -> str | None:
    return store.check_worker(of.worker_id, runs, boot_id="boot", failure=failure, strict=strict)[1]


def publish_from(store: Store, by: Worker, seed: int, secs: float) -> str:
    """Run a job's finals on a worker, publish what they give, and return the record's id."""
    job = running_job(store, seed=seed)
    enqueue(store, job, 2, purpose=Purpose.FINAL)
    report_all(
        store, lease(store, by), by, MeasureResult(run_secs=(secs,) * 8, verification=CHECKED)
    )
    chosen = choose_best(store.finals(job.job_id))
    assert chosen is not None
    store.publish(chosen, OWNER, job.job_id)
    finish(store, job)
    return chosen.record_id


def published(store: Store) -> str | None:
    best = store.best(WORKLOAD.workload_id, CPU.target_id)
    return None if best is None else best.record_id


def test_the_first_good_check_is_the_baseline_of_the_next(store: Store) -> None:
    me = worker(store)
    assert check(store, me, STEADY) is None
    assert check(store, me, SLOW) is None
    newest, first = store.checks(me.worker_id, limit=10, cursor=None).items
    assert first.baseline_secs == first.latency_secs == pytest.approx(1e-3)
    assert first.passed
    assert newest.baseline_secs == first.latency_secs
    assert not newest.passed
    assert "8.0% longer" in str(newest.problem)


@pytest.mark.parametrize("bad", [SLOW, [secs * 0.9 for secs in STEADY], SCATTERED])
def test_bad_checks_in_a_row_quarantine_a_worker(store: Store, bad: list[float]) -> None:
    me = worker(store)
    enqueue(store, running_job(store))
    check(store, me, STEADY)
    told = [check(store, me, bad) for _ in range(BAD_CHECKS)]
    assert told[:-1] == [None] * (BAD_CHECKS - 1)
    assert told[-1] is not None
    assert store.worker(me.worker_id).state is WorkerState.QUARANTINED
    assert store.worker(me.worker_id).quarantined == told[-1]
    assert store.lease_batch(me.worker_id, TTL) is None
    assert store.measuring_workers() == {}
    assert store.lease_batch(worker(store, "healthy").worker_id, TTL) is not None


def test_a_good_check_between_bad_ones_absolves(store: Store) -> None:
    me = worker(store)
    for runs in (STEADY, SLOW, SLOW, STEADY, SLOW, SLOW):
        assert check(store, me, runs) is None


def test_a_kernel_that_does_not_run_counts_even_where_timing_does_not(store: Store) -> None:
    me = worker(store)
    for runs in (STEADY, SLOW, SCATTERED, SLOW, SCATTERED):
        assert check(store, me, runs, strict=False) is None
    for _ in range(BAD_CHECKS):
        told = check(store, me, [], strict=False, failure="illegal instruction")
    assert told == "illegal instruction"


def test_a_check_without_runs_or_reason_is_refused(store: Store) -> None:
    with pytest.raises(InputError, match="two runs"):
        check(store, worker(store), [1e-3])


def test_good_checks_in_a_row_let_a_worker_measure_again(store: Store) -> None:
    me = worker(store)
    enqueue(store, running_job(store))
    for runs in [STEADY] + [SLOW] * BAD_CHECKS:
        check(store, me, runs)
    told = [check(store, me, STEADY) for _ in range(GOOD_CHECKS)]
    assert told[-2] is not None
    assert told[-1] is None
    assert store.lease_batch(me.worker_id, TTL) is not None


def test_an_environment_has_a_baseline_of_its_own(store: Store) -> None:
    me = worker(store)
    check(store, me, STEADY)
    changed = type(me.environment)(facts={"cpu": "Xeon", "cores": 2, "tvm": "newer"})
    store.register_worker(me.name, CPU, changed)
    for _ in range(BAD_CHECKS + 1):
        assert check(store, me, SLOW) is None


def test_records_since_the_last_good_check_are_set_aside_and_come_back_when_cleared(
    store: Store, clock: Clock
) -> None:
    me = worker(store)
    early = running_job(store, seed=1)
    enqueue(store, early, 2)
    report_all(store, lease(store, me), me)
    clock.advance(10)
    check(store, me, STEADY)
    clock.advance(10)
    late = running_job(store, seed=2)
    enqueue(store, late, 3)
    report_all(store, lease(store, me), me)
    clock.advance(10)
    for _ in range(BAD_CHECKS):
        check(store, me, SLOW)
    trials = store.trials(WORKLOAD.workload_id, CPU.target_id)
    assert {item.job_id for item in trials} == {early.job_id}
    aside = {item.job_id for item in store.iter_records(RecordFilter()) if item.set_aside}
    assert aside == {late.job_id}
    assert store.job(late.job_id).trials_done == 3
    assert store.clear_worker(me.worker_id) == 3
    assert len(store.trials(WORKLOAD.workload_id, CPU.target_id)) == 5
    assert store.worker(me.worker_id).quarantined is None
    # People said that it is well: what it shows next is the new measure.
    for _ in range(BAD_CHECKS):
        assert check(store, me, SLOW) is None


def test_a_recovered_workers_records_stay_aside(store: Store) -> None:
    me = worker(store)
    enqueue(store, running_job(store))
    report_all(store, lease(store, me), me)
    for runs in [SCATTERED] * BAD_CHECKS + [STEADY] * GOOD_CHECKS:
        check(store, me, runs)
    assert store.worker(me.worker_id).quarantined is None
    assert store.trials(WORKLOAD.workload_id, CPU.target_id) == ()


def test_a_result_that_comes_during_quarantine_is_kept_but_set_aside(store: Store) -> None:
    me = worker(store)
    job = running_job(store)
    enqueue(store, job, 2)
    held = lease(store, me)
    for _ in range(BAD_CHECKS):
        check(store, me, SCATTERED)
    assert len(report_one(store, held, me, 0).accepted) == 1
    assert store.trials(WORKLOAD.workload_id, CPU.target_id) == ()
    assert store.job(job.job_id).trials_done == 1


def test_a_best_gives_way_to_the_one_before_and_returns_when_cleared(
    store: Store, clock: Clock
) -> None:
    good, bad = worker(store, "good"), worker(store, "bad")
    older = publish_from(store, good, 1, 2e-3)
    clock.advance(10)
    newer = publish_from(store, bad, 2, 1e-3)
    assert published(store) == newer
    for _ in range(BAD_CHECKS):
        check(store, bad, SCATTERED)
    assert published(store) == older
    store.clear_worker(bad.worker_id)
    assert published(store) == newer


def test_a_best_without_another_is_withdrawn(store: Store) -> None:
    me = worker(store)
    record_id = publish_from(store, me, 1, 1e-3)
    for _ in range(BAD_CHECKS):
        check(store, me, SCATTERED)
    assert published(store) is None
    store.clear_worker(me.worker_id)
    assert published(store) == record_id


def test_leases_that_run_out_one_after_another_quarantine_their_worker(
    store: Store, clock: Clock
) -> None:
    me = worker(store)
    for seed in range(MISHAPS):
        assert store.judge_workers() == ()
        job = running_job(store, seed=seed)
        enqueue(store, job, 2)
        lease(store, me)
        clock.advance(TTL + 1)
        store.expire_leases()
        store.cancel_job(job.job_id)
    assert store.judge_workers() == (me.worker_id,)
    assert store.judge_workers() == ()
    assert "were lost" in str(store.worker(me.worker_id).quarantined)


def test_a_result_between_expiries_speaks_for_the_worker(store: Store, clock: Clock) -> None:
    me = worker(store)
    job = running_job(store)
    for number in range(MISHAPS):
        enqueue(store, job, 2)
        held = lease(store, me)
        if number == 1:
            clock.advance(1)
            report_one(store, held, me)
        clock.advance(TTL + 1)
        store.expire_leases()
    assert store.judge_workers() == ()


def test_a_poison_candidate_is_not_held_against_the_workers_that_it_takes_down(
    store: Store, clock: Clock
) -> None:
    job = running_job(store)
    enqueue(store, job, 1)
    me = worker(store)
    for _ in range(MISHAPS):
        assert store.lease_batch(me.worker_id, TTL) is not None
        clock.advance(TTL + 1)
        store.expire_leases()
        clock.advance(1000)
    assert store.progress(job.job_id).open_batches == 0
    assert store.judge_workers() == ()


def test_crashes_of_what_runs_elsewhere_quarantine_a_worker(store: Store) -> None:
    job = running_job(store)
    good, bad = worker(store, "good"), worker(store, "bad")
    enqueue(store, job, MISHAPS)
    report_all(store, lease(store, good), good)
    assert store.judge_workers() == ()
    enqueue(store, job, MISHAPS)
    report_all(store, lease(store, bad), bad, failed(FailureKind.RUN_ERROR))
    assert store.judge_workers() == (bad.worker_id,)
    kinds = {item.kind for item in store.checks(bad.worker_id, limit=9, cursor=None).items}
    assert kinds == {CheckKind.CRASH}


def test_failures_that_nobody_contradicts_are_the_candidates_own(store: Store) -> None:
    job = running_job(store)
    me = worker(store)
    for kind in (FailureKind.RUN_ERROR, FailureKind.BUILD_ERROR):
        enqueue(store, job, MISHAPS)
        report_all(store, lease(store, me), me, failed(kind))
    assert store.judge_workers() == ()


def test_an_item_lost_with_two_workers_is_poison(store: Store, clock: Clock) -> None:
    job = running_job(store)
    enqueue(store, job, 1)
    for name in ("one", "two"):
        assert store.lease_batch(worker(store, name).worker_id, TTL) is not None
        clock.advance(TTL + 1)
        store.expire_leases()
        clock.advance(1000)
    assert store.progress(job.job_id).open_batches == 0
    (stored,) = store.trials(WORKLOAD.workload_id, CPU.target_id)
    assert stored.result.failure is not None
    assert stored.result.failure.kind is FailureKind.WORKER_LOST


def test_a_budget_raised_before_the_end_keeps_the_job_alive(store: Store) -> None:
    job = running_job(store)
    with pytest.raises(ConflictError, match="raised"):
        store.finish_job(job.job_id, OWNER)
    finish(store, job)
