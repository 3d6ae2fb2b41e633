"""``/best/{workload}/{target}``: one best, with its schedule as a program."""

from typing import Literal

from fastapi import APIRouter, Request, Response

from schedules.errors import NotFoundError
from schedules.records import Best
from service.api.context import Context, Id, Services
from service.dashboard import curves, pictures
from service.dashboard.html import PageRoute, render
from service.dashboard.session import SIGNED_IN
from service.programs import Program
from tuner.client import convert

_MOST_FINALS = 500

router = APIRouter(
    prefix="/best/{workload_id}/{target_id}",
    route_class=PageRoute,
    include_in_schema=False,
    dependencies=[SIGNED_IN],
)


@router.get("")
def show_best(request: Request, workload_id: Id, target_id: Id, services: Context) -> Response:
    """Show a best: how fast, since when, how measured, and how to use it."""
    store = services.store
    best = _best(services, workload_id, target_id)
    (line,) = store.best_lines(workload_id=workload_id, target_id=target_id, limit=1)
    try:
        record = store.record(best.record_id)
    except NotFoundError:
        # Records may be pruned; the best stays.
        record = None
    found = curves.history(store.final_lines(workload_id, target_id, limit=_MOST_FINALS))
    return render(
        request,
        "best.html",
        now=store.now(),
        best=best,
        line=line,
        record=record,
        workload=store.workload(workload_id),
        target=store.target(target_id),
        history=pictures.history(found),
        worker=_worker_name(services, record.worker_id if record else None),
        server=str(request.base_url).rstrip("/"),
    )


@router.get("/program")
def show_program(request: Request, workload_id: Id, target_id: Id, services: Context) -> Response:
    """Show the scheduled program and its code, as a part of the page."""
    program = _program(services, workload_id, target_id)
    return render(request, "_program.html", program=program, path=request.url.path)


@router.get("/{file}")
def download(
    workload_id: Id,
    target_id: Id,
    file: Literal["best.json", "schedule.py", "code.txt"],
    services: Context,
) -> Response:
    """Give the best as the API does, its TVMScript, or its generated code."""
    if file == "best.json":
        view = convert.best_to_wire(_best(services, workload_id, target_id))
        text, kind = view.model_dump_json(indent=1), "application/json"
    else:
        program = _program(services, workload_id, target_id)
        text = program.script if file == "schedule.py" else program.code or program.problem or ""
        kind = "text/plain"
    name = f"{workload_id[:12]}-{file}"
    return Response(
        text, media_type=kind, headers={"Content-Disposition": f'attachment; filename="{name}"'}
    )


def _program(services: Services, workload_id: str, target_id: str) -> Program:
    best = _best(services, workload_id, target_id)
    return services.programs.program(
        services.store.workload(workload_id), services.store.target(target_id), best.trace
    )


def _best(services: Services, workload_id: str, target_id: str) -> Best:
    best = services.store.best(workload_id, target_id)
    if best is None:
        raise NotFoundError("no best is known for this workload on this target")
    return best


def _worker_name(services: Services, worker_id: str | None) -> str | None:
    if worker_id is None:
        return None
    try:
        return services.store.worker(worker_id).name
    except NotFoundError:
        return worker_id
