"""``/budgets``: what several jobs spend together."""

from fastapi import APIRouter, Request, Response

from service.api.context import Context, Id
from service.dashboard.html import PageRoute, render
from service.dashboard.session import SIGNED_IN
from service.db.queries import JobQuery

router = APIRouter(
    prefix="/budgets", route_class=PageRoute, include_in_schema=False, dependencies=[SIGNED_IN]
)


@router.get("/{budget_id}")
def show_budget(request: Request, budget_id: Id, services: Context) -> Response:
    """Show a shared budget, and where it goes."""
    store = services.store
    shared = store.shared_budget(budget_id)
    lines = store.job_lines(JobQuery(budget_id=budget_id), limit=len(shared.jobs))
    return render(
        request,
        "budget.html",
        now=store.now(),
        shared=shared,
        lines={line.job_id: line for line in lines},
        target=store.target(shared.jobs[0].spec.target_id),
    )
