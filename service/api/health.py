"""``/healthz``, ``/readyz`` and ``/metrics``: for those who keep the server running."""

from importlib.metadata import version

from fastapi import APIRouter
from prometheus_client import CONTENT_TYPE_LATEST
from starlette.responses import Response

from service.api.context import READ, Context
from tuner.client import wire

router = APIRouter(tags=["health"])

_OK = wire.HealthView(status="ok", version=version("tunesmith"))


@router.get("/healthz", response_model=wire.HealthView)
async def healthz() -> wire.HealthView:
    """Answer while the process lives; needs no token."""
    return _OK


@router.get("/readyz", response_model=wire.HealthView)
def readyz(services: Context) -> wire.HealthView:
    """Answer while the database does too; needs no token."""
    services.store.ping()
    return _OK


@router.get("/metrics", response_class=Response, dependencies=[READ])
def metrics(services: Context) -> Response:
    """Show metrics in Prometheus's text format."""
    return Response(services.metrics.text(), media_type=CONTENT_TYPE_LATEST)
