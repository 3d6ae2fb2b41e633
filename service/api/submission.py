"""Making a job of a request, for all endpoints that start one."""

import logging

from schedules.errors import InputError
from schedules.space import SPACES
from service.api.context import Services
from service.db.values import Job, JobSpec
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
    if created:
        services.load.job_added()
        services.metrics.jobs_submitted.inc()
        logger.info(
            "Job %s is submitted",
            job.job_id,
            extra={"action": "submit_job", "job_id": job.job_id},
        )
    services.events.job_changed(job.job_id)
    return job, created


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
