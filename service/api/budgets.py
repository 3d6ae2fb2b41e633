"""``/v1/budgets``: tuning several workloads with one budget."""

import logging
from typing import Annotated

from fastapi import APIRouter, Header, Response

from service.api.context import READ, SUBMIT, Context, Id
from service.api.submission import share_budget
from service.api.views import shared_budget_view
from tuner.client import wire

logger = logging.getLogger(__name__)

router = APIRouter(prefix="/v1/budgets", tags=["jobs"])


@router.post(
    "",
    status_code=201,
    response_model=wire.SharedBudgetView,
    responses={
        200: {"model": wire.SharedBudgetView, "description": "The key was used before: that one."}
    },
)
def share(
    request: wire.SharedBudgetRequest,
    services: Context,
    response: Response,
    submitter: Annotated[str, SUBMIT],
    idempotency_key: Annotated[str | None, Header(min_length=1, max_length=200)] = None,
) -> wire.SharedBudgetView:
    """Submit a job for each of several workloads, which share one budget.

    Trials go where they are expected to save most: the weight of a workload, times its latency,
    times the share of it that its next batch is expected to take off.
    """
    shared, created = share_budget(services, request, submitter, idempotency_key=idempotency_key)
    response.status_code = 201 if created else 200
    response.headers["Location"] = f"{router.prefix}/{shared.budget_id}"
    return shared_budget_view(services.store, shared)


@router.get("/{budget_id}", response_model=wire.SharedBudgetView, dependencies=[READ])
def get_budget(budget_id: Id, services: Context) -> wire.SharedBudgetView:
    """Show a shared budget and its jobs."""
    return shared_budget_view(services.store, services.store.shared_budget(budget_id))


@router.post("/{budget_id}/cancel", response_model=wire.SharedBudgetView, dependencies=[SUBMIT])
def cancel(budget_id: Id, services: Context) -> wire.SharedBudgetView:
    """Cancel the jobs of a shared budget; those that have ended stay as they are."""
    shared = services.store.cancel_shared(budget_id)
    logger.info(
        "The jobs of budget %s are cancelled",
        budget_id,
        extra={"action": "cancel_budget", "budget_id": budget_id},
    )
    for job in shared.jobs:
        services.events.job_changed(job.job_id)
    return shared_budget_view(services.store, shared)
