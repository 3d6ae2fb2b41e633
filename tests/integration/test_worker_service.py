"""The worker and the client against the real API and store."""

import threading
import time
from pathlib import Path

import pytest
from click.testing import CliRunner

from schedules.errors import NotFoundError
from schedules.records import Purpose
from tests.contracts.store_values import finish
from tests.integration.api_server import CPU, MATMUL, OWNER, live_server
from tests.integration.worker_server import CPU as WORKER_CPU
from tests.integration.worker_server import FakeMeasurer
from tuner.cli import main
from tuner.client.errors import JobFailedError
from tuner.client.http import Connection
from tuner.client.sdk import Client
from tuner.worker import machine
from tuner.worker.daemon import WorkerConfig, WorkerDaemon

pytestmark = pytest.mark.alone


class SkylakeMeasurer(FakeMeasurer):
    """Has the device that the harness's jobs are for."""

    def describe(self):
        _, environment = super().describe()
        return type(WORKER_CPU).parse(CPU), environment


LEASE_SECS = 10.0
"""No machine is so busy that a lease runs out where no test means it to."""


@pytest.fixture
def server(tmp_path: Path, request):
    """Serve; a test may ask for leases of another length."""
    lease_secs = getattr(request, "param", LEASE_SECS)
    with live_server(tmp_path, heartbeat_secs=0.1, lease_ttl_secs=lease_secs) as server:
        yield server


@pytest.fixture
def client(server):
    with Client(server.url) as client:
        yield client


@pytest.fixture
def worker(server, tmp_path, monkeypatch):
    """Start a daemon in a thread."""
    monkeypatch.setattr(machine, "POST_EVERY_SECS", 0.05)
    connection = Connection(server.url)
    running = []

    def start(measurer, **options):
        config = WorkerConfig(
            name="test",
            state_dir=tmp_path / "state",
            poll_secs=0.2,
            **{"max_batches": 1, **options},
        )
        daemon = WorkerDaemon(connection, measurer, config)
        thread = threading.Thread(target=daemon.run, kwargs={"signals": False})
        thread.start()
        running.append((daemon, thread))
        return thread

    yield start
    for daemon, thread in running:
        daemon.request_stop()
        thread.join()
    connection.close()


def test_what_a_worker_measures_becomes_records(server, client, worker):
    job = client.submit(MATMUL, target=CPU, trials=8)
    server.enqueue(3)
    worker(SkylakeMeasurer()).join()
    [seen] = client.workers()
    assert (seen.name, seen.target, seen.environment) == ("test", CPU, {"device": "fake"})
    records = list(client.records(job_id=job.id))
    assert [record.run_secs for record in records] == [[1e-3, 2e-3]] * 3
    assert {record.worker_id for record in records} == {seen.worker_id}
    assert job.refresh().view.trials_done == 3


@pytest.mark.parametrize("server", [0.6], indirect=True)
def test_a_slow_candidate_keeps_its_lease(server, client, worker):
    job = client.submit(MATMUL, target=CPU)
    server.enqueue(2, Purpose.FINAL)
    worker(SkylakeMeasurer(1.5)).join()
    assert len(list(client.records(job_id=job.id))) == 2
    assert server.store.progress(job.id).open_items == 0


def test_a_cancelled_job_stops_its_worker(server, client, worker):
    job = client.submit(MATMUL, target=CPU)
    server.enqueue(100)
    measurer = SkylakeMeasurer(0.05)
    thread = worker(measurer, max_batches=None)
    while measurer.measured < 3:
        time.sleep(0.01)
    job.cancel()
    deadline = time.monotonic() + 10
    while not measurer.closed_early:
        assert time.monotonic() < deadline
        time.sleep(0.01)
    assert measurer.measured < 60
    assert thread.is_alive()
    with pytest.raises(JobFailedError, match="was cancelled"):
        job.wait(5)


def test_a_job_is_watched_until_it_ends(server, client, worker):
    job = client.submit(MATMUL, target=CPU, trials=3)
    server.enqueue(3)
    worker(SkylakeMeasurer()).join()
    finish(server.store, server.store.job(job.id), OWNER)
    result = CliRunner().invoke(main, ["job", job.id, "--watch", "--server", server.url])
    assert "3/3 trials, best trial 1 ms" in result.stderr
    # Its finals were not measured here, so that there is nothing to show for it.
    assert (result.exit_code, "done" in result.stderr) == (1, True)


def test_listings_of_the_client(server, client):
    job = client.submit(MATMUL, target=CPU)
    [workload] = client.workloads()
    assert client.workload(workload.workload_id).ir
    [target] = client.targets()
    assert client.target(target.target_id).target == CPU
    assert [view.id for view in client.jobs(state="queued")] == [job.id]
    assert list(client.bests()) == []
    with pytest.raises(NotFoundError):
        client.best(MATMUL, CPU)
    with pytest.raises(NotFoundError):
        client.best_by_id(workload.workload_id, target.target_id)
    with pytest.raises(NotFoundError):
        client.job("nonsense")
    again = client.submit(MATMUL, target=CPU)
    assert again.id == job.id
    assert again.view.attached
