"""Finished jobs as runs of an MLflow tracking server, and cost models in its registry.

It is a mirror for people who compare experiments there: the results are in Tunesmith's database. So
nothing waits for it and nothing fails with it; a job that cannot be sent is left out, and logged.
"""

import json
import logging
import queue
import threading
from collections.abc import Callable
from contextlib import closing, suppress
from functools import partial
from typing import Any

import httpx

from schedules.errors import TunesmithError
from schedules.records import Best, Purpose, TuningRecord
from service.db.queries import RecordFilter
from service.db.store import Store
from service.db.values import Job, JobState
from service.mlflow_registry import Registry
from service.mlflow_rest import ANSWER_SECS, Tracking, millis
from tuner.client import convert

logger = logging.getLogger(__name__)

WAITING = 1000
"""So many jobs wait to be sent; further ones are left out."""
LOOK_SECS = 60.0
"""How often it looks for new versions of the cost model, whatever ends."""
PAUSE_SECS = 30.0
"""After a failure; the jobs that end meanwhile wait."""

# MLflow takes so many metrics and so long a parameter in one call.
_MOST_METRICS = 900
_LONGEST_PARAMETER = 6000


class MlflowSink:
    """Sends jobs that have ended, in a thread of its own.

    Parameters
    ----------
    store : Store
        Has the jobs and their records.
    uri : str
        Of the tracking server, such as ``http://127.0.0.1:5000``.
    pause_secs : float
        How long it waits after a failure.
    """

    def __init__(self, store: Store, uri: str, *, pause_secs: float = PAUSE_SECS) -> None:
        self._store = store
        self._uri = uri.rstrip("/")
        self._pause_secs = pause_secs
        self._ended: queue.Queue[str | None] = queue.Queue(WAITING)
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._loop, name="mlflow", daemon=True)

    def start(self) -> None:
        """Start the thread."""
        self._thread.start()

    def stop(self) -> None:
        """End after the job that is being sent; those that wait are left out. Idempotent."""
        self._stopping.set()
        with suppress(queue.Full):
            self._ended.put_nowait(None)
        if self._thread.is_alive():
            self._thread.join(ANSWER_SECS)

    def job_ended(self, job_id: str) -> None:
        """Send a job some time; returns at once and never raises."""
        try:
            self._ended.put_nowait(job_id)
        except queue.Full:
            logger.warning("job %s is not sent to MLflow: too many wait", job_id)

    def _loop(self) -> None:
        registry = Registry(self._store)
        with closing(Tracking(self._uri)) as tracking:
            while not self._stopping.is_set():
                try:
                    job_id = self._ended.get(timeout=LOOK_SECS)
                except queue.Empty:
                    job_id = ""
                if job_id is None or self._stopping.is_set():
                    break
                self._attempt("The cost model", partial(registry.mirror, tracking))
                if job_id:
                    self._attempt(f"Job {job_id}", partial(self._send, tracking, job_id))

    def _attempt(self, what: str, send: Callable[[], None]) -> None:
        try:
            send()
        except (httpx.HTTPError, TunesmithError, KeyError, ValueError) as error:
            logger.warning(
                "%s is not sent to MLflow at %s: %s",
                what,
                self._uri,
                error,
                extra={"action": "send_to_mlflow"},
            )
            self._stopping.wait(self._pause_secs)
        except Exception:
            logger.exception("%s is not sent to MLflow", what)

    def _send(self, tracking: Tracking, job_id: str) -> None:
        job = self._store.job(job_id)
        best = self._store.best(job.spec.workload_id, job.spec.target_id)
        records = [*self._store.iter_records(RecordFilter(job_id=job_id))][::-1]
        run_id, artifact_uri = tracking.start_run(
            f"{_workload_name(self._store, job)} {job_id[:12]}",
            job.started_at or job.created_at,
            job_id=job_id,
        )
        metrics = _metrics(job, best, records)
        for start in range(0, len(metrics), _MOST_METRICS):
            tracking.post(
                "runs/log-batch",
                run_id=run_id,
                metrics=metrics[start : start + _MOST_METRICS],
                params=[] if start else _parameters(self._store, job),
            )
        for name, text in _files(best, records).items():
            if not tracking.put_file(artifact_uri, name, text.encode()):
                logger.debug(
                    "MLflow's artefacts are at %s, which it does not pass on", artifact_uri
                )
                break
        failed = job.state is not JobState.DONE
        tracking.end_run(run_id, job.finished_at or job.created_at, failed=failed)


def _files(best: Best | None, records: list[TuningRecord]) -> dict[str, str]:
    lines = [convert.record_to_wire(record).model_dump_json() for record in records]
    files = {"records.ndjson": "".join(f"{line}\n" for line in lines)}
    if best is not None:
        files["best.json"] = convert.best_to_wire(best).model_dump_json(indent=2)
    return files


def _metrics(job: Job, best: Best | None, records: list[TuningRecord]) -> list[dict[str, Any]]:
    """Return the aggregates, and the best so far at each trial that improved it."""
    ended = millis(job.finished_at or job.created_at)
    values = {
        "trials": float(job.trials_done),
        "failures": float(sum(job.failures.values())),
        **{f"failures.{kind.value}": float(count) for kind, count in job.failures.items()},
    }
    if job.finished_at is not None and job.started_at is not None:
        values["job_secs"] = (job.finished_at - job.started_at).total_seconds()
    if best is not None:
        values["best_latency_secs"] = best.latency_secs
        if best.default_latency_secs is not None and best.speedup is not None:
            values["default_latency_secs"] = best.default_latency_secs
            values["speedup"] = best.speedup
    metrics = [
        {"key": name, "value": value, "timestamp": ended, "step": 0}
        for name, value in values.items()
    ]
    trials = [record for record in records if record.purpose is Purpose.TRIAL]
    incumbent_secs = float("inf")
    for step, record in enumerate(trials, start=1):
        secs = record.result.latency_secs
        if secs is not None and secs < incumbent_secs:
            incumbent_secs = secs
            at = millis(record.created_at)
            metrics.append({"key": "trial_best_secs", "value": secs, "timestamp": at, "step": step})
    return metrics


def _parameters(store: Store, job: Job) -> list[dict[str, str]]:
    spec = job.spec
    workload, target = store.workload(spec.workload_id), store.target(spec.target_id)
    values: dict[str, Any] = {
        "workload": workload.name,
        "workload_id": spec.workload_id,
        "target": json.dumps(target.as_dict()),
        "target_id": spec.target_id,
        "space": spec.space,
        "trials_budget": spec.trials,
        "seconds_budget": spec.seconds,
        "least_gain": spec.least_gain,
        "seed": spec.seed,
        "priority": spec.priority,
        "submitter": spec.submitter or None,
    }
    if workload.call is not None:
        values |= {"operator": workload.call.op, "dtype": workload.call.dtype}
        values |= {f"args.{name}": value for name, value in workload.call.args.items()}
    return [
        {"key": name, "value": str(value)[:_LONGEST_PARAMETER]}
        for name, value in values.items()
        if value is not None
    ]


def _workload_name(store: Store, job: Job) -> str:
    return store.workload(job.spec.workload_id).name
