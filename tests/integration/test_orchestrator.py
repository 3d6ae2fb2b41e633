"""The loop that runs jobs, step by step, on a real database with a scripted search."""

import time
from collections.abc import Iterator
from concurrent.futures import Future
from dataclasses import replace

import pytest

from schedules.ir import workload_from_call
from schedules.operators import find_operator
from schedules.records import (
    Environment,
    Failure,
    FailureKind,
    MeasureResult,
    Purpose,
    Tier,
)
from service.db.migrate import upgrade
from service.db.store import Store
from service.db.values import Job, JobPhase, JobState
from service.orchestrator import READY_PER_WORKER
from tests.contracts.conftest import Clock
from tests.integration import scripted_search
from tests.integration.scripted_search import (
    WORKLOAD,
    Bench,
    ScriptedPool,
)
from tests.records import TARGET, candidate
from tuner.client import convert, wire


@pytest.fixture
def pool() -> ScriptedPool:
    return ScriptedPool()


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def bench(tmp_path, pool, clock) -> Iterator[Bench]:
    url = f"sqlite:///{tmp_path / 'jobs.db'}"
    upgrade(url)
    store = Store.open(url, clock_offset=clock)
    store.save_workload(WORKLOAD)
    store.save_target(TARGET)
    yield Bench(store, pool)
    store.close()


def run(bench: Bench, job: Job, steps: int = 12) -> Job:
    for _ in range(steps):
        bench.step()
    return bench.store.job(job.job_id)


def test_a_job_searches_measures_finals_and_publishes(bench):
    job = run(bench, bench.submit())
    assert job.state is JobState.DONE
    assert job.trials_done == 24
    best = bench.store.best(WORKLOAD.workload_id, TARGET.target_id)
    assert best.tier is Tier.EXACT
    assert best.default_latency_secs == pytest.approx(1e-2)
    assert [request.count for request in bench.pool.requests] == [16, 8]


def test_nothing_is_searched_while_a_batch_is_open(bench):
    bench.submit()
    for _ in range(3):
        bench.orchestrator.tick()
    assert bench.lease() is not None
    for _ in range(5):
        bench.orchestrator.tick()
    assert len(bench.pool.requests) == 1


def test_each_step_is_told_all_trials_so_far_and_when_to_end_early(bench):
    run(bench, bench.submit(least_gain=0.02))
    assert [len(request.trials) for request in bench.pool.requests] == [0, 16]
    assert [request.least_gain for request in bench.pool.requests] == [0.02, 0.02]


def test_a_new_search_begins_with_the_bests_of_other_shapes(bench):
    larger = workload_from_call(find_operator("softmax").call({"m": 16, "n": 8}))
    other = workload_from_call(find_operator("norm").call({"b": 1, "m": 8, "n": 8}))
    for workload in (larger, other):
        bench.store.save_workload(workload)
    run(bench, bench.submit(workload_id=larger.workload_id))
    run(bench, bench.submit(workload_id=other.workload_id))
    before = len(bench.pool.requests)
    run(bench, bench.submit())
    best = bench.store.best(larger.workload_id, TARGET.target_id)
    first, second = bench.pool.requests[before:]
    assert first.neighbours == (best.trace,)
    assert second.neighbours == ()


def test_a_shared_budget_goes_where_it_is_worth_most(bench):
    """All batches find the same, so the weights decide; each workload is tried first."""
    workloads = [
        workload_from_call(find_operator("softmax").call({"m": 8, "n": extent}))
        for extent in (16, 32, 64)
    ]
    for workload in workloads:
        bench.store.save_workload(workload)
    shared, _ = bench.store.share_budget(
        [
            bench.spec(workload_id=workload.workload_id, trials=104, weight=weight)
            for workload, weight in zip(workloads, (1.0, 40.0, 2.0), strict=True)
        ],
        idempotency_key=None,
    )
    for _ in range(40):
        bench.step()
    shared = bench.store.shared_budget(shared.budget_id)
    assert shared.state is JobState.DONE
    assert [job.trials_done for job in shared.jobs] == [16, 72, 16]
    for job in shared.jobs:
        assert bench.store.best(job.spec.workload_id, TARGET.target_id).tier is Tier.EXACT


