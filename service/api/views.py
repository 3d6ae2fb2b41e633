"""Writing the store's own values; those of `schedules` are written by `tuner.client.convert`."""

from collections.abc import Iterable, Sequence

from cost_model.versions import ModelVersion
from schedules.operators import Operator
from schedules.records import Best, TuningRecord
from schedules.target import Target
from schedules.workload import Workload
from service.db.histogram import RELATIVE_ERROR
from service.db.model_values import ModelOrder, OrderState
from service.db.store import Store
from service.db.summary_values import GroupBy, Summary
from service.db.values import Check, Job, JobState, Lease, SharedBudget, Worker
from tuner.client import convert, wire


def job_view(
    job: Job, best: Best | None, live_targets: Iterable[str], *, attached: bool = False
) -> wire.JobView:
    """Write a job.

    Parameters
    ----------
    job : Job
        The job.
    best : Best or None
        The published best of its workload and target.
    live_targets : iterable of str
        Ids of the targets that workers serve now.
    attached : bool
        Whether a request joined a job that was there before.
    """
    spec, waiting_for = job.spec, None
    if job.state.active and spec.target_id not in live_targets:
        waiting_for = (
            "a worker of this target; start one on such a machine with "
            "`tunesmith worker --server URL`, and see `tunesmith workers`"
        )
    elif job.state is JobState.QUEUED:
        waiting_for = "its turn"
    return wire.JobView(
        id=job.job_id,
        state=job.state.value,
        workload_id=spec.workload_id,
        target_id=spec.target_id,
        attached=attached,
        trials_done=job.trials_done,
        trials_budget=spec.trials,
        seconds_budget=spec.seconds,
        least_gain=spec.least_gain,
        priority=spec.priority,
        space=spec.space,
        failures=dict(job.failures),
        best=convert.best_to_wire(best) if best else None,
        error=job.error,
        waiting_for=waiting_for,
        created_at=job.created_at,
        finished_at=job.finished_at,
        budget_id=spec.budget_id,
        weight=spec.weight,
    )


def current_job_view(store: Store, job: Job, *, attached: bool = False) -> wire.JobView:
    """Write a job with what the database knows about it now."""
    best = store.best(job.spec.workload_id, job.spec.target_id)
    live = live_target_ids(store) if job.state.active else ()
    return job_view(job, best, live, attached=attached)


def current_job_views(store: Store, jobs: Sequence[Job]) -> list[wire.JobView]:
    """Write several jobs as `current_job_view` does, with one look at the bests of all."""
    live = live_target_ids(store) if any(job.state.active for job in jobs) else ()
    bests = store.bests_of({(job.spec.workload_id, job.spec.target_id) for job in jobs})
    return [
        job_view(job, bests.get((job.spec.workload_id, job.spec.target_id)), live) for job in jobs
    ]


def shared_budget_view(store: Store, shared: SharedBudget) -> wire.SharedBudgetView:
    """Write a budget with its jobs and their bests."""
    return wire.SharedBudgetView(
        id=shared.budget_id,
        state=shared.state.value,
        trials_done=shared.trials_done,
        trials_budget=shared.trials,
        seconds_budget=shared.seconds,
        jobs=current_job_views(store, shared.jobs),
        created_at=shared.created_at,
    )


def live_target_ids(store: Store) -> frozenset[str]:
    """Return the ids of the targets for which something can be measured now."""
    return frozenset(store.measuring_workers())


def trial_view(record: TuningRecord) -> wire.TrialView:
    """Write what a ``trial`` event tells of a record."""
    failure = record.result.failure
    return wire.TrialView(
        record_id=record.record_id,
        worker_id=record.worker_id,
        purpose=record.purpose,
        origin=record.candidate.origin,
        latency_secs=record.result.latency_secs,
        censored_secs=record.result.censored_secs,
        failure=failure.kind if failure else None,
        created_at=record.created_at,
    )


