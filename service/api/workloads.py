"""``/v1/workloads``: the programs that were submitted."""

from fastapi import APIRouter

from schedules.workload import Workload
from service.api.context import DEFAULT_LIMIT, READ, Context, Cursor, Id, Limit, page
from service.api.views import workload_summary
from tuner.client import convert, wire

router = APIRouter(prefix="/v1/workloads", tags=["workloads"], dependencies=[READ])


@router.get("", response_model=wire.Page[wire.WorkloadView])
def list_workloads(
    services: Context, limit: Limit = DEFAULT_LIMIT, cursor: Cursor = None
) -> wire.Page[wire.WorkloadView]:
    """List workloads, newest first, without their IR."""
    return page(services.store.workloads(limit=limit, cursor=cursor), workload_summary)


@router.get("/{workload_id}", response_model=wire.WorkloadWire)
def get_workload(workload_id: Id, services: Context) -> wire.WorkloadWire:
    """Show a workload with its IR."""
    workload: Workload = services.store.workload(workload_id)
    return convert.workload_to_wire(workload)
