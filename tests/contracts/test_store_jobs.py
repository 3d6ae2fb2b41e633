"""The store's contract: jobs, on both engines."""

import pytest

from schedules.errors import ConflictError, InputError
from schedules.records import FailureKind, Purpose
from service.db.store import Store
from service.db.values import JobPhase, JobState
from tests.contracts.conftest import Clock
from tests.contracts.store_values import (
    GPU,
    OTHER_WORKLOAD,
    OWNER,
    TTL,
    claim,
    enqueue,
    failed,
    finish,
    lease,
    measured,
    report_all,
    running_job,
    spec,
    stock,
    worker,
)

# --- jobs: submitting ----------------------------------------------------------------------------


def test_a_submitted_job_is_queued(store: Store) -> None:
    stock(store)
    job, created = store.submit_job(
        spec(seed=7, seconds=1.5, least_gain=0.01), idempotency_key=None
    )
    assert created
    assert (job.state, job.phase, job.trials_done) == (JobState.QUEUED, JobPhase.SEARCH, 0)
    assert job.spec == spec(seed=7, seconds=1.5, least_gain=0.01)
    assert job.failures == {}
    assert store.job(job.job_id) == job
    assert store.active_jobs() == (job,)


def test_an_equal_active_job_is_attached_to(store: Store) -> None:
    stock(store)
    first, _ = store.submit_job(spec(), idempotency_key=None)
    second, created = store.submit_job(spec(submitter="other"), idempotency_key=None)
    assert not created
    assert second == first


@pytest.mark.parametrize(
    "change",
    [
        {"workload_id": OTHER_WORKLOAD.workload_id},
        {"target_id": GPU.target_id},
        {"space": "stock"},
        {"seed": 0},
    ],
)
def test_a_job_for_something_else_flies_alone(store: Store, change: dict[str, object]) -> None:
    stock(store)
    first, _ = store.submit_job(spec(), idempotency_key=None)
    second, created = store.submit_job(spec(**change), idempotency_key=None)
    assert created
    assert second.job_id != first.job_id


def test_a_finished_job_is_not_attached_to(store: Store) -> None:
    job = running_job(store)
    finish(store, job)
    _, created = store.submit_job(spec(), idempotency_key=None)
    assert created


@pytest.mark.parametrize(
    ("active", "new", "covering"),
    [
        ((64, None), (128, None), (128, None)),
        ((64, None), (32, None), (64, None)),
        ((64, 10.0), (32, 20.0), (64, 20.0)),
        ((64, 10.0), (32, None), (64, None)),
        ((64, None), (None, 10.0), (64, None)),
        ((None, 10.0), (None, 20.0), (None, 20.0)),
    ],
)
def test_a_budget_is_raised_until_it_covers_both_requests_but_never_unbounded(
    store: Store,
    active: tuple[int | None, float | None],
    new: tuple[int | None, float | None],
    covering: tuple[int | None, float | None],
) -> None:
    stock(store)
    store.submit_job(spec(trials=active[0], seconds=active[1]), idempotency_key=None)
    job, created = store.submit_job(spec(trials=new[0], seconds=new[1]), idempotency_key=None)
    assert not created
    assert (job.spec.trials, job.spec.seconds) == covering
    assert store.job(job.job_id) == job


@pytest.mark.parametrize(
    ("active", "new", "covering"),
    [(0.02, 0.01, 0.01), (0.01, 0.02, 0.01), (0.01, None, None), (None, 0.01, None)],
)
def test_a_job_stops_early_only_where_all_requests_allow_it(
    store: Store, active: float | None, new: float | None, covering: float | None
) -> None:
    job = running_job(store, least_gain=active)
    store.begin_finals(job, OWNER)
    job, created = store.submit_job(spec(least_gain=new), idempotency_key=None)
    assert not created
    assert job.spec.least_gain == covering
    searches_on = covering != active
    assert job.phase is (JobPhase.SEARCH if searches_on else JobPhase.FINAL)


def test_a_raised_budget_sends_a_job_back_to_searching(store: Store) -> None:
    job = running_job(store)
    store.begin_finals(job, OWNER)
    store.submit_job(spec(trials=10), idempotency_key=None)
    assert store.job(job.job_id).phase is JobPhase.FINAL
    store.submit_job(spec(trials=1000), idempotency_key=None)
    assert store.job(job.job_id).phase is JobPhase.SEARCH


def test_a_budget_that_was_raised_meanwhile_is_searched_for_first(store: Store) -> None:
    job = running_job(store)
    store.submit_job(spec(trials=1000), idempotency_key=None)
    with pytest.raises(ConflictError, match="raised"):
        store.begin_finals(job, OWNER)
    assert store.job(job.job_id).phase is JobPhase.SEARCH
    store.begin_finals(store.job(job.job_id), OWNER)
    assert store.job(job.job_id).phase is JobPhase.FINAL


def test_a_budget_without_a_bound_is_refused(store: Store) -> None:
    stock(store)
    with pytest.raises(InputError, match="bound"):
        store.submit_job(spec(trials=None, seconds=None), idempotency_key=None)
    for endless in (float("inf"), float("nan")):
        with pytest.raises(InputError, match="finite"):
            store.submit_job(spec(seconds=endless), idempotency_key=None)


def test_a_repeated_idempotency_key_returns_its_first_job(store: Store) -> None:
    stock(store)
    first, created = store.submit_job(spec(), idempotency_key="key")
    assert created
    store.cancel_job(first.job_id)
    again, created = store.submit_job(spec(), idempotency_key="key")
    assert not created
    assert (again.job_id, again.state) == (first.job_id, JobState.CANCELLED)


