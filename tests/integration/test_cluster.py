"""Searching on a Dask cluster whose parts come and go."""

import os
import signal
import time
from collections.abc import Callable
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import pytest

from schedules.errors import UnavailableError
from service import cluster
from service.cluster import ClusterPool
from service.db.migrate import upgrade
from service.db.store import Store
from service.db.values import JobState
from service.orchestrator import OWNER_TTL_SECS
from tests.contracts.conftest import Clock
from tests.contracts.test_step_pool import REQUEST, STEP_SECS
from tests.integration.dask_cluster import START_SECS, DaskCluster, cluster_pool
from tests.integration.scripted_search import WORKLOAD, Bench
from tests.records import TARGET
from tuner.search.step import StepRequest

pytest.importorskip("distributed")


@pytest.fixture(autouse=True)
def _short_patience(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cluster, "CONNECT_SECS", 0.5)


def _kept() -> list[str]:
    """Which searches a worker has; runs there."""
    from tuner.search import warm

    return list(warm._warm)


def test_a_search_stays_with_its_worker_and_others_go_elsewhere() -> None:
    with cluster_pool() as (pool, client):
        first, second = (replace(REQUEST, search_id=name) for name in ("first", "second"))
        for step in [pool.submit(first), pool.submit(second)]:
            step.result(STEP_SECS)
        for request in (first, second, second, first):
            pool.submit(request).result(STEP_SECS)
        kept = client.run(_kept).values()
        assert sorted(kept) == [["first"], ["second"]]


def test_a_step_survives_its_worker() -> None:
    with cluster_pool() as (pool, client):
        processes = client.run(os.getpid)
        step = pool.submit(REQUEST)
        running = _where(client)
        os.kill(processes[running], signal.SIGKILL)
        assert len(step.result(STEP_SECS)) == REQUEST.count
        assert client.run(_kept) == {
            address: ["first"] for address in processes if address != running
        }


def _where(client) -> str:
    """Return the worker that is busy."""
    deadline = time.monotonic() + START_SECS
    while time.monotonic() < deadline:
        for address, keys in client.processing().items():
            if keys:
                return str(address)
        time.sleep(0.01)
    raise AssertionError("nothing runs")


def test_without_a_scheduler_or_workers_the_error_says_what_to_start() -> None:
    dask = DaskCluster(workers=0)
    pool = ClusterPool(dask.address)
    with pytest.raises(UnavailableError, match="`dask scheduler`"):
        pool.submit(REQUEST)
    with dask:
        with pytest.raises(UnavailableError, match=r"has no workers.*`dask worker"):
            pool.submit(REQUEST)
        dask.start_worker()
        assert len(_submitted(pool, REQUEST)) == REQUEST.count
        pool.close()
        pool.close()


def _submitted(pool: ClusterPool, request: StepRequest):
    """Submit until the cluster takes it, as the orchestrator does."""
    deadline = time.monotonic() + START_SECS
    while True:
        try:
            return pool.submit(request).result(STEP_SECS)
        except UnavailableError:
            if time.monotonic() > deadline:
                raise
            time.sleep(0.1)


def test_a_job_waits_for_its_cluster_and_ends(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path / 'jobs.db'}"
    upgrade(url)
    clock = Clock()
    store = Store.open(url, clock_offset=clock)
    store.save_workload(WORKLOAD)
    store.save_target(TARGET)
    with DaskCluster(workers=1) as dask, closing(ClusterPool(dask.address)) as pool:
        bench = Bench(store, pool)
        job = bench.submit()
        _drive(bench, clock, lambda: store.job(job.job_id).trials_done > 0, patient=True)
        dask.kill_scheduler()
        with pytest.raises(UnavailableError, match="does not answer"):
            _drive(bench, clock, lambda: False)
        assert store.job(job.job_id).state is JobState.RUNNING
        clock.advance(OWNER_TTL_SECS)
        dask.start_scheduler()
        dask.start_worker()
        _drive(bench, clock, lambda: not store.job(job.job_id).state.active, patient=True)
        assert store.job(job.job_id).state is JobState.DONE
        assert store.job(job.job_id).trials_done == job.spec.trials
    store.close()


def _drive(bench: Bench, clock: Clock, ended: Callable[[], bool], *, patient: bool = False) -> None:
    """Let an orchestrator and a worker act until something has come about."""
    deadline = time.monotonic() + STEP_SECS
    while not ended():
        assert time.monotonic() < deadline
        try:
            bench.step()
        except UnavailableError:
            if not patient:
                raise
            # The hold on the job ends by itself.
            clock.advance(OWNER_TTL_SECS)
        time.sleep(0.05)
