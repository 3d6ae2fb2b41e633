"""The store's contract: what the dashboard reads, on both engines."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from schedules.errors import InputError, NotFoundError
from schedules.records import FailureKind, Purpose
from service.db.job_readings import JOB_ORDERS
from service.db.queries import JobQuery
from service.db.readings import BEST_ORDERS
from service.db.store import Store
from service.db.values import Job, JobState
from tests.contracts.conftest import Clock
from tests.contracts.store_values import (
    CPU,
    GPU,
    OWNER,
    WORKLOAD,
    best,
    candidates,
    enqueue,
    failed,
    finish,
    lease,
    measured,
    report_one,
    running_job,
    spec,
    stock,
    worker,
)
from tests.records import candidate, record


@pytest.fixture
def clock(shared_database: tuple[object, Clock]) -> Clock:
    return shared_database[1]


def tuned(store: Store, clock: Clock, *, secs: float = 1e-3, **changes: Any) -> Job:
    """A job with two trials a minute apart, the second of which failed, and a final."""
    job = running_job(store, **changes)
    by = worker(store)
    enqueue(store, job)
    held = lease(store, by)
    clock.advance(60)
    report_one(store, held, by, 0, measured(secs))
    clock.advance(60)
    report_one(store, held, by, 1, failed(FailureKind.RUN_ERROR))
    clock.advance(5)
    store.enqueue_batch(
        job.job_id,
        OWNER,
        purpose=Purpose.FINAL,
        candidates=candidates(1),
        incumbent_secs=None,
    )
    held = lease(store, by)
    clock.advance(60)
    report_one(store, held, by, 0, measured(secs))
    (final,) = store.finals(job.job_id)
    store.publish(best(secs, record_id=final.record_id), OWNER, job.job_id)
    finish(store, job)
    return store.job(job.job_id)


def test_a_job_is_read_as_trials_and_steps(store: Store, clock: Clock) -> None:
    job = tuned(store, clock)
    first, second, final = store.job_trials(job.job_id, limit=10)
    assert (first.latency_secs, first.failure, first.set_aside) == (1e-3, None, False)
    assert (second.latency_secs, second.failure) == (None, FailureKind.RUN_ERROR)
    assert final.purpose is Purpose.FINAL
    assert first.created_at < second.created_at < final.created_at
    assert store.job_trials(job.job_id, limit=2) == (second, final)
    trial_step, final_step = store.job_steps(job.job_id)
    assert (trial_step.purpose, trial_step.records) == (Purpose.TRIAL, 2)
    assert trial_step.ended_at == second.created_at
    assert final_step.queued_at > second.created_at
    assert store.record(first.record_id).candidate.trace_id == candidates(1)[0].trace_id
    with pytest.raises(NotFoundError):
        store.record("none")


def test_jobs_are_filtered_and_sorted(store: Store, clock: Clock) -> None:
    done = tuned(store, clock, seed=1)
    store.submit_job(spec(seed=2, submitter="ci", trials=8), idempotency_key=None)
    (waiting,) = store.job_lines(JobQuery(state=JobState.QUEUED), limit=9)
    assert (waiting.failed, waiting.submitter, waiting.trials) == (0, "ci", 8)
    (line,) = store.job_lines(JobQuery(state=JobState.DONE), limit=9)
    assert (line.job_id, line.name, line.failed) == (done.job_id, "matmul", 1)
    assert (line.latency_secs, line.speedup, line.best_job_id) == (1e-3, 1000.0, done.job_id)
    for query, count in (
        (JobQuery(text="MATM"), 2),
        (JobQuery(text=done.job_id[-9:]), 1),
        (JobQuery(text="100%_"), 0),
        (JobQuery(text="' OR 1=1 --"), 0),
        (JobQuery(submitter="ci"), 1),
        (JobQuery(target_id=GPU.target_id), 0),
        (JobQuery(workload_id=WORKLOAD.workload_id, target_id=CPU.target_id), 2),
        (JobQuery(job_id=done.job_id), 1),
    ):
        assert len(store.job_lines(query, limit=9)) == count, query
    newest_first = [job.job_id for job in store.job_lines(JobQuery(), limit=9)]
    assert newest_first == [waiting.job_id, done.job_id]
    assert [job.job_id for job in store.job_lines(JobQuery(), limit=1, offset=1)] == [done.job_id]
    for sort in JOB_ORDERS:
        assert len(store.job_lines(JobQuery(sort=sort, descending=False), limit=9)) == 2
    with pytest.raises(InputError, match="sort by one of"):
        store.job_lines(JobQuery(sort="job_id; DROP TABLE jobs"), limit=9)
    earlier = store.earlier_job(waiting.job_id, WORKLOAD.workload_id, CPU.target_id)
    assert earlier is not None
    assert earlier.job_id == done.job_id
    assert store.earlier_job(done.job_id, WORKLOAD.workload_id, CPU.target_id) is None


def test_bests_workloads_and_targets_are_listed(store: Store, clock: Clock) -> None:
    job = tuned(store, clock)
    for sort in BEST_ORDERS:
        (line,) = store.best_lines(target_id=CPU.target_id, sort=sort, limit=9)
        assert (line.job_id, line.speedup, line.name) == (job.job_id, 1000.0, "matmul")
    assert store.best_lines(target_id=GPU.target_id, limit=9) == ()
    with pytest.raises(InputError):
        store.best_lines(sort="size", limit=9)
    names = [one.name for one in store.workload_lines(text=None, limit=9)]
    assert sorted(names) == ["matmul", "softmax"]
    (found,) = store.workload_lines(text="mat", limit=9)
    assert (found.targets, found.speedup) == (1, 1000.0)
    assert store.workload_lines(text=WORKLOAD.workload_id[:12], limit=9) == (found,)
    assert store.workload_lines(text="%", limit=9) == ()
    assert store.targets_by_id() == {CPU.target_id: CPU, GPU.target_id: GPU}
    (final,) = store.final_lines(WORKLOAD.workload_id, CPU.target_id, limit=9)
    assert (final.job_id, final.latency_secs, final.passed) == (job.job_id, 1e-3, False)


def test_activity_is_counted_by_worker_minute_and_failure(store: Store, clock: Clock) -> None:
    tuned(store, clock)
    now = store.now()
    lines = store.activity(since=now - timedelta(hours=1))
    assert sum(line.records for line in lines) == 3
    assert [line.records for line in lines if line.failure is FailureKind.RUN_ERROR] == [1]
    assert len({line.minute for line in lines}) == 3
    assert {line.minute for line in lines} <= {int(now.timestamp()) // 60 - n for n in range(5)}
    worker_id = next(line.worker_id for line in lines)
    assert worker_id is not None
    assert len(store.activity(since=now - timedelta(hours=1), worker_id=worker_id)) == 3
    assert store.activity(since=now - timedelta(hours=1), worker_id="none") == ()
    assert store.activity(since=now + timedelta(seconds=1)) == ()
    (fastest,) = store.fastest_lines(worker_id, newest=100)
    assert (fastest.name, fastest.latency_secs, fastest.records) == ("matmul", 1e-3, 2)
    scores = store.score_lines(newest=100)
    assert [(one.model_version, one.predicted_score) for one in scores] == [("m1", 0.5)] * 2


def test_the_last_half_second_of_a_minute_belongs_to_it(store: Store) -> None:
    late = datetime(2024, 1, 1, 12, 0, 59, 700_000, tzinfo=UTC)
    stock(store)
    store.add_records(
        [
            replace(
                record(candidate(1), 1e-3),
                workload_id=WORKLOAD.workload_id,
                target_id=CPU.target_id,
                created_at=late,
            )
        ]
    )
    (line,) = store.activity(since=late)
    assert line.minute == int(late.timestamp()) // 60


def test_a_busy_worker_is_known_by_its_job(store: Store) -> None:
    job, by = running_job(store), worker(store)
    stock(store)
    assert store.leased_jobs() == {}
    enqueue(store, job)
    lease(store, by)
    assert store.leased_jobs() == {by.worker_id: job.job_id}
