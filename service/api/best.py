"""``/v1/best`` and ``/v1/bests``: what build pipelines look up."""

from typing import Annotated

from fastapi import APIRouter, Header, Query, Request, Response
from starlette.concurrency import run_in_threadpool

from schedules.errors import NotFoundError
from service.api.context import (
    DEFAULT_LIMIT,
    READ,
    Context,
    Cursor,
    IdFilter,
    Limit,
    page,
)
from service.api.deadline import may_be_told, tuned_in_time
from service.auth import Scope, needs
from service.errors import Refusal
from service.look_ups import ID_LENGTH, KEEP
from tuner.client import convert, wire

_NO_BEST = (
    "no best is known for this workload on this target, and nothing like it either; tune it with "
    "POST /v1/jobs and ask again when the job is done"
)
_UNKEPT = {"Cache-Control": "no-store"}
router = APIRouter(prefix="/v1", tags=["best"])

RequiredId = Annotated[str, Query(min_length=1, max_length=ID_LENGTH)]


@router.get(
    "/best",
    response_model=wire.BestView,
    responses={
        200: {"headers": {"ETag": {"schema": {"type": "string"}}}},
        304: {"description": "The best is still that of `If-None-Match`."},
    },
    dependencies=[READ],
)
async def get_best(
    workload_id: RequiredId,
    target_id: RequiredId,
    services: Context,
    if_none_match: Annotated[str | None, Header()] = None,
) -> Response:
    """Show the best of a workload on a target, by their ids."""
    found = await services.bests.look_up(workload_id, target_id)
    if found is None:
        graded = await services.answers.by_ids(workload_id, target_id)
        if graded is None:
            raise Refusal(404, "not_found", _NO_BEST, _UNKEPT)
        return Response(graded.model_dump_json(), media_type="application/json", headers=_UNKEPT)
    headers = {"ETag": found.etag, "Cache-Control": KEEP}
    if if_none_match is not None and _names(if_none_match, found.etag):
        return Response(status_code=304, headers=headers)
    return Response(found.body, media_type="application/json", headers=headers)


@router.post("/best", response_model=wire.BestView, dependencies=[READ])
async def look_up(request: wire.BestRequest, services: Context, http: Request) -> wire.BestView:
    """Show the best of a workload on a target, described as in a job.

    With `deadline_secs`, what was never tuned is tuned for so long, and behind the answer the job
    goes on. That takes the scope `submit`.
    """
    target = await run_in_threadpool(services.resolver.target, request.target)
    workload_id = await run_in_threadpool(services.resolver.known_workload_id, request.workload)
    if workload_id is not None:
        best = await run_in_threadpool(services.store.best, workload_id, target.target_id)
        if best is not None:
            return convert.best_to_wire(best)
    if request.deadline_secs is not None:
        submitter = await needs(Scope.SUBMIT)(http)
        best = await tuned_in_time(services, request, request.deadline_secs, submitter)
        if best is not None:
            return convert.best_to_wire(best)
    if not await run_in_threadpool(may_be_told, services, request, target):
        raise NotFoundError(_NO_BEST)
    workload = await run_in_threadpool(services.resolver.workload, request.workload)
    graded = await services.answers.of(workload, target)
    if graded is None:
        raise NotFoundError(_NO_BEST)
    return graded


@router.get("/bests", response_model=wire.Page[wire.BestView], dependencies=[READ])
def list_bests(
    services: Context,
    workload_id: IdFilter = None,
    target_id: IdFilter = None,
    limit: Limit = DEFAULT_LIMIT,
    cursor: Cursor = None,
) -> wire.Page[wire.BestView]:
    """List all bests."""
    found = services.store.bests(
        workload_id=workload_id, target_id=target_id, limit=limit, cursor=cursor
    )
    return page(found, convert.best_to_wire)


def _names(if_none_match: str, etag: str) -> bool:
    """Whether a list of entity tags has one; proxies may have marked it as weak."""
    tags = (tag.strip().removeprefix("W/") for tag in if_none_match.split(","))
    return any(tag in ("*", etag) for tag in tags)
