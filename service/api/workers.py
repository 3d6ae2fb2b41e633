"""``/v1/workers``: registering, and getting work by long polling."""

import logging
import time

from fastapi import APIRouter, Request, Response
from starlette.concurrency import run_in_threadpool

from schedules.target import Target
from service.api.context import (
    DEFAULT_LIMIT,
    MEASURE,
    READ,
    Context,
    Cursor,
    Id,
    Limit,
    page,
)
from service.api.views import lease_answer, worker_view
from tuner.client import convert, wire

logger = logging.getLogger(__name__)

router = APIRouter(prefix="/v1/workers", tags=["workers"])


@router.post("", status_code=201, response_model=wire.RegisterAnswer, dependencies=[MEASURE])
def register(request: wire.RegisterRequest, services: Context) -> wire.RegisterAnswer:
    """Register a worker; an earlier one of the same name is replaced."""
    target = Target.parse(request.target)
    worker = services.store.register_worker(
        request.name, target, convert.environment(request.environment)
    )
    services.fleet.registered(worker.worker_id, target.target_id)
    logger.info(
        "Worker %s is registered as %s for %s",
        worker.name,
        worker.worker_id,
        target,
        extra={"action": "register_worker", "worker_id": worker.worker_id},
    )
    # What the worker of that name had leased waits again.
    services.events.batch_ready(target.target_id)
    return wire.RegisterAnswer(
        worker_id=worker.worker_id,
        target_id=target.target_id,
        heartbeat_secs=services.settings.heartbeat_secs,
    )


@router.get("", response_model=wire.Page[wire.WorkerView], dependencies=[READ])
def list_workers(
    services: Context, limit: Limit = DEFAULT_LIMIT, cursor: Cursor = None
) -> wire.Page[wire.WorkerView]:
    """List registered workers."""
    return page(services.store.workers(limit=limit, cursor=cursor), worker_view)


@router.post(
    "/{worker_id}/lease",
    response_model=wire.LeaseAnswer,
    responses={204: {"description": "There was no work in time; ask again."}},
    dependencies=[MEASURE],
)
async def lease(
    worker_id: Id, request: wire.LeaseRequest, services: Context, http: Request
) -> wire.LeaseAnswer | Response:
    """Lease a batch, waiting for one if need be. A lease that the worker still had is given up."""
    store, events, fleet = services.store, services.events, services.fleet
    deadline = time.monotonic() + request.wait_secs
    target_id = fleet.known_target_id(worker_id)
    if target_id is None:
        target_id = await run_in_threadpool(fleet.target_id, worker_id)
    turn = fleet.take_turn(worker_id)
    # Nothing here holds a thread while it waits.
    with events.watch_batches(target_id) as waiter:
        has_work = await services.lookout.has_work(worker_id, target_id)
        while not events.closed:
            # A request that the worker has given up would take the lease of its next one away.
            if await http.is_disconnected() or not fleet.has_turn(worker_id, turn):
                if has_work:
                    # It is for someone else.
                    events.batch_ready(target_id)
                break
            if has_work:
                found = await run_in_threadpool(
                    store.lease_batch, worker_id, services.settings.lease_ttl_secs
                )
                if found is not None and await http.is_disconnected():
                    await run_in_threadpool(store.release, found.lease_id, found.epoch)
                    continue
                if found is not None:
                    fleet.leased(found)
                    services.metrics.lease_wait_secs.observe(found.waited_secs)
                    logger.debug(
                        "Worker %s leases %d candidates",
                        worker_id,
                        len(found.items),
                        extra={
                            "action": "lease_batch",
                            "job_id": found.job_id,
                            "lease_id": found.lease_id,
                            "worker_id": worker_id,
                        },
                    )
                    return lease_answer(found)
            left_secs = deadline - time.monotonic()
            if left_secs <= 0:
                services.lookout.sent_away(worker_id)
                break
            has_work = await waiter.wait(left_secs)
    return Response(status_code=204)
