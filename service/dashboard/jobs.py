"""``/jobs``: the list, one job, one of its trials, and its events."""

from collections.abc import Sequence
from datetime import datetime
from typing import Annotated, Literal

from fastapi import APIRouter, Query, Request, Response
from starlette.responses import StreamingResponse

from schedules.errors import NotFoundError
from service.api.context import Context, Id, IdFilter, Services
from service.api.stream import job_events
from service.dashboard import curves, pictures
from service.dashboard.charts import Chart
from service.dashboard.curves import Trial
from service.dashboard.html import PageRoute, render
from service.dashboard.overview import EVENT_STREAM
from service.dashboard.session import SIGNED_IN
from service.db.lines import JobLine
from service.db.queries import JobQuery
from service.db.values import Job, JobState, Worker

PAGE = 50
MOST_TRIALS = 4000
"""How many points a chart has; of longer jobs the newest are shown."""
_ROWS = 100
_MOST_WORKERS = 12

router = APIRouter(
    prefix="/jobs", route_class=PageRoute, include_in_schema=False, dependencies=[SIGNED_IN]
)

Text = Annotated[str, Query(max_length=200)]
Show = Literal["all", "failed", "final", "improved"]


@router.get("")
def list_jobs(
    request: Request,
    services: Context,
    q: Text = "",
    state: Literal["", "queued", "running", "done", "failed", "cancelled"] = "",
    target_id: Text = "",
    submitter: Text = "",
    sort: Text = "created",
    order: Literal["desc", "asc"] = "desc",
    offset: Annotated[int, Query(ge=0, le=1_000_000)] = 0,
) -> Response:
    """List jobs by what was asked for."""
    query = JobQuery(
        state=JobState(state) if state else None,
        target_id=target_id or None,
        submitter=submitter or None,
        text=q.strip() or None,
        sort=sort,
        descending=order == "desc",
    )
    found = services.store.job_lines(query, limit=PAGE + 1, offset=offset)
    return render(
        request,
        "jobs.html",
        now=services.store.now(),
        jobs=found[:PAGE],
        query=query,
        order=order,
        offset=offset,
        page_size=PAGE,
        more=len(found) > PAGE,
        states=list(JobState),
        targets=services.store.targets_by_id(),
    )


@router.get("/{job_id}")
def show_job(
    request: Request,
    job_id: Id,
    services: Context,
    scale: Literal["log", "linear"] = "log",
    show: Show = "all",
    trial: IdFilter = None,
    rows: Annotated[int, Query(ge=1, le=MOST_TRIALS)] = _ROWS,
) -> Response:
    """Show a job."""
    store = services.store
    job = store.job(job_id)
    now = store.now()
    trials = trials_of(services, job)
    line = line_of(services, job)
    earlier = store.earlier_job(job_id, job.spec.workload_id, job.spec.target_id)
    before = curves.improvements(trials_of(services, store.job(earlier.job_id))) if earlier else ()
    best = store.best(job.spec.workload_id, job.spec.target_id)
    ended = job.finished_at or now
    took_secs = (ended - (job.started_at or job.created_at)).total_seconds()

    def chart(*, by_time: bool) -> Chart | None:
        return pictures.progress(
            trials,
            by_time=by_time,
            log=scale == "log",
            earlier=before,
            default_secs=best.default_latency_secs if best else None,
            ended_secs=took_secs,
        )

    steps = store.job_steps(job_id)
    spent = curves.time_spent(steps, created_at=job.created_at, ended_at=ended)
    predicted = [one.line for one in trials if one.line.predicted_score is not None]
    known = [one for one in predicted if one.censored_secs is None]
    return render(
        request,
        "job.html",
        now=now,
        job=job,
        line=line,
        target=store.target(job.spec.target_id),
        best=best,
        improved=curves.improvements(trials),
        earlier=earlier,
        charts=[chart(by_time=False), chart(by_time=True)],
        scale=scale,
        took_secs=took_secs,
        failures=curves.failures_by_kind([one.line for one in trials]),
        shown=_rows(trials, show)[:rows],
        rows=rows,
        show=show,
        trials=trials,
        predictions=pictures.predictions(trials),
        agreement=curves.agreement(
            [one.predicted_score or 0.0 for one in known], [one.latency_secs for one in known]
        ),
        parts=list(zip(spent, pictures.time_bar(spent), strict=True)),
        build_secs=sum(one.line.build_secs or 0.0 for one in trials),
        workers=_workers(services, trials),
        selected=_record(services, job_id, trial) if trial else None,
        most=MOST_TRIALS,
    )


@router.get("/{job_id}/trials/{record_id}")
def show_trial(request: Request, job_id: Id, record_id: Id, services: Context) -> Response:
    """Show one trial of a job, as a part of its page."""
    return render(request, "_trial.html", record=_record(services, job_id, record_id))


@router.get("/{job_id}/events")
def follow(job_id: Id, services: Context) -> StreamingResponse:
    """Follow a job as ``/v1/jobs/{id}/events`` does."""
    services.store.job(job_id)
    return StreamingResponse(
        job_events(services, job_id),
        media_type=EVENT_STREAM,
        headers={"Cache-Control": "no-store", "X-Accel-Buffering": "no"},
    )


def trials_of(services: Services, job: Job) -> tuple[Trial, ...]:
    """Return a job's records in their places."""
    lines = services.store.job_trials(job.job_id, limit=MOST_TRIALS)
    return curves.numbered(lines, job.started_at or job.created_at, job.trials_done)


def line_of(services: Services, job: Job) -> JobLine:
    """Return a job with its workload's name and its best."""
    (line,) = services.store.job_lines(JobQuery(job_id=job.job_id), limit=1)
    return line


def _record(services: Services, job_id: str, record_id: str) -> object:
    record = services.store.record(record_id)
    if record.job_id != job_id:
        raise NotFoundError(f"job {job_id} has no record {record_id}")
    return record


def _rows(trials: Sequence[Trial], show: Show) -> list[Trial]:
    """Return the trials to list, newest first."""
    if show == "improved":
        steps = {step.number for step in curves.improvements(trials)}
        kept = [one for one in trials if one.number in steps and one.kind != "final"]
    elif show == "all":
        kept = list(trials)
    else:
        kept = [one for one in trials if one.kind == show]
    return kept[::-1]


def _workers(
    services: Services, trials: Sequence[Trial]
) -> list[tuple[Worker, int, datetime | None]]:
    """Return who measured, how much, and when each was checked last."""
    counts: dict[str, int] = {}
    for one in trials:
        if one.line.worker_id is not None:
            counts[one.line.worker_id] = counts.get(one.line.worker_id, 0) + 1
    found = []
    for worker_id, count in sorted(counts.items(), key=lambda item: -item[1])[:_MOST_WORKERS]:
        try:
            worker = services.store.worker(worker_id)
        except NotFoundError:
            # An imported record's worker is somebody else's.
            continue
        checks = services.store.checks(worker_id, limit=1, cursor=None).items
        found.append((worker, count, checks[0].checked_at if checks else None))
    return found
