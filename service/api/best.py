"""``/v1/best`` and ``/v1/bests``: what build pipelines look up."""

from collections.abc import Callable, Coroutine
from typing import Annotated, Any

from fastapi import APIRouter, Header, Query, Request, Response
from fastapi.routing import APIRoute

from schedules.errors import NotFoundError
from schedules.records import Best
from service.api.context import (
    DEFAULT_LIMIT,
    READ,
    Context,
    Cursor,
    IdFilter,
    Limit,
    Services,
    page,
)
from service.auth import Scope, needs
from service.errors import Refusal
from tuner.client import convert, wire

_ID_LENGTH = 200
_NO_BEST = (
    "no best is known for this workload on this target; tune it with POST /v1/jobs and ask again "
    "when the job is done"
)
# Whoever keeps an answer asks each time whether it still holds, and may not show it to others.
_KEEP = "private, no-cache"

_Handler = Callable[[Request], Coroutine[Any, Any, Response]]


class LookUpRoute(APIRoute):
    """Answers a plain look-up itself, and leaves any other to FastAPI.

    It is the product's hottest call, and FastAPI's handling of dependencies and parameters would
    take longer than the answer. Nothing else is special: a query that is not plain goes FastAPI's
    way, so that what is declared on the endpoint, and how it is refused, holds for both.
    """

    def get_route_handler(self) -> _Handler:
        """Make the handler; see `APIRoute`."""
        usual: _Handler = super().get_route_handler()
        allowed = needs(Scope.READ)

        async def handle(request: Request) -> Response:
            ids = _plain_ids(request.scope["query_string"])
            if ids is None:
                return await usual(request)
            await allowed(request)
            services: Services = request.app.state.services
            return await _answer(services, *ids, request.headers.get("if-none-match"))

        return handle


router = APIRouter(prefix="/v1", tags=["best"])
look_ups = APIRouter(prefix="/v1", tags=["best"], route_class=LookUpRoute)

RequiredId = Annotated[str, Query(min_length=1, max_length=_ID_LENGTH)]


@look_ups.get(
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
    return await _answer(services, workload_id, target_id, if_none_match)


@router.post("/best", response_model=wire.BestView, dependencies=[READ])
def look_up(request: wire.BestRequest, services: Context) -> wire.BestView:
    """Show the best of a workload on a target, described as in a job."""
    target = services.resolver.target(request.target)
    workload_id = services.resolver.known_workload_id(request.workload)
    best = services.store.best(workload_id, target.target_id) if workload_id else None
    return _found(best)


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


def _found(best: Best | None) -> wire.BestView:
    if best is None:
        raise NotFoundError(_NO_BEST)
    return convert.best_to_wire(best)


def _plain_ids(query: bytes) -> tuple[str, str] | None:
    """Read the two ids of a query that is written as clients write it, None for any other."""
    first, _, second = query.partition(b"&")
    if first.startswith(b"target_id="):
        first, second = second, first
    workload_id = first.removeprefix(b"workload_id=")
    target_id = second.removeprefix(b"target_id=")
    if len(workload_id) == len(first) or len(target_id) == len(second):
        return None
    for value in (workload_id, target_id):
        if not value.isalnum() or len(value) > _ID_LENGTH:
            return None
    return workload_id.decode(), target_id.decode()


async def _answer(
    services: Services, workload_id: str, target_id: str, if_none_match: str | None
) -> Response:
    found = await services.bests.look_up(workload_id, target_id)
    if found is None:
        raise Refusal(404, "not_found", _NO_BEST, {"Cache-Control": "no-store"})
    headers = {"ETag": found.etag, "Cache-Control": _KEEP}
    if if_none_match is not None and _names(if_none_match, found.etag):
        return Response(status_code=304, headers=headers)
    return Response(found.body, media_type="application/json", headers=headers)


def _names(if_none_match: str, etag: str) -> bool:
    """Whether a list of entity tags has one; proxies may have marked it as weak."""
    tags = (tag.strip().removeprefix("W/") for tag in if_none_match.split(","))
    return any(tag in ("*", etag) for tag in tags)
