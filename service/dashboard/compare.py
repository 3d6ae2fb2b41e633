"""``/compare``: two jobs, two targets, or two environments side by side."""

from typing import Annotated, Any, Literal

from fastapi import APIRouter, Query, Request, Response

from service.api.context import Context, Services
from service.dashboard import figures, pictures
from service.dashboard.curves import improvements
from service.dashboard.html import PageRoute, render
from service.dashboard.jobs import line_of, trials_of
from service.dashboard.session import SIGNED_IN
from service.db.queries import JobQuery

Kind = Literal["jobs", "targets", "environments"]
_CHOICES = 100
_MOST_BESTS = 5000
_NEWEST = 20_000
"""So many of a worker's newest records are looked through for its fastest trials."""

router = APIRouter(route_class=PageRoute, include_in_schema=False, dependencies=[SIGNED_IN])

Side = Annotated[str, Query(max_length=200)]


@router.get("/compare")
def compare(
    request: Request, services: Context, kind: Kind = "jobs", a: Side = "", b: Side = ""
) -> Response:
    """Compare what two addresses of one kind stand for; without them, ask for them."""
    found: dict[str, Any] = {}
    if a and b:
        found = {"jobs": _jobs, "targets": _targets, "environments": _environments}[kind](
            services, a, b
        )
    return render(
        request, "compare.html", kind=kind, a=a, b=b, choices=_choices(services, kind), **found
    )


def _choices(services: Services, kind: Kind) -> list[tuple[str, str]]:
    store = services.store
    if kind == "jobs":
        jobs = store.job_lines(JobQuery(), limit=_CHOICES)
        return [(job.job_id, f"{figures.short(job.job_id)} {job.name}") for job in jobs]
    if kind == "targets":
        targets = store.targets_by_id().items()
        return [(target_id, figures.target_name(target)) for target_id, target in targets]
    workers = store.workers(limit=_CHOICES, cursor=None).items
    return [(worker.worker_id, worker.name) for worker in workers]


def _jobs(services: Services, a: str, b: str) -> dict[str, Any]:
    jobs = [services.store.job(job_id) for job_id in (a, b)]
    trials = [trials_of(services, job) for job in jobs]
    lines = [line_of(services, job) for job in jobs]
    names = [f"{side}: {line.name}" for side, line in zip("AB", lines, strict=True)]
    curves = [improvements(side) for side in trials]
    return {
        "chart": pictures.overlay(list(zip(names, trials, strict=True))),
        "sides": [
            {"job": job, "line": line, "trials": side, "curve": curve}
            for job, line, side, curve in zip(jobs, lines, trials, curves, strict=True)
        ],
        "targets": services.store.targets_by_id(),
    }


def _targets(services: Services, a: str, b: str) -> dict[str, Any]:
    store = services.store
    left, right = (
        {best.workload_id: best for best in store.best_lines(target_id=side, limit=_MOST_BESTS)}
        for side in (a, b)
    )
    both = sorted(left.keys() & right.keys(), key=lambda workload_id: left[workload_id].name)
    return {
        "sides": [store.target(a), store.target(b)],
        "rows": [(left[one].name, one, left[one], right[one]) for one in both],
        "only": (len(left) - len(both), len(right) - len(both)),
    }


def _environments(services: Services, a: str, b: str) -> dict[str, Any]:
    store = services.store
    workers = [store.worker(worker_id) for worker_id in (a, b)]
    facts = [dict(worker.environment.facts) for worker in workers]
    left, right = (
        {(one.workload_id, one.target_id): one for one in store.fastest_lines(side, newest=_NEWEST)}
        for side in (a, b)
    )
    both = sorted(left.keys() & right.keys(), key=lambda key: left[key].name)
    return {
        "sides": workers,
        "facts": [
            (name, facts[0].get(name, figures.NOTHING), facts[1].get(name, figures.NOTHING))
            for name in sorted(facts[0].keys() | facts[1].keys())
        ],
        "rows": [(left[key].name, key[0], left[key], right[key]) for key in both],
        "newest": _NEWEST,
    }
