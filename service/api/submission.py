"""Making a job of a request, for all endpoints that start one."""

import logging
from dataclasses import replace

from schedules.errors import InputError
from schedules.space import SPACES
from service.api.context import Services
from service.db.values import Job, JobSpec, SharedBudget
from tuner.client import wire

logger = logging.getLogger(__name__)


def submit_job(
    services: Services,
    request: wire.JobRequest,
    submitter: str,
    *,
    idempotency_key: str | None = None,
) -> tuple[Job, bool]:
    """Submit a job, or join the active one that asks for the same.

    Returns
    -------
    job : Job
    created : bool
        False if the job was there before.

    Raises
    ------
    InputError
        The budget has no bound, or the space, workload or target is no good.
    Refusal
        There is no room for another job.
    """
    spec = _spec(request, services, submitter)
    job, created = services.store.submit_job(spec, idempotency_key=idempotency_key)
    _tell(services, job, created=created)
    return job, created


def share_budget(
    services: Services,
    request: wire.SharedBudgetRequest,
    submitter: str,
    *,
    idempotency_key: str | None = None,
) -> tuple[SharedBudget, bool]:
    """Submit jobs that share a budget; a workload that is named twice is one, with both weights.

    Returns
    -------
    budget : SharedBudget
    created : bool
        False if the key was used before.

    Raises
    ------
    InputError, Refusal
        As in `submit_job`; a task that is no good is named by its place.
    """
    specs: dict[str, JobSpec] = {}
    for place, task in enumerate(request.tasks):
        one = wire.JobRequest(
            workload=task.workload,
            target=request.target,
            budget=request.budget,
            priority=request.priority,
            space=request.space,
            seed=request.seed,
        )
        try:
            spec = _spec(one, services, submitter)
        except InputError as error:
            raise type(error)(f"tasks[{place}]: {error}") from None
        known = specs.get(spec.workload_id)
        weight = task.weight + (known.weight if known else 0.0)
        specs[spec.workload_id] = replace(spec, weight=weight)
    shared, created = services.store.share_budget(
        list(specs.values()), idempotency_key=idempotency_key
    )
    for job in shared.jobs:
        _tell(services, job, created=created)
    return shared, created


def _tell(services: Services, job: Job, *, created: bool) -> None:
    if created:
        services.load.job_added()
        services.metrics.jobs_submitted.inc()
        logger.info(
            "Job %s is submitted",
            job.job_id,
            extra={"action": "submit_job", "job_id": job.job_id},
        )
    services.events.job_changed(job.job_id)


def _spec(request: wire.JobRequest, services: Services, submitter: str) -> JobSpec:
    """Check a request and store what its job refers to."""
    if request.budget.trials is None and request.budget.seconds is None:
        raise InputError("a budget needs 'trials', 'seconds' or both")
    if request.space not in SPACES:
        raise InputError(f"space {request.space!r} is unknown; use one of {', '.join(SPACES)}")
    services.load.check_room()
    target = services.resolver.target(request.target)
    workload = services.resolver.workload(request.workload)
    services.store.save_target(target)
    services.store.save_workload(workload)
    return JobSpec(
        workload_id=workload.workload_id,
        target_id=target.target_id,
        trials=request.budget.trials,
        seconds=request.budget.seconds,
        least_gain=request.budget.least_gain,
        priority=request.priority,
        space=request.space,
        seed=request.seed,
        submitter=submitter,
    )
