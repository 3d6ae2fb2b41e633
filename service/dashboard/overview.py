"""``/``: what happens now."""

from collections import Counter
from datetime import timedelta

from fastapi import APIRouter, Request, Response
from starlette.responses import StreamingResponse

from service.api.context import Context
from service.dashboard import pictures
from service.dashboard.html import PageRoute, render
from service.dashboard.live import changes
from service.dashboard.session import SIGNED_IN
from service.db.queries import JobQuery
from service.db.values import JobState

EVENT_STREAM = "text/event-stream"
_SHOWN = 10
_HOUR = timedelta(minutes=60)

router = APIRouter(route_class=PageRoute, include_in_schema=False, dependencies=[SIGNED_IN])


@router.get("/")
def overview(request: Request, services: Context) -> Response:
    """Show jobs, workers, throughput, failures and the newest bests."""
    store = services.store
    now = store.now()
    activity = store.activity(since=now - _HOUR)
    minute = int(now.timestamp()) // 60
    failures = Counter[str]()
    for line in activity:
        if line.failure is not None:
            failures[line.failure] += line.records
    active = [
        job
        for state in (JobState.RUNNING, JobState.QUEUED)
        for job in store.job_lines(JobQuery(state=state), limit=_SHOWN)
    ]
    return render(
        request,
        "overview.html",
        now=now,
        job_counts=services.load.jobs(),
        worker_counts=services.load.workers(),
        last_minute=sum(line.records for line in activity if line.minute == minute - 1),
        last_hour=sum(line.records for line in activity),
        failures=failures.most_common(),
        failed=failures.total(),
        chart=pictures.activity(activity, minute),
        active=active[:_SHOWN],
        ended=store.job_lines(JobQuery(), limit=_SHOWN) if not active else (),
        bests=store.best_lines(limit=_SHOWN),
        targets=store.targets_by_id(),
    )


@router.get("/events")
async def events(services: Context) -> StreamingResponse:
    """Tell the overview and the lists when to look again."""
    return StreamingResponse(
        changes(services),
        media_type=EVENT_STREAM,
        headers={"Cache-Control": "no-store", "X-Accel-Buffering": "no"},
    )
