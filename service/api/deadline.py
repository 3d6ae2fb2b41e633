"""The best that can be had within a time: a job is started, and waited for."""

import time

from starlette.concurrency import run_in_threadpool

from schedules.records import Best
from schedules.target import Target
from service.api.context import Services
from service.api.submission import submit_job
from service.api.views import live_target_ids
from service.db.values import Job
from tuner.client import convert, wire

TRIALS = 64
"""Budget of a job that somebody waits for: it goes on when the time is over."""


def may_be_told(services: Services, request: wire.BestRequest, target: Target) -> bool:
    """Whether there may be a prediction; what is sent as a program was resolved to look it up."""
    if isinstance(request.workload, wire.IrWorkload):
        return True
    return services.answers.can_tell(convert.operator_call(request.workload), target)


async def tuned_in_time(
    services: Services, request: wire.BestRequest, deadline_secs: float, submitter: str
) -> Best | None:
    """Tune a workload, and return its best if there is one when the time is over.

    Nothing is started where no worker could measure.
    """
    ends_at = time.monotonic() + deadline_secs
    job = await run_in_threadpool(_submit, services, request, submitter)
    if job is None:
        return None
    ids = (job.spec.workload_id, job.spec.target_id)
    with services.events.watch_job(job.job_id) as waiter:
        while True:
            best = await run_in_threadpool(services.store.best, *ids)
            state = (await run_in_threadpool(services.store.job, job.job_id)).state
            left_secs = ends_at - time.monotonic()
            if best is not None or not state.active or left_secs <= 0 or services.events.closed:
                return best
            await waiter.wait(min(left_secs, services.settings.poll_secs))


def _submit(services: Services, request: wire.BestRequest, submitter: str) -> Job | None:
    target = services.resolver.target(request.target)
    if target.target_id not in live_target_ids(services.store):
        return None
    wanted = wire.JobRequest(
        workload=request.workload, target=request.target, budget=wire.Budget(trials=TRIALS)
    )
    job, _ = submit_job(services, wanted, submitter)
    return job