def test_an_exhausted_space_ends_the_search_before_the_budget(tmp_path, bench):
    bench.pool._space_size = 10
    job = run(bench, bench.submit(trials=500))
    assert job.state is JobState.DONE
    assert job.trials_done == 10


def test_a_job_without_a_worker_waits_and_holds_nobody_up(bench):
    other = replace(TARGET, attributes={**TARGET.attributes, "num-cores": 64})
    bench.store.save_target(other)
    waiting = bench.submit(target_id=other.target_id, priority=50)
    assert run(bench, bench.submit()).state is JobState.DONE
    job = bench.store.job(waiting.job_id)
    assert job.state is JobState.QUEUED


def test_jobs_take_their_turns_by_priority(bench):
    later = bench.submit(seed=1)
    urgent = bench.submit(seed=2, priority=10)
    bench.step()
    assert bench.store.job(urgent.job_id).trials_done == 16
    assert bench.store.job(later.job_id).state is JobState.QUEUED


def test_another_orchestrator_continues_what_the_first_left(bench):
    job = bench.submit()
    bench.step()
    bench.store.release_jobs(bench.orchestrator._owner)
    bench.orchestrator = bench.new_orchestrator()
    assert run(bench, job).state is JobState.DONE
    assert [len(request.trials) for request in bench.pool.requests] == [0, 16]


def test_a_tick_that_takes_longer_than_a_hold_keeps_its_jobs(bench, monkeypatch):
    monkeypatch.setattr("service.orchestrator.OWNER_TTL_SECS", 2.0)
    bench.store.register_worker("other", TARGET, Environment())
    bench.orchestrator = bench.new_orchestrator(quiet=False, processes=2)
    enqueue = bench.store.enqueue_batch

    def enqueue_slowly(*arguments, **options):
        time.sleep(0.7)
        return enqueue(*arguments, **options)

    for seed in range(4):
        bench.submit(seed=seed)
    bench.orchestrator.tick()
    monkeypatch.setattr(bench.store, "enqueue_batch", enqueue_slowly)
    bench.orchestrator.tick()
    assert bench.store.backlog() == {TARGET.target_id: 4}


def test_a_tick_ends_in_time_and_says_that_there_is_more(bench, monkeypatch):
    monkeypatch.setattr("service.orchestrator.TICK_AT_MOST_SECS", 0.0)
    for number in range(4):
        bench.store.register_worker(f"other {number}", TARGET, Environment())
    bench.orchestrator = bench.new_orchestrator(quiet=False)
    for seed in range(5):
        # Their time is over when they begin: only their finals are queued.
        bench.submit(seed=seed, trials=None, seconds=0.0)
    assert bench.orchestrator.tick()
    assert bench.store.backlog() == {TARGET.target_id: 2}
    while bench.orchestrator.tick():
        pass
    assert bench.store.backlog() == {TARGET.target_id: 5}


def test_a_search_process_that_dies_is_tried_again(bench, pool):
    pool.deaths = 2
    assert run(bench, bench.submit()).state is JobState.DONE


def test_a_search_process_that_always_dies_fails_the_job_with_the_reason(bench, pool):
    pool.deaths = 99
    job = run(bench, bench.submit())
    assert job.state is JobState.FAILED
    assert "search process died" in str(job.error)


def test_when_no_final_passes_the_job_fails_and_nothing_is_published(bench, monkeypatch):
    wrong = MeasureResult(failure=Failure(kind=FailureKind.WRONG_OUTPUT, detail="all zeros"))

    def only_trials_succeed(measured, purpose, place):
        return wrong if purpose is Purpose.FINAL else MeasureResult(run_secs=(1e-3,))

    monkeypatch.setattr(scripted_search, "result_of", only_trials_succeed)
    job = run(bench, bench.submit())
    assert job.state is JobState.FAILED
    assert "all zeros" in str(job.error)
    assert bench.store.best(WORKLOAD.workload_id, TARGET.target_id) is None


def test_a_budget_raised_during_the_finals_is_used(bench):
    job = bench.submit(trials=16)
    bench.step()
    for _ in range(3):
        bench.orchestrator.tick()
    finals = bench.lease()
    assert finals.purpose is Purpose.FINAL
    bench.submit(trials=32)
    bench.measure(finals)
    assert run(bench, job).trials_done == 32


