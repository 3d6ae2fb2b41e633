"""A Dask cluster of this machine, with a scheduler and workers in processes of their own."""

import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Self

import pytest

from service.cluster import ClusterPool
from tests.processes import free_port

START_SECS = 30.0


class DaskCluster:
    """Started by the commands that people use; needs the extra ``dask``.

    Parameters
    ----------
    workers : int
        How many to start.
    """

    def __init__(self, *, workers: int) -> None:
        self._port = free_port()
        self.address = f"tcp://127.0.0.1:{self._port}"
        self._scheduler: subprocess.Popen[bytes] | None = None
        self._workers: list[subprocess.Popen[bytes]] = []
        self._wanted = workers

    def start_scheduler(self) -> None:
        self._scheduler = _dask(
            "scheduler", "--host=127.0.0.1", f"--port={self._port}", "--no-dashboard"
        )
        deadline = time.monotonic() + START_SECS
        while time.monotonic() < deadline:
            with socket.socket() as probe:
                if probe.connect_ex(("127.0.0.1", self._port)) == 0:
                    return
            time.sleep(0.05)
        raise AssertionError("the Dask scheduler did not start")

    def start_worker(self) -> None:
        self._workers.append(
            _dask("worker", self.address, "--nthreads=1", "--no-dashboard", "--no-nanny")
        )

    def kill_scheduler(self) -> None:
        assert self._scheduler is not None
        _end(self._scheduler, signal.SIGKILL)

    def __enter__(self) -> Self:
        self.start_scheduler()
        for _ in range(self._wanted):
            self.start_worker()
        return self

    def __exit__(self, *error: object) -> None:
        for process in [*self._workers, self._scheduler]:
            if process is not None:
                _end(process, signal.SIGTERM)


@contextmanager
def cluster_pool(*, workers: int = 2) -> Iterator[tuple[ClusterPool, Any]]:
    """Make a pool on a cluster whose workers are there, and a client to look at them with."""
    distributed = pytest.importorskip("distributed")
    with (
        DaskCluster(workers=workers) as cluster,
        distributed.Client(cluster.address, set_as_default=False) as client,
    ):
        client.wait_for_workers(workers, timeout=START_SECS)
        pool = ClusterPool(cluster.address)
        yield pool, client
        pool.close()


def _dask(*arguments: str) -> subprocess.Popen[bytes]:
    return subprocess.Popen(
        [sys.executable, "-m", "distributed.cli.dask_" + arguments[0], *arguments[1:]],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )


def _end(process: subprocess.Popen[bytes], how: int) -> None:
    process.send_signal(how)
    try:
        process.wait(10)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