def test_an_idempotency_key_for_another_request_is_a_conflict_and_changes_nothing(
    store: Store,
) -> None:
    stock(store)
    store.submit_job(spec(), idempotency_key="key")
    with pytest.raises(ConflictError, match="idempotency"):
        store.submit_job(spec(trials=65), idempotency_key="key")
    (job,) = store.active_jobs()
    assert job.spec == spec()


# --- jobs: claiming ------------------------------------------------------------------------------


def test_a_claimed_job_runs_and_nobody_else_gets_it(store: Store) -> None:
    job = running_job(store)
    assert job.state is JobState.RUNNING
    assert job.started_at is not None
    assert claim(store, "other", TTL) is None
    assert claim(store, OWNER, TTL) is None


def test_the_highest_priority_is_claimed_first_then_the_longest_unclaimed(
    store: Store, clock: Clock
) -> None:
    stock(store)
    ids = [
        store.submit_job(spec(seed=seed, priority=priority), idempotency_key=None)[0].job_id
        for seed, priority in ((1, 0), (2, 5), (3, 0))
    ]

    def claimed() -> str | None:
        job = claim(store, OWNER, TTL)
        return None if job is None else job.job_id

    assert [claimed() for _ in range(4)] == [ids[1], ids[0], ids[2], None]
    store.release_jobs(OWNER)
    clock.advance(1)
    assert [claimed() for _ in range(4)] == [ids[1], ids[0], ids[2], None]


def test_a_claim_that_ran_out_can_be_taken_by_another(store: Store, clock: Clock) -> None:
    stock(store)
    store.submit_job(spec(), idempotency_key=None)
    first = claim(store, OWNER, TTL)
    clock.advance(TTL - 1)
    assert claim(store, "other", TTL) is None
    clock.advance(2)
    second = claim(store, "other", TTL)
    assert first is not None
    assert second is not None
    assert second.started_at == first.started_at


def test_a_renewed_claim_holds_and_a_lost_one_is_not_revived(store: Store, clock: Clock) -> None:
    stock(store)
    job, _ = store.submit_job(spec(), idempotency_key=None)
    claim(store, OWNER, TTL)
    clock.advance(TTL - 1)
    store.renew_jobs(OWNER, TTL, [job.job_id])
    clock.advance(TTL - 1)
    assert claim(store, "other", TTL) is None
    clock.advance(2)
    store.renew_jobs(OWNER, TTL, [job.job_id])
    with pytest.raises(ConflictError):
        enqueue(store, job)
    assert claim(store, "other", TTL) is not None


def test_a_stale_owner_can_commit_nothing(store: Store, clock: Clock) -> None:
    stock(store)
    job, _ = store.submit_job(spec(), idempotency_key=None)
    claim(store, OWNER, TTL)
    clock.advance(TTL + 1)

    def attempts() -> None:
        for call in (
            lambda: enqueue(store, job),
            lambda: store.begin_finals(job, OWNER),
            lambda: finish(store, job),
            lambda: store.finish_job(job.job_id, OWNER, error="x"),
        ):
            with pytest.raises(ConflictError):
                call()

    attempts()
    claim(store, "other", TTL)
    attempts()
    left = store.job(job.job_id)
    assert (left.state, left.phase) == (JobState.RUNNING, JobPhase.SEARCH)
    assert store.progress(job.job_id).open_batches == 0


# --- jobs: ending --------------------------------------------------------------------------------


def test_a_job_ends_done_or_failed(store: Store) -> None:
    done = running_job(store)
    finish(store, done)
    done = store.job(done.job_id)
    assert (done.state, done.error) == (JobState.DONE, None)
    assert done.finished_at is not None
    bad = running_job(store)
    store.finish_job(bad.job_id, OWNER, error="no\x00 luck \ud800")
    bad = store.job(bad.job_id)
    assert bad.state is JobState.FAILED
    assert str(bad.error).startswith("no")


def test_a_finished_job_stays_as_it_is(store: Store) -> None:
    job = running_job(store)
    finish(store, job)
    done = store.job(job.job_id)
    assert store.cancel_job(job.job_id) == done
    for call in (
        lambda: store.finish_job(job.job_id, OWNER, error="late"),
        lambda: store.begin_finals(job, OWNER),
        lambda: enqueue(store, job),
    ):
        with pytest.raises(ConflictError):
            call()
    assert store.job(job.job_id) == done
    assert claim(store, OWNER, TTL) is None


def test_a_cancelled_job_leases_nothing_more(store: Store) -> None:
    job = running_job(store)
    enqueue(store, job)
    cancelled = store.cancel_job(job.job_id)
    assert cancelled.state is JobState.CANCELLED
    assert store.cancel_job(job.job_id) == cancelled
    assert store.progress(job.job_id).open_batches == 0
    assert store.lease_batch(worker(store).worker_id, TTL) is None
    assert claim(store, "other", TTL) is None
    assert store.active_jobs() == ()


def test_a_job_counts_its_trials_and_failures(store: Store) -> None:
    job = running_job(store)
    me = worker(store)
    for result in (measured(), failed(), failed(FailureKind.RUN_TIMEOUT)):
        enqueue(store, job, 2)
        report_all(store, lease(store, me), me, result)
    enqueue(store, job, 1, purpose=Purpose.FINAL)
    report_all(store, lease(store, me), me)
    job = store.job(job.job_id)
    assert job.trials_done == 6
    assert job.failures == {FailureKind.BUILD_ERROR: 2, FailureKind.RUN_TIMEOUT: 2}
    assert store.jobs(state=JobState.RUNNING, limit=5, cursor=None).items == (job,)