@pytest.mark.parametrize("ahead_days", [-1, 1])
def test_a_budget_in_seconds_is_spent_by_the_databases_clock(bench, clock, ahead_days):
    clock.advance(ahead_days * 86_400)
    bench.store.touch_worker(bench.worker.worker_id)
    job = bench.submit(trials=None, seconds=60.0)
    bench.step()
    clock.advance(55)
    bench.step()
    assert bench.store.job(job.job_id).trials_done == 32
    clock.advance(6)
    bench.step()
    assert bench.store.job(job.job_id).phase is JobPhase.FINAL
    assert bench.store.job(job.job_id).trials_done == 32


def test_a_cancelled_job_is_left_alone(bench):
    job = bench.submit()
    bench.step()
    bench.store.cancel_job(job.job_id)
    job = run(bench, job)
    assert job.state is JobState.CANCELLED
    assert job.trials_done == 16


def test_a_fleet_is_fed_while_it_measures_but_not_more_than_it_can_take(bench):
    bench.orchestrator = bench.new_orchestrator(quiet=False)
    for seed in range(6):
        bench.submit(seed=seed)
    for _ in range(10):
        bench.orchestrator.tick()
    assert bench.store.backlog() == {TARGET.target_id: READY_PER_WORKER}
    assert bench.lease() is not None
    for _ in range(10):
        bench.orchestrator.tick()
    assert bench.store.backlog() == {TARGET.target_id: READY_PER_WORKER}
    assert len(bench.pool.requests) == READY_PER_WORKER + 1


def test_orchestrators_share_the_jobs_and_no_step_is_taken_twice(bench):
    others = [bench.new_orchestrator(quiet=False) for _ in range(3)]
    jobs = [bench.submit(seed=seed) for seed in range(5)]
    for _ in range(60):
        for other in others:
            other.tick()
        lease = bench.lease()
        if lease is not None:
            bench.measure(lease)
    assert {bench.store.job(job.job_id).state for job in jobs} == {JobState.DONE}
    steps = [(request.search_id, len(request.trials)) for request in bench.pool.requests]
    assert len(steps) == len(set(steps))


def test_a_step_that_another_orchestrator_took_over_commits_nothing(bench, pool, monkeypatch):
    pending: list[Future[tuple[wire.CandidateWire, ...]]] = []

    def never_done(request):
        pending.append(Future())
        return pending[-1]

    monkeypatch.setattr(pool, "submit", never_done)
    job = bench.submit()
    bench.orchestrator.tick()
    monkeypatch.undo()
    # As if this one had been stopped for longer than its hold.
    bench.store.release_jobs(bench.orchestrator._owner)
    successor = bench.new_orchestrator()
    for _ in range(3):
        successor.tick()
    pending[0].set_result((convert.candidate_to_wire(candidate(999)),))
    for _ in range(3):
        bench.orchestrator.tick()
    assert bench.store.progress(job.job_id).open_batches == 1
    lease = bench.lease()
    assert len(lease.items) == 16


def test_a_tick_that_fails_lets_its_job_go(bench, pool, monkeypatch):
    def broken(request):
        raise OSError("no more processes")

    monkeypatch.setattr(pool, "submit", broken)
    job = bench.submit()
    with pytest.raises(OSError, match="no more processes"):
        bench.orchestrator.tick()
    monkeypatch.undo()
    bench.store.release_jobs(bench.orchestrator._owner)
    assert run(bench, job).state is JobState.DONE


def test_submitters_take_turns_in_a_quiet_server(bench):
    many = [bench.submit(seed=seed, submitter="many") for seed in range(3)]
    few = bench.submit(seed=9, submitter="few")
    for _ in range(2):
        bench.step()
    trials = {job.job_id: bench.store.job(job.job_id).trials_done for job in (*many, few)}
    assert trials == {many[0].job_id: 16, many[1].job_id: 0, many[2].job_id: 0, few.job_id: 16}


def test_a_worker_that_loses_lease_after_lease_is_quarantined(tmp_path, bench, monkeypatch):
    bench.submit(trials=100)
    monkeypatch.setattr("service.db.health.MISHAPS", 1)
    bench.orchestrator.tick()
    bench.orchestrator.tick()
    lease = bench.store.lease_batch(bench.worker.worker_id, 0.001)
    assert lease is not None
    bench.orchestrator.tick()
    assert "were lost" in str(bench.store.worker(bench.worker.worker_id).quarantined)
    assert bench.lease() is None
