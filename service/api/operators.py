"""``/v1/operators``: the catalogue of operators that can be named in requests."""

from fastapi import APIRouter

from schedules.operators import operators
from service.api.context import READ
from service.api.views import operator_view
from tuner.client import wire

router = APIRouter(prefix="/v1/operators", tags=["operators"], dependencies=[READ])


@router.get("", response_model=wire.Page[wire.OperatorView])
async def list_operators() -> wire.Page[wire.OperatorView]:
    """List all operators; the catalogue is one page."""
    return wire.Page(items=[operator_view(operator) for operator in operators()])
