"""``/v1/models``: versions of the cost model."""

from fastapi import APIRouter

from service.api.context import DEFAULT_LIMIT, READ, Cursor, Limit
from tuner.client import wire

router = APIRouter(prefix="/v1/models", tags=["models"], dependencies=[READ])


@router.get("", response_model=wire.Page[wire.ModelView])
async def list_models(
    limit: Limit = DEFAULT_LIMIT, cursor: Cursor = None
) -> wire.Page[wire.ModelView]:
    """List versions of the cost model: none are kept yet."""
    return wire.Page(items=[])
