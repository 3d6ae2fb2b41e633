"""The events of one job as a stream."""

import time
from collections.abc import AsyncIterator
from dataclasses import dataclass, field

from pydantic import BaseModel
from starlette.concurrency import run_in_threadpool

from service.api.context import Services
from service.api.views import current_job_view, trial_view
from service.db.queries import RecordFilter
from tuner.client import wire

KEEP_ALIVE_SECS = 15.0

# A stream begins with the trials so far, but not with more than these.
_PAGE = 200
_MOST_PAGES = 5


@dataclass(kw_only=True)
class _Told:
    """What the reader of one stream knows already."""

    job: wire.JobView | None = None
    best_record_id: str | None = None
    record_ids: set[str] = field(default_factory=set)


async def job_events(services: Services, job_id: str) -> AsyncIterator[str]:
    """Write the events of a job until it ends or the server does."""
    told = _Told()
    last_sent = time.monotonic()
    with services.events.watch_job(job_id) as waiter:
        while True:
            events = await run_in_threadpool(_news, services, job_id, told)
            for event in events:
                yield event
                last_sent = time.monotonic()
            ended = told.job is not None and told.job.state not in ("queued", "running")
            if ended or services.events.closed:
                return
            if time.monotonic() - last_sent >= KEEP_ALIVE_SECS:
                yield ": keep-alive\n\n"
                last_sent = time.monotonic()
            await waiter.wait(services.settings.poll_secs)


def _news(services: Services, job_id: str, told: _Told) -> list[str]:
    """Read what is new and note that it is told."""
    # The job is read first: what it says of its end then holds for the records read after it.
    job = current_job_view(services.store, services.store.job(job_id))
    events = []
    if job != told.job:
        trials = _new_trials(services, job, told)
        events += [_event("trial", trial) for trial in trials]
        if job.best is not None and job.best.record_id != told.best_record_id:
            told.best_record_id = job.best.record_id
            events.append(_event("best", job.best))
        events.append(_event("state", job))
        told.job = job
    return events


def _new_trials(services: Services, job: wire.JobView, told: _Told) -> list[wire.TrialView]:
    fresh: list[wire.TrialView] = []
    cursor = None
    for _ in range(_MOST_PAGES):
        page = services.store.records(RecordFilter(job_id=job.id), limit=_PAGE, cursor=cursor)
        unseen = [record for record in page.items if record.record_id not in told.record_ids]
        fresh += [trial_view(record) for record in unseen]
        told.record_ids.update(record.record_id for record in unseen)
        cursor = page.next_cursor
        if cursor is None or len(unseen) < len(page.items):
            break
    return fresh[::-1]


def _event(name: str, data: BaseModel) -> str:
    return f"event: {name}\ndata: {data.model_dump_json()}\n\n"
