"""The demo: server, worker and client on this machine, from request to checked kernel."""

import logging
import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections import deque
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path

import click

from schedules.errors import UnavailableError
from schedules.identity import canonical_json
from schedules.target import Target
from tuner.cli.output import print_table, ratio_text, seconds_text
from tuner.cli.remote import wait_with_progress
from tuner.client import convert, wire
from tuner.client.http import Connection
from tuner.client.sdk import Client
from tuner.replay import replay_trace

logger = logging.getLogger(__name__)

_START_SECS = 60.0
# A worker finishes its batch when told once to stop, and leaves at once when told twice.
_STOPS = ((signal.SIGTERM, 3.0), (signal.SIGTERM, 10.0), (signal.SIGKILL, 10.0))
_LOG_LINES = 20


@dataclass(frozen=True, kw_only=True)
class DemoWorkload:
    """One operator of the demo.

    Attributes
    ----------
    trials : int
        Its budget.
    """

    op: str
    args: Mapping[str, int]
    trials: int
    dtype: str = "float32"

    @property
    def name(self) -> str:
        """What it is called in the table."""
        return " ".join([self.op, *(f"{name}={value}" for name, value in self.args.items())])


DEMO_WORKLOADS = (
    DemoWorkload(op="batch_matmul", args={"b": 1, "n": 512, "m": 512, "k": 512}, trials=64),
    DemoWorkload(
        op="conv2d_nhwc",
        args={"n": 1, "h": 14, "w": 14, "ci": 256, "co": 256, "kernel_size": 3, "padding": 1},
        trials=48,
    ),
    DemoWorkload(op="softmax", args={"m": 512, "n": 512}, trials=32),
)


@dataclass(frozen=True, kw_only=True)
class DemoResult:
    """What came of one operator.

    Attributes
    ----------
    replayed_secs : float or None
        Latency of the best in a fresh process.
    verified : bool
        Whether the output of that process matched the reference.
    tolerance, error : float or None
        Of that comparison, relative to the scale of the output.
    """

    name: str
    default_secs: float | None
    tuned_secs: float
    speedup: float | None
    replayed_secs: float | None
    trials: int
    failures: int
    verified: bool
    reference: str | None
    tolerance: float | None
    error: float | None

    def as_dict(self) -> dict[str, object]:
        """Return it as a JSON object."""
        return asdict(self)


def run_demo(*, trials: int | None = None) -> list[DemoResult]:
    """Run the demo; what it starts is stopped again whatever happens.

    Parameters
    ----------
    trials : int or None
        Budget of every operator, in place of their own.

    Raises
    ------
    UnavailableError
        The server or the worker ended; the message holds the end of its log.
    """
    with ExitStack() as stack:
        directory = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="tunesmith-demo-")))
        port = _free_port()
        url = f"http://127.0.0.1:{port}"
        serve = ["serve", "--host", "127.0.0.1", "--port", str(port)]
        server = stack.enter_context(
            _process("server", [*serve, "--data-dir", str(directory / "data")], directory)
        )
        _await_server(url, server)
        work = [
            "worker",
            "--server",
            url,
            "--name",
            "demo",
            "--state-dir",
            str(directory / "state"),
        ]
        worker = stack.enter_context(_process("worker", work, directory))
        client = stack.enter_context(Client(url))
        _await_worker(client, server, worker)
        click.echo(f"server and worker run; the server answers at {url}", err=True)
        jobs = []
        for workload in DEMO_WORKLOADS:
            request = (workload.op, dict(workload.args), workload.dtype)
            jobs.append((workload.name, client.submit(request, trials=trials or workload.trials)))
        results = []
        for name, job in jobs:
            best = wait_with_progress(job, title=name, check=lambda: _check_alive(server, worker))
            results.append(_checked(client, name, job.refresh().view, best))
        return results


