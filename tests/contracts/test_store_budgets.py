"""The store's contract: budgets that several jobs share, on both engines."""

import math
from dataclasses import replace

import pytest

from schedules.errors import ConflictError, InputError, NotFoundError
from schedules.identity import sha256_id
from schedules.records import Purpose
from service.db.queries import JobQuery
from service.db.store import Store
from service.db.values import Job, JobPhase, JobSpec, JobState, SharedBudget
from tests.contracts.conftest import Clock
from tests.contracts.store_values import (
    OWNER,
    TTL,
    WORKLOAD,
    candidates,
    claim,
    enqueue,
    finish,
    lease,
    report_all,
    spec,
    stock,
    worker,
)

NAMES = ("first", "second", "third")


def specs(*weights: float, **changes: object) -> list[JobSpec]:
    return [
        replace(spec(**changes), workload_id=sha256_id(name), weight=weight)
        for name, weight in zip(NAMES, weights, strict=False)
    ]


def share(store: Store, *weights: float, **changes: object) -> SharedBudget:
    """Let so many workloads share a budget."""
    stock(store)
    for name in NAMES:
        store.save_workload(replace(WORKLOAD, workload_id=sha256_id(name), name=name, call=None))
    shared, created = store.share_budget(specs(*weights, **changes), idempotency_key=None)
    assert created
    return shared


def appraise(store: Store, *worths: float) -> None:
    """Tell of each job in turn what it is worth."""
    for _ in worths:
        (taken,) = store.claim_jobs(OWNER, TTL)
        assert taken.job.worth_secs is None
        place = NAMES.index(store.workload(taken.job.spec.workload_id).name)
        store.appraise(taken.job.job_id, OWNER, worths[place])
        store.release_jobs(OWNER, taken.job.job_id)


def queue(store: Store, job: Job | None, count: int = 2) -> None:
    """Queue a batch and let the job go, as an orchestrator does."""
    assert job is not None
    enqueue(store, job, count)
    store.release_jobs(OWNER, job.job_id)


def name_of(store: Store, job: Job | None) -> str | None:
    return None if job is None else store.workload(job.spec.workload_id).name


def test_jobs_that_share_a_budget_are_jobs_with_its_bounds(store: Store) -> None:
    shared = share(store, 1.0, 2.5, trials=100, seconds=60.0, least_gain=0.01)
    assert (shared.trials, shared.seconds, shared.trials_done) == (100, 60.0, 0)
    assert shared.state is JobState.QUEUED
    assert [name_of(store, job) for job in shared.jobs] == ["first", "second"]
    assert [job.spec.weight for job in shared.jobs] == [1.0, 2.5]
    assert {job.spec.budget_id for job in shared.jobs} == {shared.budget_id}
    assert {job.spec.least_gain for job in shared.jobs} == {0.01}
    assert store.shared_budget(shared.budget_id) == shared
    assert store.active_jobs() == shared.jobs


def test_a_listing_tells_no_bound_of_a_job_that_shares_its_budget(store: Store) -> None:
    (job,) = share(store, 1.0, trials=100).jobs
    (line,) = store.job_lines(JobQuery(job_id=job.job_id), limit=9)
    assert line.trials is None


def test_a_job_of_its_own_is_not_attached_to_one_that_shares(store: Store) -> None:
    shared = share(store, 1.0)
    alone, created = store.submit_job(specs(1.0)[0], idempotency_key=None)
    assert created
    assert alone.job_id != shared.jobs[0].job_id
    assert alone.spec.budget_id is None


def test_what_is_worth_most_goes_first(store: Store) -> None:
    share(store, 1.0, 1.0, 1.0)
    appraise(store, 2.0, 3.0, 1.0)
    order = [name_of(store, claim(store)) for _ in range(4)]
    assert order == ["second", "first", "third", None]


def test_of_equal_ones_the_one_with_fewer_trials_goes_first(store: Store) -> None:
    share(store, 1.0, 1.0)
    me = worker(store)
    appraise(store, math.inf, math.inf)
    first = claim(store)
    assert name_of(store, first) == "first"
    queue(store, first)
    report_all(store, lease(store, me), me)
    (again,) = store.claim_jobs(OWNER, TTL)
    store.appraise(again.job.job_id, OWNER, math.inf)
    store.release_jobs(OWNER)
    assert name_of(store, claim(store)) == "second"


def test_a_measured_batch_changes_what_the_next_one_is_worth(store: Store) -> None:
    share(store, 1.0)
    me = worker(store)
    appraise(store, 5.0)
    job = claim(store)
    assert job is not None
    assert job.worth_secs == 5.0
    enqueue(store, job)
    assert store.job(job.job_id).worth_secs == 5.0
    report_all(store, lease(store, me), me)
    assert store.job(job.job_id).worth_secs is None


def test_one_that_is_worth_far_more_is_waited_for(store: Store) -> None:
    share(store, 1.0, 1.0, 1.0)
    me = worker(store)
    appraise(store, 100.0, 11.0, 9.0)
    first = claim(store)
    assert name_of(store, first) == "first"
    queue(store, first)
    assert name_of(store, claim(store)) == "second"
    assert claim(store) is None
    report_all(store, lease(store, me), me)
    (again,) = store.claim_jobs(OWNER, TTL)
    store.appraise(again.job.job_id, OWNER, 8.0)
    assert name_of(store, claim(store)) == "third"


