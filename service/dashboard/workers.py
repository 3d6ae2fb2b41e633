"""``/workers``: who measures, how busy, and how healthy."""

from collections import Counter
from datetime import timedelta

from fastapi import APIRouter, Request, Response

from service.api.context import Context, Id
from service.dashboard import pictures
from service.dashboard.html import PageRoute, render
from service.dashboard.session import SIGNED_IN
from service.db.lines import ActivityLine

HOUR_MINUTES = 60
_MOST_WORKERS = 1000
_MOST_CHECKS = 300

router = APIRouter(
    prefix="/workers", route_class=PageRoute, include_in_schema=False, dependencies=[SIGNED_IN]
)


class Hour:
    """What a worker did in the last hour.

    Attributes
    ----------
    records, failed : int
        How many trials it reported, and how many of them failed.
    failures : Counter of str
        Those by kind.
    utilisation : float
        The share of minutes in which it reported something, from 0 to 1.
    """

    def __init__(self, lines: list[ActivityLine]) -> None:
        self.records = sum(line.records for line in lines)
        self.failures = Counter[str]()
        for line in lines:
            if line.failure is not None:
                self.failures[line.failure] += line.records
        self.failed = self.failures.total()
        self.utilisation = min(1.0, len({line.minute for line in lines}) / HOUR_MINUTES)


@router.get("")
def list_workers(request: Request, services: Context) -> Response:
    """List workers with what they did in the last hour."""
    store = services.store
    now = store.now()
    by_worker: dict[str | None, list[ActivityLine]] = {}
    for line in store.activity(since=now - timedelta(minutes=HOUR_MINUTES)):
        by_worker.setdefault(line.worker_id, []).append(line)
    workers = store.workers(limit=_MOST_WORKERS, cursor=None).items
    return render(
        request,
        "workers.html",
        now=now,
        lines=[(worker, Hour(by_worker.get(worker.worker_id, []))) for worker in workers],
        jobs=store.leased_jobs(),
    )


@router.get("/{worker_id}")
def show_worker(request: Request, worker_id: Id, services: Context) -> Response:
    """Show a worker: its health over time, its failures, and its machine."""
    store = services.store
    worker = store.worker(worker_id)
    now = store.now()
    since = now - timedelta(minutes=HOUR_MINUTES)
    lines = store.activity(since=since, worker_id=worker_id)
    checks = store.checks(worker_id, limit=_MOST_CHECKS, cursor=None).items
    return render(
        request,
        "worker.html",
        now=now,
        worker=worker,
        hour=Hour(list(lines)),
        activity=pictures.activity(lines, int(now.timestamp()) // 60),
        drift=pictures.drift(checks),
        checks=checks[:20],
        job_id=store.leased_jobs().get(worker_id),
    )
