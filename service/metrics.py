"""``/metrics``: what Prometheus reads."""

import time
from collections.abc import Callable, Iterator, Mapping
from http import HTTPStatus
from typing import Any

from prometheus_client import CollectorRegistry, Counter, Histogram, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily
from prometheus_client.metrics_core import Metric
from prometheus_client.registry import Collector
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from schedules.errors import UnavailableError
from service.db.values import WorkerState
from service.load import Load

# Long polls and event streams last as long as they last, and would hide all others.
_WAITING = (
    "/v1/workers/{worker_id}/lease",
    "/v1/jobs/{job_id}/events",
    "/jobs/{job_id}/events",
    "/events",
)
_BUCKETS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)

_WAIT_BUCKETS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 300, 1800)


class Metrics:
    """The metrics of one process. Thread-safe.

    Parameters
    ----------
    load : Load
        Counted at each reading.
    """

    def __init__(self, load: Load) -> None:
        self.registry = CollectorRegistry()
        self.requests = Counter(
            "tunesmith_http_requests",
            "Answered requests.",
            ("method", "route", "status"),
            registry=self.registry,
        )
        self.seconds = Histogram(
            "tunesmith_http_request_seconds",
            "Time to answer, without long polls and event streams.",
            ("method", "route"),
            buckets=_BUCKETS,
            registry=self.registry,
        )
        self.jobs_submitted = Counter(
            "tunesmith_jobs_submitted",
            "New jobs that this process took.",
            registry=self.registry,
        )
        self.records_stored = Counter(
            "tunesmith_records_stored",
            "Tuning records that this process stored, by how they came.",
            ("source",),
            registry=self.registry,
        )
        self.lease_wait_secs = Histogram(
            "tunesmith_lease_wait_seconds",
            "How long batches were ready before this process leased them.",
            buckets=_WAIT_BUCKETS,
            registry=self.registry,
        )
        self.registry.register(_LoadCollector(load))

    def answers_of(self, method: str, route: str, status: int) -> Callable[[float], None]:
        """Return what counts an answer of one kind, and the seconds that it took, at least cost."""
        count = self.requests.labels(method, route, str(status)).inc
        observe = self.seconds.labels(method, route).observe

        def note(seconds: float) -> None:
            count()
            observe(seconds)

        return note

    def text(self) -> bytes:
        """Write all metrics in Prometheus's text format."""
        return generate_latest(self.registry)


class _LoadCollector(Collector):
    def __init__(self, load: Load) -> None:
        self._load = load

    def describe(self) -> Iterator[Metric]:
        # Without it, registering would read the database.
        return iter(())

    def collect(self) -> Iterator[Metric]:
        try:
            job_counts, worker_counts = self._load.jobs(), self._load.workers()
            backlog, outcomes = self._load.backlog(), self._load.outcomes()
            quality = self._load.model_quality()
        except UnavailableError:
            # The process's own metrics matter most just then; /readyz tells of the database.
            return
        yield _gauge("tunesmith_jobs", "Active jobs.", "state", job_counts)
        yield _gauge("tunesmith_workers", "Workers.", "state", worker_counts)
        busy, idle = worker_counts[WorkerState.BUSY], worker_counts[WorkerState.IDLE]
        yield GaugeMetricFamily(
            "tunesmith_leases_open", "Batches that workers hold now.", value=busy
        )
        yield GaugeMetricFamily(
            "tunesmith_worker_utilisation",
            "Share of the workers which can be given work that have some; 0 without any.",
            value=busy / max(1, busy + idle),
        )
        yield _gauge(
            "tunesmith_batches_ready", "Batches that wait for a worker.", "target_id", backlog
        )
        records = CounterMetricFamily(
            "tunesmith_records", "Tuning records in the database.", labels=("outcome",)
        )
        for outcome, count in outcomes.items():
            records.add_metric((outcome,), count)
        yield records
        yield _gauge(
            "tunesmith_model_pairwise_accuracy",
            "Share of the pairs of recent trials of one workload that a model has put in order.",
            "model_version",
            quality,
        )


def _gauge(name: str, text: str, label: str, values: Mapping[Any, float]) -> GaugeMetricFamily:
    family = GaugeMetricFamily(name, text, labels=(label,))
    for key, value in values.items():
        family.add_metric((str(key),), value)
    return family


class RequestMetrics:
    """ASGI middleware that counts and times requests."""

    def __init__(self, app: ASGIApp, *, metrics: Metrics) -> None:
        self._app = app
        self._metrics = metrics

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        status = HTTPStatus.INTERNAL_SERVER_ERROR.value
        started = time.perf_counter()

        async def noting(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
            await send(message)

        try:
            await self._app(scope, receive, noting)
        finally:
            # The route's template: paths themselves are without end.
            route = getattr(scope.get("route"), "path", "unmatched")
            method = scope["method"] if route != "unmatched" else "any"
            self._metrics.requests.labels(method, route, str(status)).inc()
            if route not in _WAITING:
                seconds = time.perf_counter() - started
                self._metrics.seconds.labels(method, route).observe(seconds)
