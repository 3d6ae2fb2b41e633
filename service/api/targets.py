"""``/v1/targets``: what code was or is generated for."""

from fastapi import APIRouter

from service.api.context import DEFAULT_LIMIT, READ, Context, Cursor, Id, Limit, page
from service.api.views import target_view
from tuner.client import wire

router = APIRouter(prefix="/v1/targets", tags=["targets"], dependencies=[READ])


@router.get("", response_model=wire.Page[wire.TargetView])
def list_targets(
    services: Context, limit: Limit = DEFAULT_LIMIT, cursor: Cursor = None
) -> wire.Page[wire.TargetView]:
    """List targets, newest first."""
    return page(services.store.targets(limit=limit, cursor=cursor), target_view)


@router.get("/{target_id}", response_model=wire.TargetView)
def get_target(target_id: Id, services: Context) -> wire.TargetView:
    """Show a target."""
    return target_view(services.store.target(target_id))
