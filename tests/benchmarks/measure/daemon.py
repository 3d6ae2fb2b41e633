"""Whether a worker daemon that waits for work disturbs the timing on its machine."""

import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from statistics import median, quantiles
from typing import Any

import httpx

from tests.processes import free_port
from tuner.measure.local import LocalMeasurer

START_SECS = 60.0
SETTLE_SECS = 3.0


def daemon_shift(turns: int) -> dict[str, Any]:
    """Run the reference kernel with and without an idle server and worker, in turns.

    Returns
    -------
    dict
        ``shift`` of the median with the daemon from that without; ``spread`` and
        ``spread_without``, the interquartile range over the median.
    """
    runs: dict[bool, list[float]] = {True: [], False: []}
    with LocalMeasurer() as measurer:
        for turn in range(turns):
            for present in (True, False) if turn % 2 else (False, True):
                if present:
                    with _service():
                        runs[True] += _reference(measurer)
                else:
                    runs[False] += _reference(measurer)
    return {
        "shift": median(runs[True]) / median(runs[False]) - 1,
        "spread": _spread(runs[True]),
        "spread_without": _spread(runs[False]),
    }


def _reference(measurer: LocalMeasurer) -> list[float]:
    result = measurer.reference()
    assert result is not None
    return list(result.run_secs)


def _spread(run_secs: list[float]) -> float:
    low, _, high = quantiles(run_secs, n=4)
    return (high - low) / median(run_secs)


@contextmanager
def _service() -> Iterator[None]:
    """Run a server with a worker on this machine, until the worker waits for work."""
    port = free_port()
    with tempfile.TemporaryDirectory() as directory:
        command = ["serve", "--with-worker", "--port", str(port), "--data-dir", directory]
        process = subprocess.Popen(
            [sys.executable, "-W", "ignore", "-c", "from tuner.cli import main; main()", *command],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        try:
            _await_worker(f"http://127.0.0.1:{port}")
            time.sleep(SETTLE_SECS)
            yield
        finally:
            os.kill(process.pid, signal.SIGTERM)
            process.wait()


def _await_worker(server: str) -> None:
    deadline = time.monotonic() + START_SECS
    while time.monotonic() < deadline:
        try:
            found = httpx.get(f"{server}/v1/workers").json()["items"]
        except httpx.HTTPError:
            found = []
        if any(item["state"] == "idle" for item in found):
            return
        time.sleep(0.2)
    raise SystemExit("the worker did not register in time")