def print_results(results: list[DemoResult]) -> None:
    """Print results for people."""
    print_table(
        ["workload", "default", "tuned", "speed-up", "trials", "failures", "verified"],
        [
            [
                result.name,
                seconds_text(result.default_secs),
                seconds_text(result.tuned_secs),
                ratio_text(result.speedup),
                str(result.trials),
                str(result.failures),
                _verdict(result),
            ]
            for result in results
        ],
    )


def _verdict(result: DemoResult) -> str:
    if result.tolerance is None:
        return "NO: it did not run"
    shown = f"error {result.error:.1e} of at most {result.tolerance:.1e}"
    return f"yes: {shown}" if result.verified else f"NO: {shown}"


def _checked(client: Client, name: str, job: wire.JobView, best: wire.BestView) -> DemoResult:
    """Replay a best in a fresh process."""
    workload = convert.workload_from_wire(client.workload(best.workload_id))
    target = Target.parse(client.target(best.target_id).target)
    replay = replay_trace(workload, target, canonical_json(best.trace))
    checked = replay.result.verification
    return DemoResult(
        name=name,
        default_secs=best.default_latency_secs,
        tuned_secs=best.latency_secs,
        speedup=best.speedup,
        replayed_secs=replay.result.latency_secs,
        trials=job.trials_done,
        failures=sum(job.failures.values()),
        verified=replay.passed,
        reference=checked.reference if checked else None,
        tolerance=checked.tolerance if checked else None,
        error=checked.error if checked else None,
    )


# --- processes -----------------------------------------------------------------------------------


@dataclass(frozen=True, kw_only=True)
class _Running:
    name: str
    process: subprocess.Popen[bytes]
    log: Path

    def check(self) -> None:
        """Raise if it has ended."""
        status = self.process.poll()
        if status is not None:
            with self.log.open(encoding="utf-8", errors="replace") as file:
                tail = "".join(deque(file, maxlen=_LOG_LINES))
            raise UnavailableError(
                f"the demo's {self.name} ended with status {status}; the end of its log:\n{tail}"
            )


@contextmanager
def _process(name: str, arguments: list[str], directory: Path) -> Iterator[_Running]:
    """Run a command of this command line in the background, and stop it at the end."""
    log = directory / f"{name}.log"
    # Settings of the user's own server are not the demo's.
    environment = {k: v for k, v in os.environ.items() if not k.startswith("TUNESMITH_")}
    with log.open("wb") as output:
        process = subprocess.Popen(
            [sys.executable, "-c", "from tuner.cli import main; main()", *arguments],
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            env={**environment, "PYTHONUNBUFFERED": "1"},
            # Ctrl-C is for the demo, which then stops it.
            start_new_session=True,
        )
    try:
        yield _Running(name=name, process=process, log=log)
    finally:
        _stop(process)


def _stop(process: subprocess.Popen[bytes]) -> None:
    for number, patience_secs in _STOPS:
        if process.poll() is None:
            process.send_signal(number)
            try:
                process.wait(patience_secs)
            except (subprocess.TimeoutExpired, KeyboardInterrupt):
                logger.debug("process %d is slow to stop", process.pid)


def _await_server(url: str, server: _Running) -> None:
    with Connection(url, timeout_secs=5.0) as connection:
        deadline = time.monotonic() + _START_SECS
        while True:
            server.check()
            try:
                connection.send("GET", "/readyz", retry=False)
                return
            except UnavailableError:
                if time.monotonic() > deadline:
                    raise
                time.sleep(0.1)


def _await_worker(client: Client, server: _Running, worker: _Running) -> None:
    deadline = time.monotonic() + _START_SECS
    while not any(client.workers(limit=1)):
        _check_alive(server, worker)
        if time.monotonic() > deadline:
            raise UnavailableError(f"the worker has not registered within {_START_SECS:g} s")
        time.sleep(0.1)


def _check_alive(*running: _Running) -> None:
    for each in running:
        each.check()


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port
