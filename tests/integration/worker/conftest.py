"""A server that leases to real daemons, in threads and as processes."""

import subprocess
import sys

import pytest

from tests.integration.worker_server import FakeMeasurer, LeaseServer
from tuner.client.http import Connection
from tuner.worker import machine
from tuner.worker.daemon import WorkerConfig, WorkerDaemon


@pytest.fixture
def server():
    with LeaseServer() as server:
        yield server


@pytest.fixture(autouse=True)
def short_waits(monkeypatch):
    monkeypatch.setattr(machine, "FIRST_WAIT_SECS", 0.02)
    monkeypatch.setattr(machine, "LONGEST_WAIT_SECS", 0.1)
    monkeypatch.setattr(machine, "POST_EVERY_SECS", 0.05)


@pytest.fixture
def run(server, tmp_path):
    """Run a daemon until it leaves."""

    def run(measurer=None, **options):
        options = {"max_batches": 1, **options}
        config = WorkerConfig(name="test", state_dir=tmp_path, poll_secs=0.1, **options)
        with Connection(server.url, timeout_secs=5) as connection:
            WorkerDaemon(connection, measurer or FakeMeasurer(), config).run(signals=False)

    return run


@pytest.fixture
def spawn(server, tmp_path):
    """Start a daemon as a process."""
    started = []

    def spawn(secs=0.05, *devices):
        module = "tests.integration.worker_server"
        process = subprocess.Popen(
            [sys.executable, "-m", module, server.url, str(tmp_path), str(secs), *devices],
        )
        started.append(process)
        return process

    yield spawn
    for process in started:
        process.kill()
        process.wait()
