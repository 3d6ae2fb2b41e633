"""A server whose database tells a story: what the dashboard's tests and pictures look at.

One job is tuned for real, by the server's own orchestrator and worker. The others are told
(`tests.browser.story`).
"""

import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from schedules.records import (
    Environment,
    MeasureResult,
    Purpose,
)
from service.compute import SearchPool
from service.db.values import JobSpec, Lease, Worker
from service.orchestrator import Orchestrator
from tests.browser.story import OWNER, TTL_SECS, XEON, ZEN, Clock, Story
from tests.integration.api_server import Server, live_server
from tuner.sandbox import Sandbox


@dataclass
class Site:
    """The server and the ids of what is in it."""

    server: Server
    clock: Clock
    jobs: dict[str, str]
    workers: dict[str, Worker]
    lease: Lease | None = None

    def workload_id(self, job: str) -> str:
        return self.server.store.job(self.jobs[job]).spec.workload_id

    def budget_id(self, job: str) -> str:
        found = self.server.store.job(self.jobs[job]).spec.budget_id
        assert found is not None
        return found

    def target_id(self, job: str) -> str:
        return self.server.store.job(self.jobs[job]).spec.target_id

    def finish_lease(self) -> None:
        """Let the running job's worker report what it has, as it would over HTTP."""
        assert self.lease is not None
        worker_id = self.workers["epyc-01"].worker_id
        store = self.server.store
        results = [
            (item.item_id, MeasureResult(run_secs=(9e-4, 9.1e-4), build_secs=0.1))
            for item in self.lease.items
        ]
        store.report(self.lease.lease_id, self.lease.epoch, worker_id, Environment(), results)
        self.server.services.events.job_changed(self.jobs["running"])

    def end_running_job(self) -> None:
        store, job_id = self.server.store, self.jobs["running"]
        store.claim_jobs(OWNER, TTL_SECS)
        store.begin_finals(store.job(job_id), OWNER)
        store.finish_job(job_id, OWNER)
        self.server.services.events.job_changed(job_id)


@contextmanager
def site(
    directory: Path, sandbox: Sandbox, *, past: bool = True, tune: bool = False
) -> Iterator[Site]:
    """Make the server.

    Parameters
    ----------
    past : bool
        Whether anything happened before its running job.
    tune : bool
        Whether one job is tuned for real, which takes some seconds.
    """
    clock = Clock()
    with live_server(directory, sandbox=sandbox, clock_offset=clock, poll_secs=0.5) as server:
        story = Story(server.store, clock, sandbox)
        made = Site(server=server, clock=clock, jobs=story.jobs, workers=story.workers)
        story.register_workers()
        if past:
            story.tell()
        if tune:
            _tune(made, directory)
        _start_running_job(made, story)
        yield made


def _tune(made: Site, directory: Path) -> None:
    made.clock.offset_secs = 0.0
    server = made.server
    orchestrator = Orchestrator(
        store=server.store, events=server.services.events, pool=SearchPool(processes=1)
    )
    command = [sys.executable, "-c", "from tuner.cli import main; main(prog_name='tunesmith')"]
    command += ["worker", "--server", server.url, "--name", "this-machine"]
    with (directory / "worker.log").open("wb") as log:
        worker = subprocess.Popen(
            [*command, "--state-dir", str(directory / "worker")], stdout=log, stderr=log
        )
    try:
        orchestrator.start()
        _wait(lambda: bool(server.store.live_targets()), directory)
        request = {
            "workload": {"op": "softmax", "args": {"m": 128, "n": 128}},
            "target": server.store.worker(_newest_worker(server)).target.as_dict(),
            "budget": {"trials": 16},
        }
        made.jobs["real"] = server.http.post("/v1/jobs", json=request).json()["id"]
        _wait(lambda: not server.store.job(made.jobs["real"]).state.active, directory)
    finally:
        orchestrator.stop()
        worker.terminate()
        worker.wait()


def _newest_worker(server: Server) -> str:
    return server.store.workers(limit=1, cursor=None).items[0].worker_id


def _wait(condition, directory: Path, secs: float = 90.0) -> None:
    deadline = time.monotonic() + secs
    while not condition():
        log = (directory / "worker.log").read_text(errors="replace")[-2000:]
        assert time.monotonic() < deadline, log
        time.sleep(0.05)


def _start_running_job(made: Site, story: Story) -> None:
    """Start a job that is half through, and leave one waiting."""
    made.clock.offset_secs = -200.0
    workload = story.call("matmul", n=256, m=256, k=256)
    job = story.submit("running", workload, ZEN, 48)
    for name in ("epyc-01", "epyc-02"):
        made.server.store.touch_worker(made.workers[name].worker_id)
    for first in (0, 16):
        candidates = [story.candidate(job, first + number, 48) for number in range(16)]
        lease = story.leased(job, "epyc-01", Purpose.TRIAL, candidates)
        for place, item in enumerate(lease.items):
            story.pass_time(5)
            result = story.trial(item.candidate, (first + place) / 48, 0.012, 9.4e-5)
            story.report(lease, "epyc-01", item.item_id, result)
    made.clock.offset_secs = 0.0
    store = made.server.store
    for name in ("epyc-01", "epyc-02"):
        store.touch_worker(made.workers[name].worker_id)
    more = [story.candidate(job, 40 + number, 48) for number in range(4)]
    made.lease = story.leased(job, "epyc-01", Purpose.TRIAL, more)
    store.submit_job(
        JobSpec(
            workload_id=workload.workload_id,
            target_id=XEON.target_id,
            trials=64,
            seconds=None,
            priority=0,
            space="default",
            seed=None,
            submitter="ci",
        ),
        idempotency_key=None,
    )
