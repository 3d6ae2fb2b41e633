"""``/workloads``, ``/targets``: what is tuned, and what for."""

from math import exp, log
from typing import Annotated

from fastapi import APIRouter, Query, Request, Response

from service.api.context import Context, Id
from service.dashboard import curves, pictures
from service.dashboard.html import PageRoute, render
from service.dashboard.jobs import PAGE, Text
from service.dashboard.session import SIGNED_IN
from service.db.lines import BestLine
from service.db.queries import JobQuery

_MOST_BESTS = 500
_MOST_FINALS = 500

router = APIRouter(route_class=PageRoute, include_in_schema=False, dependencies=[SIGNED_IN])


@router.get("/workloads")
def list_workloads(
    request: Request,
    services: Context,
    q: Text = "",
    offset: Annotated[int, Query(ge=0, le=1_000_000)] = 0,
) -> Response:
    """List workloads, what was tuned last first."""
    found = services.store.workload_lines(text=q.strip() or None, limit=PAGE + 1, offset=offset)
    return render(
        request,
        "workloads.html",
        now=services.store.now(),
        workloads=found[:PAGE],
        q=q,
        offset=offset,
        page_size=PAGE,
        more=len(found) > PAGE,
    )


@router.get("/workloads/{workload_id}")
def show_workload(request: Request, workload_id: Id, services: Context) -> Response:
    """Show a workload: its bests by target, their history, and its jobs."""
    store = services.store
    workload = store.workload(workload_id)
    bests = store.best_lines(workload_id=workload_id, sort="latency", descending=False, limit=PAGE)
    histories = [
        (best, curves.history(store.final_lines(workload_id, best.target_id, limit=_MOST_FINALS)))
        for best in bests[:4]
    ]
    return render(
        request,
        "workload.html",
        now=store.now(),
        workload=workload,
        bests=bests,
        histories=[(best, pictures.history(found)) for best, found in histories],
        jobs=store.job_lines(JobQuery(workload_id=workload_id), limit=PAGE),
        targets=store.targets_by_id(),
    )


@router.get("/targets")
def list_targets(request: Request, services: Context) -> Response:
    """List targets with their workers and what is known on each."""
    store = services.store
    workers: dict[str, int] = {}
    for worker in store.workers(limit=1000, cursor=None).items:
        workers[worker.target.target_id] = workers.get(worker.target.target_id, 0) + 1
    bests: dict[str, list[BestLine]] = {}
    for best in store.best_lines(limit=10_000):
        bests.setdefault(best.target_id, []).append(best)
    return render(
        request,
        "targets.html",
        lines=[
            (target_id, target, workers.get(target_id, 0), found, mean_speedup(found))
            for target_id, target in store.targets_by_id().items()
            for found in (bests.get(target_id, []),)
        ],
    )


@router.get("/targets/{target_id}")
def show_target(
    request: Request,
    target_id: Id,
    services: Context,
    sort: Text = "created",
    order: Annotated[str, Query(pattern="^(asc|desc)$")] = "desc",
) -> Response:
    """Show a target: its bests and its workers."""
    store = services.store
    bests = store.best_lines(
        target_id=target_id, sort=sort, descending=order == "desc", limit=_MOST_BESTS
    )
    workers = store.workers(limit=1000, cursor=None).items
    return render(
        request,
        "target.html",
        now=store.now(),
        target=store.target(target_id),
        bests=bests,
        speedup=mean_speedup(bests),
        sort=sort,
        order=order,
        workers=[worker for worker in workers if worker.target.target_id == target_id],
    )


def mean_speedup(bests: "tuple[BestLine, ...] | list[BestLine]") -> float | None:
    """Return the geometric mean of the speed-ups, None without any."""
    logs = [log(best.speedup) for best in bests if best.speedup]
    return exp(sum(logs) / len(logs)) if logs else None
