"""``/v1/leases``: what a worker says while it measures a batch."""

import logging

from fastapi import APIRouter, Response

from schedules.errors import ConflictError
from service.api.context import MEASURE, Context, Id
from service.errors import Refusal
from tuner.client import convert, wire

logger = logging.getLogger(__name__)

router = APIRouter(prefix="/v1/leases", tags=["leases"], dependencies=[MEASURE])


@router.post("/{lease_id}/heartbeat", response_model=wire.HeartbeatAnswer)
def heartbeat(
    lease_id: Id, request: wire.HeartbeatRequest, services: Context
) -> wire.HeartbeatAnswer:
    """Keep a lease, and learn whether to go on."""
    ttl_secs = services.settings.lease_ttl_secs
    try:
        command = services.store.heartbeat(lease_id, request.epoch, ttl_secs)
    except ConflictError as error:
        raise _lost(error) from None
    return wire.HeartbeatAnswer(command=command.value, ttl_secs=ttl_secs)


@router.post("/{lease_id}/results", response_model=wire.ResultsAnswer)
def report(lease_id: Id, request: wire.ResultsRequest, services: Context) -> wire.ResultsAnswer:
    """Report results. They are stored once, even where the lease is lost or is told of twice."""
    told = services.store.report(
        lease_id,
        request.epoch,
        request.worker_id,
        convert.environment(request.environment),
        [(item.item_id, convert.result_from_wire(item.result)) for item in request.results],
        protocol_version=request.protocol_version,
    )
    services.metrics.records_stored.labels("measured").inc(len(told.accepted))
    leased = services.fleet.lease(lease_id)
    logger.debug(
        "%d results of lease %s are stored",
        len(told.accepted),
        lease_id,
        extra={
            "action": "store_results",
            "job_id": leased and leased.job_id,
            "lease_id": lease_id,
            "worker_id": request.worker_id,
        },
    )
    if told.accepted and leased is not None:
        services.events.job_changed(leased.job_id)
    return wire.ResultsAnswer(
        accepted=list(told.accepted), duplicate=list(told.duplicate), lease_open=told.lease_open
    )


@router.post("/{lease_id}/release", status_code=204)
def release(lease_id: Id, request: wire.ReleaseRequest, services: Context) -> Response:
    """Give a lease back: what is not measured yet waits for a worker again."""
    try:
        services.store.release(lease_id, request.epoch)
    except ConflictError as error:
        raise _lost(error) from None
    leased = services.fleet.lease(lease_id)
    if leased is not None:
        services.events.batch_ready(leased.target_id)
    return Response(status_code=204)


def _lost(error: ConflictError) -> Refusal:
    return Refusal(409, "lease_lost", str(error))
