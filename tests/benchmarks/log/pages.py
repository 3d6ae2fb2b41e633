"""What people ask of the tuning log: pages of the dashboard, and REST calls."""

import random
import urllib.parse
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from schedules.operators import operators
from tests.benchmarks.log import fill


@dataclass(frozen=True, kw_only=True)
class Chance:
    """Draws what a reader might look at."""

    size: fill.Size
    random: random.Random

    def job(self) -> str:
        """Return the id of a job, most often of a late one."""
        jobs = self.size.jobs
        return fill.job_id(jobs - 1 - int(jobs * self.random.random() ** 3))

    def workload(self) -> str:
        """Return the id of a workload."""
        return fill.workload_id(self.random.randrange(self.size.workloads))

    def worker(self) -> str:
        """Return the id of a worker."""
        return fill.worker_id(self.random.randrange(self.size.workers))

    def target(self) -> str:
        """Return the id of a target."""
        return self.random.choice(fill.TARGETS).target_id

    def operator(self) -> str:
        """Return an operator."""
        return self.random.choice(operators()).name

    def days_ago(self, *, whole: bool = False) -> str:
        """Return a time in the range of the log, or the beginning of its day."""
        at = datetime.now(UTC) - timedelta(days=self.random.uniform(1, fill.DAYS - 1))
        if whole:
            at = at.replace(hour=0, minute=0, second=0, microsecond=0)
        return at.isoformat()


def _records(**filters: str) -> str:
    return "/v1/records?" + urllib.parse.urlencode({"limit": "100", **filters})


def _summary(group_by: str, **filters: str) -> str:
    return "/v1/records/summary?" + urllib.parse.urlencode({"group_by": group_by, **filters})


def _hour_ago() -> str:
    return (datetime.now(UTC) - timedelta(hours=1)).isoformat()


DASHBOARD: Mapping[str, Callable[[Chance], str]] = {
    "dashboard: overview": lambda _: "/",
    "dashboard: jobs": lambda _: "/jobs",
    "dashboard: jobs of a target that are done": lambda of: (
        f"/jobs?state=done&target_id={of.target()}"
    ),
    "dashboard: jobs by a text": lambda of: f"/jobs?q={of.operator()}",
    "dashboard: a job": lambda of: f"/jobs/{of.job()}",
    "dashboard: a job's failed trials": lambda of: f"/jobs/{of.job()}?show=failed",
    "dashboard: workloads": lambda _: "/workloads",
    "dashboard: a workload": lambda of: f"/workloads/{of.workload()}",
    "dashboard: a target": lambda of: f"/targets/{of.target()}",
    "dashboard: workers": lambda _: "/workers",
    "dashboard: a worker": lambda of: f"/workers/{of.worker()}",
}

PAGES: Mapping[str, Callable[[Chance], str]] = {
    **DASHBOARD,
    "overview: jobs": lambda _: "/v1/jobs?limit=50",
    "overview: running jobs": lambda _: "/v1/jobs?state=running",
    "overview: workers": lambda _: "/v1/workers",
    "overview: newest records": lambda _: _records(limit="50"),
    "overview: failures of the last hour": lambda _: _summary("failure", since=_hour_ago()),
    "job": lambda of: f"/v1/jobs/{of.job()}",
    "job: its records": lambda of: _records(job_id=of.job()),
    "job: its failures": lambda of: _summary("failure", job_id=of.job()),
    "records": lambda of: _records(until=of.days_ago()),
    "records of a workload": lambda of: _records(workload_id=of.workload()),
    "records of a workload and target": lambda of: _records(
        workload_id=of.workload(), target_id=of.target()
    ),
    "records of a target": lambda of: _records(target_id=of.target(), until=of.days_ago()),
    "records of a worker": lambda of: _records(worker_id=of.worker(), until=of.days_ago()),
    "records of an operator": lambda of: _records(operator=of.operator(), until=of.days_ago()),
    "records by failure": lambda of: _records(failure="run_error", until=of.days_ago()),
    "records of a worker and operator": lambda of: _records(
        worker_id=of.worker(), operator=of.operator()
    ),
    "records of a worker by a rare failure": lambda of: _records(
        worker_id=of.worker(), failure="worker_lost"
    ),
    "records within a latency range": lambda of: _records(
        operator=of.operator(), latency_min_secs="0.001", latency_max_secs="0.002"
    ),
    "records of a device that is not there": lambda _: _records(device="none such"),
    "records of a space": lambda of: _records(space="default", until=of.days_ago()),
    "summary by operator": lambda _: _summary("operator"),
    "summary by target": lambda _: _summary("target"),
    "summary by worker": lambda _: _summary("worker"),
    "summary by failure": lambda _: _summary("failure"),
    "summary by day": lambda _: _summary("day"),
    "summary by operator, since a day": lambda of: _summary(
        "operator", since=of.days_ago(whole=True)
    ),
    "summary by worker, since a day": lambda of: _summary("worker", since=of.days_ago(whole=True)),
    "summary by day of an operator": lambda of: _summary("day", operator=of.operator()),
    "summary by day of a worker": lambda of: _summary("day", worker_id=of.worker()),
    "summary by failure of a target": lambda of: _summary("failure", target_id=of.target()),
    "summary by worker of a workload": lambda of: _summary("worker", workload_id=of.workload()),
    "summary by operator of a worker": lambda of: _summary("operator", worker_id=of.worker()),
    "workloads": lambda _: "/v1/workloads",
    "targets": lambda _: "/v1/targets",
    "bests": lambda _: "/v1/bests?limit=100",
    "metrics": lambda _: "/metrics",
}
"""Makes the path of a call, by what it is for."""