def test_finals_wait_for_nobody(store: Store) -> None:
    share(store, 1.0, 1.0)
    appraise(store, 1e-9, 1.0)
    second = claim(store)
    assert name_of(store, second) == "second"
    store.release_jobs(OWNER)
    (taken,) = store.claim_jobs(OWNER, TTL, limit=2)
    store.begin_finals(taken.job, OWNER)
    store.release_jobs(OWNER)
    phases = {name_of(store, item): item.phase for item in iter(lambda: claim(store), None)}
    assert phases == {"second": JobPhase.FINAL, "first": JobPhase.SEARCH}


def test_together_they_cannot_spend_more_than_there_is(store: Store) -> None:
    shared = share(store, 1.0, 1.0, trials=10)
    appraise(store, 2.0, 1.0)
    me = worker(store)
    (first,) = store.claim_jobs(OWNER, TTL)
    assert first.trials_left == 10
    queue(store, first.job, 8)
    (second,) = store.claim_jobs(OWNER, TTL)
    assert second.trials_left == 2
    queue(store, second.job, 8)
    sizes = []
    for _ in range(2):
        held = lease(store, me)
        sizes.append(len(held.items))
        report_all(store, held, me)
    assert sizes == [8, 2]
    assert store.shared_budget(shared.budget_id).trials_done == 10
    for taken in (store.claim_jobs(OWNER, TTL)[0], store.claim_jobs(OWNER, TTL)[0]):
        assert taken.trials_left == 0
        with pytest.raises(ConflictError, match="spent"):
            enqueue(store, taken.job, 1)
        enqueue(store, taken.job, 1, purpose=Purpose.FINAL)


def test_what_is_cancelled_was_not_spent(store: Store) -> None:
    share(store, 1.0, 1.0, trials=10)
    appraise(store, 2.0, 1.0)
    first = claim(store)
    assert first is not None
    enqueue(store, first, 10)
    store.cancel_job(first.job_id)
    (second,) = store.claim_jobs(OWNER, TTL)
    assert second.trials_left == 10


def test_time_runs_from_the_first_job_s_start(store: Store, clock: Clock) -> None:
    share(store, 1.0, 1.0, trials=None, seconds=60.0)
    appraise(store, 2.0, 1.0)
    clock.advance(40)
    (first,) = store.claim_jobs(OWNER, TTL)
    (second,) = store.claim_jobs(OWNER, TTL)
    for taken in (first, second):
        assert taken.elapsed_secs == pytest.approx(40, abs=2)
        assert taken.trials_left is None


def test_a_budget_has_ended_when_all_its_jobs_have(store: Store) -> None:
    shared = share(store, 1.0, 1.0)
    appraise(store, 2.0, 1.0)
    first, second = claim(store), claim(store)
    assert first is not None
    assert second is not None
    finish(store, first)
    assert store.shared_budget(shared.budget_id).state is JobState.RUNNING
    store.finish_job(second.job_id, OWNER, error="for a test")
    assert store.shared_budget(shared.budget_id).state is JobState.FAILED


def test_cancelling_ends_all_that_have_not_ended(store: Store) -> None:
    shared = share(store, 1.0, 1.0)
    appraise(store, 2.0, 1.0)
    first = claim(store)
    assert first is not None
    finish(store, first)
    cancelled = store.cancel_shared(shared.budget_id)
    assert [job.state for job in cancelled.jobs] == [JobState.DONE, JobState.CANCELLED]
    assert cancelled.state is JobState.CANCELLED
    assert store.cancel_shared(shared.budget_id) == cancelled


def test_a_repeated_key_returns_the_budget_of_its_first_request(store: Store) -> None:
    share(store, 1.0)
    first, created = store.share_budget(specs(1.0, 2.0), idempotency_key="key")
    assert created
    assert store.share_budget(specs(1.0, 2.0), idempotency_key="key") == (first, False)
    with pytest.raises(ConflictError, match="another request"):
        store.share_budget(specs(1.0, 3.0), idempotency_key="key")
    with pytest.raises(ConflictError, match="another request"):
        store.submit_job(specs(1.0)[0], idempotency_key="key")


def test_bad_budgets_are_refused(store: Store) -> None:
    share(store, 1.0)
    one, other = specs(1.0, 1.0)
    for bad, says in (
        ([], "workload"),
        ([replace(one, trials=None)], "bound"),
        ([replace(one, seconds=math.inf)], "finite"),
        ([one, replace(other, trials=65)], "same bounds"),
        ([one, one], "twice"),
    ):
        with pytest.raises(InputError, match=says):
            store.share_budget(bad, idempotency_key=None)
    with pytest.raises(NotFoundError):
        store.share_budget([one, replace(other, workload_id="?")], idempotency_key=None)
    for ask in (store.shared_budget, store.cancel_shared):
        with pytest.raises(NotFoundError, match="no shared budget"):
            ask("?")
    assert len(store.active_jobs()) == 1


def test_only_who_holds_a_job_says_what_it_is_worth(store: Store) -> None:
    shared = share(store, 1.0)
    with pytest.raises(ConflictError):
        store.appraise(shared.jobs[0].job_id, OWNER, 1.0)


def test_candidates_of_a_job_of_its_own_are_not_counted(store: Store) -> None:
    share(store, 1.0, trials=4)
    store.submit_job(spec(trials=4), idempotency_key=None)
    taken = next(
        item for item in store.claim_jobs(OWNER, TTL, limit=2) if item.job.spec.budget_id is None
    )
    assert taken.trials_left == 4
    store.enqueue_batch(
        taken.job.job_id,
        OWNER,
        purpose=Purpose.TRIAL,
        candidates=candidates(6),
        incumbent_secs=None,
    )