def worker_view(worker: Worker) -> wire.WorkerView:
    """Write a worker."""
    return wire.WorkerView(
        worker_id=worker.worker_id,
        name=worker.name,
        target_id=worker.target.target_id,
        target=worker.target.as_dict(),
        environment=dict(worker.environment.facts),
        state=worker.state.value,
        quarantined=worker.quarantined,
        last_seen_at=worker.last_seen_at,
        registered_at=worker.registered_at,
    )


def check_view(check: Check) -> wire.CheckView:
    """Write a sign of a worker's health."""
    return wire.CheckView(
        check_id=check.check_id,
        worker_id=check.worker_id,
        kind=check.kind.value,
        passed=check.passed,
        problem=check.problem,
        latency_secs=check.latency_secs,
        spread=check.spread,
        baseline_secs=check.baseline_secs,
        checked_at=check.checked_at,
    )


def lease_answer(lease: Lease) -> wire.LeaseAnswer:
    """Write a lease."""
    return wire.LeaseAnswer(
        lease_id=lease.lease_id,
        epoch=lease.epoch,
        ttl_secs=lease.ttl_secs,
        job_id=lease.job_id,
        workload=convert.workload_to_wire(lease.workload),
        target=lease.target.as_dict(),
        purpose=lease.purpose,
        incumbent_secs=lease.incumbent_secs,
        items=[
            wire.LeaseItem(
                item_id=item.item_id, candidate=convert.candidate_to_wire(item.candidate)
            )
            for item in lease.items
        ],
    )


def summary_view(group_by: GroupBy, summary: Summary) -> wire.SummaryView:
    """Write a summary of records."""
    return wire.SummaryView(
        group_by=group_by.value,
        groups=[
            wire.GroupView(
                key=group.key,
                records=group.records,
                measured=group.measured,
                censored=group.censored,
                failures=dict(group.failures),
                latency_secs=group.latency_secs and wire.QuantilesView(**group.latency_secs),
            )
            for group in summary.groups
        ],
        left_out=summary.left_out,
        relative_error=RELATIVE_ERROR,
        source="counters" if summary.counted else "records",
        complete=summary.complete,
    )


def model_view(version: ModelVersion, promoted: str | None) -> wire.ModelView:
    """Write a version of the cost model; `promoted` is the one in use."""
    return wire.ModelView(
        version=version.version,
        promoted=version.version == promoted,
        metrics=dict(version.metrics),
        created_at=version.created_at,
        parent=version.parent,
        feature_version=version.feature_version,
        code_version=version.code_version,
        trained_on=wire.TrainedOnView(**version.trained_on.as_dict()),
    )


def order_view(store: Store, order: ModelOrder) -> wire.OrderView:
    """Write an order for the cost model with what holds it up."""
    waiting_for = None
    if order.state is OrderState.OPEN:
        waiting_for = "the learner"
        if any(store.count_active_jobs().values()):
            waiting_for = "the learner, which lets jobs go first on a machine that also measures"
    return wire.OrderView(
        id=order.order_id,
        kind=order.kind.value,
        state=order.state.value,
        result=None if order.result is None else dict(order.result),
        error=order.error,
        waiting_for=waiting_for,
        created_at=order.created_at,
        finished_at=order.finished_at,
    )


def target_view(target: Target) -> wire.TargetView:
    """Write a target."""
    return wire.TargetView(target_id=target.target_id, target=target.as_dict())


def workload_summary(workload: Workload) -> wire.WorkloadView:
    """Write a workload without its IR."""
    view = convert.workload_to_wire(workload)
    return wire.WorkloadView.model_validate(view.model_dump(exclude={"ir"}))


def operator_view(operator: Operator) -> wire.OperatorView:
    """Write an operator of the catalogue."""
    return wire.OperatorView(
        name=operator.name,
        aliases=list(operator.aliases),
        summary=operator.summary,
        arguments=[
            wire.ArgumentView(
                name=argument.name,
                default=argument.default,
                minimum=argument.minimum,
                maximum=argument.maximum,
                aliases=list(argument.aliases),
                doc=argument.doc,
            )
            for argument in operator.arguments
        ],
        dtypes=list(operator.dtypes),
    )
