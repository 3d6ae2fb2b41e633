"""Finished jobs as runs of an MLflow tracking server.

It is a mirror for people who compare experiments there: the results are in Tunesmith's database. So
nothing waits for it and nothing fails with it; a job that cannot be sent is left out, and logged.
"""

import json
import logging
import queue
import threading
import time
from contextlib import suppress
from datetime import datetime
from typing import Any

import httpx

from schedules.errors import TunesmithError
from schedules.records import Best, Purpose, TuningRecord
from service.db.store import Store
from service.db.values import Job, JobState, RecordFilter
from tuner.client import convert

logger = logging.getLogger(__name__)

EXPERIMENT = "tunesmith"
WAITING = 1000
"""So many jobs wait to be sent; further ones are left out."""
ANSWER_SECS = 10.0
PAUSE_SECS = 30.0
"""After a failure; the jobs that end meanwhile wait."""

_PROXIED = "mlflow-artifacts:/"
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
        with httpx.Client(base_url=self._uri, timeout=ANSWER_SECS) as http:
            while (job_id := self._ended.get()) is not None and not self._stopping.is_set():
                try:
                    self._send(http, job_id)
                except (httpx.HTTPError, TunesmithError, KeyError, ValueError) as error:
                    logger.warning(
                        "Job %s is not sent to MLflow at %s: %s",
                        job_id,
                        self._uri,
                        error,
                        extra={"action": "send_to_mlflow", "job_id": job_id},
                    )
                    self._stopping.wait(self._pause_secs)
                except Exception:
                    logger.exception("job %s is not sent to MLflow", job_id)

    def _send(self, http: httpx.Client, job_id: str) -> None:
        job = self._store.job(job_id)
        best = self._store.best(job.spec.workload_id, job.spec.target_id)
        records = [*self._store.iter_records(RecordFilter(job_id=job_id))][::-1]
        created = _call(
            http,
            "runs/create",
            experiment_id=_experiment(http),
            run_name=f"{_workload_name(self._store, job)} {job_id[:12]}",
            start_time=_millis(job.started_at or job.created_at),
            tags=[{"key": "tunesmith.job_id", "value": job_id}],
        )
        info = created["run"]["info"]
        run_id = info["run_id"]
        metrics = _metrics(job, best, records)
        for start in range(0, len(metrics), _MOST_METRICS):
            _call(
                http,
                "runs/log-batch",
                run_id=run_id,
                metrics=metrics[start : start + _MOST_METRICS],
                params=[] if start else _parameters(self._store, job),
            )
        self._send_files(http, info["artifact_uri"], best, records)
        failed = job.state is not JobState.DONE
        _call(
            http,
            "runs/update",
            run_id=run_id,
            status="FAILED" if failed else "FINISHED",
            end_time=_millis(job.finished_at or job.created_at),
        )

    def _send_files(
        self, http: httpx.Client, uri: str, best: Best | None, records: list[TuningRecord]
    ) -> None:
        if not uri.startswith(_PROXIED):
            # It keeps them where only its own clients, with its own credentials, can write.
            logger.debug("MLflow's artefacts are at %s, which it does not pass on", uri)
            return
        lines = [convert.record_to_wire(record).model_dump_json() for record in records]
        files = {"records.ndjson": "".join(f"{line}\n" for line in lines)}
        if best is not None:
            files["best.json"] = convert.best_to_wire(best).model_dump_json(indent=2)
        for name, text in files.items():
            path = f"/api/2.0/mlflow-artifacts/artifacts/{uri.removeprefix(_PROXIED).strip('/')}"
            http.put(f"{path}/{name}", content=text.encode()).raise_for_status()


def _call(http: httpx.Client, call: str, /, **body: Any) -> Any:
    answer = http.post(f"/api/2.0/mlflow/{call}", json=body)
    answer.raise_for_status()
    return answer.json()


def _experiment(http: httpx.Client) -> str:
    """Return the id of our experiment, which is made if need be."""
    found = http.get(
        "/api/2.0/mlflow/experiments/get-by-name", params={"experiment_name": EXPERIMENT}
    )
    if found.status_code == httpx.codes.NOT_FOUND:
        made: str = _call(http, "experiments/create", name=EXPERIMENT)["experiment_id"]
        return made
    found.raise_for_status()
    known: str = found.json()["experiment"]["experiment_id"]
    return known


def _metrics(job: Job, best: Best | None, records: list[TuningRecord]) -> list[dict[str, Any]]:
    """Return the aggregates, and the best so far at each trial that improved it."""
    ended = _millis(job.finished_at or job.created_at)
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
            at = _millis(record.created_at)
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


def _millis(moment: datetime | None) -> int:
    return int((moment.timestamp() if moment is not None else time.time()) * 1000)
