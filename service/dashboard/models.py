"""``/models``: versions of the cost model, and how well they order what they have not seen."""

from dataclasses import dataclass
from datetime import datetime

from fastapi import APIRouter, Request, Response

from service.api.context import Context
from service.api.views import model_view
from service.dashboard.curves import agreement
from service.dashboard.html import PageRoute, render
from service.dashboard.session import SIGNED_IN
from service.db.lines import ScoreLine
from tuner.client import wire

_NEWEST = 5000
"""How many of the newest records are looked through for predictions."""
_SHOWN = 20
"""How many of the newest versions are shown."""

router = APIRouter(route_class=PageRoute, include_in_schema=False, dependencies=[SIGNED_IN])


@dataclass(frozen=True, kw_only=True)
class Used:
    """A version that ranked candidates lately: the share of pairs it put in the right order."""

    version: str
    trials: int
    tasks: int
    agreement: float | None
    seen_at: datetime


@dataclass(frozen=True, kw_only=True)
class Judged:
    """What the judge of a version achieved on what was held out in one way."""

    version: str
    gate: str
    metrics: dict[str, float]


@router.get("/models")
def show_models(request: Request, services: Context) -> Response:
    """Show the versions that are kept, and those that searches used lately."""
    store = services.store
    promoted = store.promoted_model()
    kept = store.model_versions(limit=_SHOWN, cursor=None).items
    versions = [model_view(version, promoted) for version in kept]
    return render(
        request,
        "models.html",
        now=store.now(),
        versions=versions,
        judged=[row for version in versions for row in _judged(version)],
        used=_used(store.score_lines(newest=_NEWEST)),
        newest=_NEWEST,
    )


def _judged(version: wire.ModelView) -> list[Judged]:
    """Sort the metrics of a version, which are named ``<gate>.<metric>``, by gate."""
    by_gate: dict[str, dict[str, float]] = {}
    for name, value in version.metrics.items():
        gate, _, metric = name.partition(".")
        by_gate.setdefault(gate, {})[metric] = value
    return [
        Judged(version=version.version, gate=gate, metrics=metrics)
        for gate, metrics in by_gate.items()
    ]


def _used(lines: tuple[ScoreLine, ...]) -> list[Used]:
    by_version: dict[str, dict[tuple[str, str], list[ScoreLine]]] = {}
    for line in lines:
        tasks = by_version.setdefault(line.model_version, {})
        tasks.setdefault((line.workload_id, line.target_id), []).append(line)
    used = []
    for version, tasks in by_version.items():
        # Only trials of one task can be compared.
        shares = [
            agreement([one.predicted_score for one in task], [one.latency_secs for one in task])
            for task in tasks.values()
        ]
        defined = [share for share in shares if share is not None]
        used.append(
            Used(
                version=version,
                trials=sum(map(len, tasks.values())),
                tasks=len(tasks),
                agreement=sum(defined) / len(defined) if defined else None,
                seen_at=max(one.created_at for task in tasks.values() for one in task),
            )
        )
    return sorted(used, key=lambda one: one.seen_at, reverse=True)
