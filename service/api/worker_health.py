"""``/v1/workers/{id}``: the health of one worker, and what people decide about it."""

import logging

from fastapi import APIRouter

from service.api.context import (
    ADMIN,
    DEFAULT_LIMIT,
    MEASURE,
    READ,
    Context,
    Cursor,
    Id,
    Limit,
    page,
)
from service.api.views import check_view, worker_view
from tuner.client import wire

logger = logging.getLogger(__name__)

AGAIN_SECS = 10.0
"""A worker whose check was bad looks again so soon, before anything is concluded."""
QUARANTINED_CHECK_SECS = 60.0

router = APIRouter(prefix="/v1/workers/{worker_id}", tags=["workers"])


@router.post("/checks", response_model=wire.CheckAnswer, dependencies=[MEASURE])
def check(worker_id: Id, request: wire.CheckRequest, services: Context) -> wire.CheckAnswer:
    """Note a run of the reference kernel, and tell the worker what follows from it."""
    settings = services.settings
    checked, quarantined = services.store.check_worker(
        worker_id,
        request.run_secs,
        boot_id=request.boot_id,
        failure=request.failure,
        strict=settings.checks_are_strict,
    )
    if checked.problem is not None:
        logger.warning(
            "Worker %s: %s", worker_id, checked.problem, extra={"action": "check_worker"}
        )
    if quarantined is not None:
        again_secs = min(QUARANTINED_CHECK_SECS, settings.check_secs)
    else:
        again_secs = settings.check_secs if checked.passed else AGAIN_SECS
    return wire.CheckAnswer(quarantined=quarantined, check_secs=again_secs)


@router.get("/checks", response_model=wire.Page[wire.CheckView], dependencies=[READ])
def list_checks(
    worker_id: Id, services: Context, limit: Limit = DEFAULT_LIMIT, cursor: Cursor = None
) -> wire.Page[wire.CheckView]:
    """List what is known of a worker's health, newest first."""
    return page(services.store.checks(worker_id, limit=limit, cursor=cursor), check_view)


@router.get("", response_model=wire.WorkerView, dependencies=[READ])
def get_worker(worker_id: Id, services: Context) -> wire.WorkerView:
    """Show a worker."""
    return worker_view(services.store.worker(worker_id))


@router.post("/drain", response_model=wire.WorkerView, dependencies=[ADMIN])
def drain(worker_id: Id, services: Context) -> wire.WorkerView:
    """Let a worker finish its batch and leave; it comes back by registering again."""
    services.store.drain_worker(worker_id)
    logger.info("Worker %s is drained", worker_id, extra={"action": "drain_worker"})
    return worker_view(services.store.worker(worker_id))


@router.post("/clear", response_model=wire.WorkerView, dependencies=[ADMIN])
def clear(worker_id: Id, services: Context) -> wire.WorkerView:
    """Trust a worker again, with all that it measured; its next good check is a new baseline."""
    restored = services.store.clear_worker(worker_id)
    worker = services.store.worker(worker_id)
    logger.info(
        "Worker %s is cleared, %d of its records count again",
        worker_id,
        restored,
        extra={"action": "clear_worker"},
    )
    services.events.batch_ready(worker.target.target_id)
    return worker_view(worker)
