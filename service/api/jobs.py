"""``/v1/jobs``: asking for tuning, and following it."""

import logging
from typing import Annotated

from fastapi import APIRouter, Header, Request, Response
from starlette.responses import StreamingResponse

from service.api.context import (
    DEFAULT_LIMIT,
    READ,
    SUBMIT,
    Context,
    Cursor,
    Id,
    Limit,
)
from service.api.stream import job_events
from service.api.submission import submit_job
from service.api.views import current_job_view, current_job_views
from service.db.values import JobState
from tuner.client import wire

logger = logging.getLogger(__name__)

router = APIRouter(prefix="/v1/jobs", tags=["jobs"])


@router.post(
    "",
    status_code=201,
    response_model=wire.JobView,
    responses={200: {"model": wire.JobView, "description": "An equal job is active: attached."}},
)
def submit(
    request: wire.JobRequest,
    services: Context,
    response: Response,
    submitter: Annotated[str, SUBMIT],
    idempotency_key: Annotated[str | None, Header(min_length=1, max_length=200)] = None,
) -> wire.JobView:
    """Submit a job, or join the active one that asks for the same."""
    job, created = submit_job(services, request, submitter, idempotency_key=idempotency_key)
    response.status_code = 201 if created else 200
    response.headers["Location"] = f"{router.prefix}/{job.job_id}"
    return current_job_view(services.store, job, attached=not created)


@router.get("", response_model=wire.Page[wire.JobView], dependencies=[READ])
def list_jobs(
    services: Context,
    state: JobState | None = None,
    limit: Limit = DEFAULT_LIMIT,
    cursor: Cursor = None,
) -> wire.Page[wire.JobView]:
    """List jobs, newest first."""
    store = services.store
    found = store.jobs(state=state, limit=limit, cursor=cursor)
    return wire.Page(items=current_job_views(store, found.items), next_cursor=found.next_cursor)


@router.get("/{job_id}", response_model=wire.JobView, dependencies=[READ])
def get_job(job_id: Id, services: Context) -> wire.JobView:
    """Show a job."""
    return current_job_view(services.store, services.store.job(job_id))


@router.post("/{job_id}/cancel", response_model=wire.JobView, dependencies=[SUBMIT])
def cancel(job_id: Id, services: Context) -> wire.JobView:
    """Cancel a job; a finished one stays as it is. Its workers are told at their next heartbeat."""
    job = services.store.cancel_job(job_id)
    logger.info("Job %s is %s", job_id, job.state, extra={"action": "cancel_job", "job_id": job_id})
    services.events.job_changed(job_id)
    return current_job_view(services.store, job)


@router.get(
    "/{job_id}/events",
    response_class=StreamingResponse,
    responses={
        200: {
            "content": {"text/event-stream": {}},
            "description": "Events `state` (a job), `trial` (a record without its trace) and "
            "`best` (a best), until the job ends.",
        }
    },
    dependencies=[READ],
)
def follow(job_id: Id, services: Context, request: Request) -> StreamingResponse:
    """Follow a job by server-sent events, from its first trial to its end."""
    services.store.job(job_id)  # A 404 has to come before the stream begins.
    return StreamingResponse(
        job_events(services, job_id),
        media_type="text/event-stream",
        headers={"Cache-Control": "no-store", "X-Accel-Buffering": "no"},
    )
